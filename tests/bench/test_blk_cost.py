# SPDX-License-Identifier: Apache-2.0
"""Instructions that virtio-blk spends on a request without the host's storage, held against budgets; see blk_cost.c."""

from __future__ import annotations

from pathlib import Path

import pytest
from callgrind import ROOT, CountedProgram

HERE = Path(__file__).resolve().parent
SOURCES = ROOT / "plugins/virtio_blk/csrc"
REQUESTS = 4096

#: (where on the disk, requests a batch): instructions a request; measured with gcc 12 and rounded up by a twentieth,
#: which is what compilers differ in. Whoever makes it cheaper lowers the number.
BUDGETS = {
    ("scattered", 1): 977,
    ("scattered", 32): 790,
    ("adjacent", 32): 781,
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> CountedProgram:
    # without liburing, which engine null does not use
    target = tmp_path_factory.mktemp("blk_cost") / "blk_cost"
    return CountedProgram(target, [HERE / "blk_cost.c", *sorted(SOURCES.glob("*.c"))], "kick", SOURCES)


def count(program: CountedProgram, place: str, batch: int) -> float:
    """Instructions a request."""
    merged = REQUESTS - REQUESTS // batch if place == "adjacent" else 0
    prints = f"requests {REQUESTS} bytes {REQUESTS * 4096} merged {merged} interrupts {REQUESTS // batch}"
    return program.count(place, str(batch), prints=prints) / REQUESTS


@pytest.mark.parametrize(("place", "batch"), BUDGETS)
def test_request_costs_the_device_no_more_than_its_budget(
    program: CountedProgram, place: str, batch: int, capsys: pytest.CaptureFixture[str]
) -> None:
    found, budget = count(program, place, batch), BUDGETS[place, batch]
    with capsys.disabled():
        print(f"\n{place} reads, {batch} a batch: {found:.0f} instructions a request, budget {budget}")
    assert found <= budget
