# SPDX-License-Identifier: Apache-2.0
"""Small C programs around the code that serves queues, and how many instructions it takes, as callgrind counts them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: as the core and its devices are compiled
FLAGS = ("-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{ROOT / 'qdevpy/native/include'}")


class CountedProgram:
    """A program of which the calls of one function are counted.

    :param target: where the program is made
    :param sources: C files
    :param function: what is counted, with all that it calls
    :param include: a folder of headers beside the core's
    """

    def __init__(self, target: Path, sources: Sequence[Path], function: str, include: Path | None = None) -> None:
        for tool in ("gcc", "valgrind"):
            if shutil.which(tool) is None:
                pytest.skip(f"no {tool} here; install Debian's package of that name")
        self.target = target
        self.function = function
        flags = [*FLAGS, *([] if include is None else [f"-I{include}"])]
        subprocess.run(["gcc", *flags, "-o", str(target), *map(str, sources)], check=True)

    def count(self, *arguments: str, prints: str) -> int:
        """Instructions of a run, which prints exactly PRINTS and a line's end."""
        callgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", f"--toggle-collect={self.function}"]
        done = subprocess.run([*callgrind, str(self.target), *arguments], capture_output=True, text=True, check=False)
        assert done.stdout == f"{prints}\n", done.stderr
        found = re.search(r"Collected : (\d+)", done.stderr)
        assert found, done.stderr
        assert int(found[1]) > 0
        return int(found[1])
