# SPDX-License-Identifier: Apache-2.0
"""Instructions that virtio-blk spends on a request without the host's storage, held against budgets; see blk_cost.c."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SOURCES = ROOT / "plugins/virtio_blk/csrc"
INCLUDE = ROOT / "qdevpy/native/include"
#: as the device is compiled, without liburing, which engine null does not use
FLAGS = ("-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{INCLUDE}", f"-I{SOURCES}")
REQUESTS = 4096

#: (where on the disk, requests a batch): instructions a request; measured with gcc 12 and rounded up by a twentieth,
#: which is what compilers differ in. Whoever makes it cheaper lowers the number.
BUDGETS = {
    ("scattered", 1): 977,
    ("scattered", 32): 790,
    ("adjacent", 32): 781,
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for tool in ("gcc", "valgrind"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} here; install Debian's package of that name")
    program = tmp_path_factory.mktemp("blk_cost") / "blk_cost"
    sources = [str(path) for path in sorted(SOURCES.glob("*.c"))]
    subprocess.run(["gcc", *FLAGS, "-o", str(program), str(HERE / "blk_cost.c"), *sources], check=True)
    return program


def count(program: Path, place: str, batch: int) -> float:
    """Instructions a request."""
    callgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=kick"]
    done = subprocess.run([*callgrind, str(program), place, str(batch)], capture_output=True, text=True, check=False)
    merged = REQUESTS - REQUESTS // batch if place == "adjacent" else 0
    expected = f"requests {REQUESTS} bytes {REQUESTS * 4096} merged {merged} interrupts {REQUESTS // batch}\n"
    assert done.stdout == expected, done.stderr
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found, done.stderr
    return int(found[1]) / REQUESTS


@pytest.mark.parametrize(("place", "batch"), BUDGETS)
def test_request_costs_the_device_no_more_than_its_budget(
    program: Path, place: str, batch: int, capsys: pytest.CaptureFixture[str]
) -> None:
    found, budget = count(program, place, batch), BUDGETS[place, batch]
    with capsys.disabled():
        print(f"\n{place} reads, {batch} a batch: {found:.0f} instructions a request, budget {budget}")
    assert 0 < found <= budget
