# SPDX-License-Identifier: Apache-2.0
"""The core with both native devices under ThreadSanitizer and a benchmark's load; see busy.c.

``QDEVPY_BUSY_SECONDS=60`` runs each engine so long, in place of a few seconds.
"""

from __future__ import annotations

import os
import re
import runpy
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NATIVE, BLK, NET = ROOT / "qdevpy/native", ROOT / "plugins/virtio_blk", ROOT / "plugins/virtio_net/qdevpy_virtio_net"
SECONDS = int(os.environ.get("QDEVPY_BUSY_SECONDS", "4"))
FLAGS = ("-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", "-fsanitize=thread", "-Wno-tsan")
ENGINES = {"threads": 0, "io_uring": 1, "native": 2}  # enum blk_aio

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program."""
    found = subprocess.run(["gcc", "-print-file-name=libtsan.so"], capture_output=True, text=True, check=True).stdout
    if "/" not in found:
        pytest.skip("gcc has no libtsan here; install libgcc-12-dev or its like")
    program = tmp_path_factory.mktemp("busy") / "busy"
    build = runpy.run_path(str(BLK / "build_blk.py"))
    uring = build["uring"]
    sources = [NATIVE / f"csrc/{name}.c" for name in ("fault", "intx", "loop", "poller", "pyqueue", "queue", "space", "tap")]
    sources += [BLK / f"csrc/{name}.c" for name in build["SOURCES"]] + sorted((NET / "csrc").glob("*.c"))
    includes = [f"-I{folder}" for folder in (NATIVE / "include", NATIVE / "csrc", BLK / "csrc", NET / "csrc")]
    words = ["gcc", *FLAGS, *(["-DBLK_HAVE_URING=1"] if uring else []), *includes, "-o", program, ROOT / "tests/stress/busy.c"]
    subprocess.run([str(word) for word in [*words, *sources, *(uring or [])]], check=True)
    return program


@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("engine", ENGINES)
def test_busy_devices_on_threads_that_change_do_not_race(busy: Path, engine: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(busy), str(SECONDS), str(ENGINES[engine]), str(tmp_path / "disk")],
        env=os.environ | {"TSAN_OPTIONS": "halt_on_error=1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS + 100,
        check=False,
    )
    if "unexpected memory mapping" in done.stdout:
        pytest.skip("ThreadSanitizer does not run with this kernel's address space layout")
    if done.returncode == 77:
        pytest.skip(f"{engine}: {done.stdout.strip()}")
    assert done.returncode == 0, done.stdout
    summary = re.search(r"(\d+) changes; requests (\d+) (\d+), frames (\d+) (\d+)", done.stdout)
    assert summary, done.stdout
    changes, *counts = map(int, summary.groups())
    assert changes > 16
    assert all(count > 100 for count in counts)
