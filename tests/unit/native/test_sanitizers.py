# SPDX-License-Identifier: Apache-2.0
"""The C core and the devices' C, built with AddressSanitizer and UBSan, under the same tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
MINE = Path(__file__).resolve()

PARTS = ("qdevpy", "machine", "plugins", "tests/parts", "tests/qtest", "tests/unit/native")
#: where Python finds the packages, as in pyproject.toml
ROOTS = (".", "machine", "plugins/virtio_blk", "plugins/virtio_net", "plugins/virtio_console")

pytestmark = pytest.mark.slow


def runtime_library() -> str | None:
    """The sanitizer's library, to be there before Python; None where the compiler has none."""
    found = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout.strip()
    return os.path.realpath(found) if "/" in found else None


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, its C built with sanitizers; the working tree's own modules stay as they are."""
    tree = tmp_path_factory.mktemp("sanitized")
    unwanted = shutil.ignore_patterns("*.so", "*.o", "__pycache__", "_core.c", "_native.c", "build", MINE.name)
    for name in PARTS:
        shutil.copytree(ROOT / name, tree / name, ignore=unwanted)
    for name in ("pyproject.toml", "setup.py", "README.md"):
        shutil.copy(ROOT / name, tree)
    run(tree, [sys.executable, "setup.py", "-q", "build_ext", "--inplace"], QDEVPY_SANITIZE="1")
    return tree


def run(tree: Path, command: list[str], **more: str) -> str:
    """Run in the copy, which Python prefers to what is installed; the output."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE", "COV_", "PYTEST"))}
    env |= {"PYTHONPATH": os.pathsep.join(str(tree / root) for root in ROOTS), "PYTHONDONTWRITEBYTECODE": "1"} | more
    done = subprocess.run(command, cwd=tree, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


def sanitized(tree: Path, command: list[str]) -> str:
    """Run with the sanitizer's library loaded first."""
    library = runtime_library()
    if library is None:
        pytest.skip("gcc has no libasan here; install libgcc-12-dev or its like")
    options = "detect_leaks=0:abort_on_error=1:handle_segv=1"  # Python never frees all it has
    return run(tree, command, LD_PRELOAD=library, ASAN_OPTIONS=options, UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1")


@pytest.mark.parametrize("tests", ["tests/unit/native", "tests/qtest"])
def test_core_and_device_tests_pass_under_sanitizers(tree: Path, tests: str) -> None:
    output = sanitized(tree, [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests])
    assert " passed" in output


def test_sanitizers_are_awake(tree: Path) -> None:
    """A queue used after its device was freed ends the process; else the test above would show nothing."""
    program = (
        "from qdevpy.native.core import lib; from qdevpy.native.memory import GuestMemory; from qdevpy.native.vdev import VDev\n"
        "vdev = VDev(GuestMemory()); queue = vdev.add_queue(); vdev.close(); lib.qd_vq_forget(queue)"
    )
    with pytest.raises(AssertionError, match="heap-use-after-free"):
        sanitized(tree, [sys.executable, "-c", program])
