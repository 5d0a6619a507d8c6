# SPDX-License-Identifier: Apache-2.0
"""Instructions that the ring code spends on a request, counted by callgrind and held against budgets; see ring_cost.c."""

from __future__ import annotations

from pathlib import Path

import pytest
from callgrind import CountedProgram

HERE = Path(__file__).resolve().parent
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
def program(tmp_path_factory: pytest.TempPathFactory) -> CountedProgram:
    return CountedProgram(tmp_path_factory.mktemp("ring_cost") / "ring_cost", [HERE / "ring_cost.c"], "serve")


def count(program: CountedProgram, form: str, descriptors: str, batch: int) -> float:
    """Instructions a request."""
    prints = f"requests {REQUESTS} interrupts {REQUESTS // batch} error none"
    return program.count(form, descriptors, str(batch), prints=prints) / REQUESTS


@pytest.mark.parametrize(("form", "descriptors", "batch"), BUDGETS)
def test_request_costs_the_ring_no_more_than_its_budget(
    program: CountedProgram, form: str, descriptors: str, batch: int, capsys: pytest.CaptureFixture[str]
) -> None:
    found, budget = count(program, form, descriptors, batch), BUDGETS[form, descriptors, batch]
    with capsys.disabled():
        print(f"\n{form} ring, {descriptors}, {batch} a batch: {found:.0f} instructions a request, budget {budget}")
    assert found <= budget
