# SPDX-License-Identifier: Apache-2.0
"""Instructions that the ring code spends on a request, counted by callgrind and held against budgets; see ring_cost.c."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
INCLUDE = HERE.parents[1] / "qdevpy/native/include"
#: as the core and its devices are compiled
FLAGS = ("-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{INCLUDE}")
REQUESTS = 4096

#: (form, descriptors, requests a batch): instructions a request of three buffers; measured with gcc 12 and rounded up by
#: a twentieth, which is what compilers differ in. Whoever makes it cheaper lowers the number.
BUDGETS = {
    ("split", "direct", 1): 329,
    ("split", "direct", 32): 205,
    ("split", "indirect", 1): 399,
    ("split", "indirect", 32): 275,
    ("packed", "direct", 1): 407,
    ("packed", "direct", 32): 250,
    ("packed", "indirect", 1): 409,
    ("packed", "indirect", 32): 252,
    ("in-order", "direct", 32): 254,
    ("packed-in-order", "direct", 32): 280,
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for tool in ("gcc", "valgrind"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} here; install Debian's package of that name")
    program = tmp_path_factory.mktemp("ring_cost") / "ring_cost"
    subprocess.run(["gcc", *FLAGS, "-o", str(program), str(HERE / "ring_cost.c")], check=True)
    return program


def count(program: Path, form: str, descriptors: str, batch: int) -> float:
    """Instructions a request."""
    callgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=serve"]
    command = [*callgrind, str(program), form, descriptors, str(batch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == f"requests {REQUESTS} interrupts {REQUESTS // batch} error none\n", done.stderr
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found, done.stderr
    return int(found[1]) / REQUESTS


@pytest.mark.parametrize(("form", "descriptors", "batch"), BUDGETS)
def test_request_costs_the_ring_no_more_than_its_budget(
    program: Path, form: str, descriptors: str, batch: int, capsys: pytest.CaptureFixture[str]
) -> None:
    found, budget = count(program, form, descriptors, batch), BUDGETS[form, descriptors, batch]
    with capsys.disabled():
        print(f"\n{form} ring, {descriptors}, {batch} a batch: {found:.0f} instructions a request, budget {budget}")
    assert found <= budget
