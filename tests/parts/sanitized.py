# SPDX-License-Identifier: Apache-2.0
"""C modules built with AddressSanitizer and UBSan in a copy of the tree, and programs that run on them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def runtime_library() -> str | None:
    """The sanitizer's library, to be there before Python; None where the compiler has none."""
    found = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout.strip()
    return os.path.realpath(found) if "/" in found else None


class SanitizedTree:
    """A copy of parts of the tree, so that the working tree's own modules stay as they are.

    :param root: where to
    :param tests: files to copy into ``tests``
    :param builds: build scripts to run; a plugin's folder is copied with its script
    """

    def __init__(self, root: Path, tests: Sequence[Path], builds: Sequence[str]) -> None:
        self.root = root
        unwanted = shutil.ignore_patterns("*.so", "__pycache__", "_core.c", "_native.c")
        shutil.copytree(ROOT / "qdevpy", root / "qdevpy", ignore=unwanted)
        (root / "tests").mkdir()
        for path in tests:
            shutil.copy(path, root / "tests")
        shutil.copy(ROOT / "pyproject.toml", root)
        self.path = [root]
        for build in builds:
            folder = Path(build).parent
            if folder.parts[0] == "plugins":
                shutil.copytree(ROOT / folder, root / folder, ignore=unwanted)
                self.path.append(root / folder)
            self._run([sys.executable, build], QDEVPY_SANITIZE="1")
            for module in root.glob("qdevpy_*/*.so"):  # cffi builds below its working directory
                shutil.move(module, root / folder / module.parent.name)

    def _run(self, command: Sequence[str], **more: str) -> str:
        env = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE", "COV_", "PYTEST"))}
        env |= {"PYTHONPATH": os.pathsep.join(map(str, self.path)), "PYTHONDONTWRITEBYTECODE": "1"} | more
        done = subprocess.run(
            command, cwd=self.root, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def python(self, *arguments: str) -> str:
        """Run Python in the copy, which it prefers to what is installed, with the sanitizer loaded first; the output.

        An exit status other than 0 fails the test, with the output.
        """
        library = runtime_library()
        if library is None:
            pytest.skip("gcc has no libasan here; install libgcc-12-dev or its like")
        return self._run(
            [sys.executable, *arguments],
            LD_PRELOAD=library,
            ASAN_OPTIONS="detect_leaks=0:abort_on_error=1:handle_segv=1",  # Python never frees all it has
            UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1",
        )

    def pytest(self) -> str:
        """Run the copied tests; the output."""
        return self.python("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")
