# SPDX-License-Identifier: Apache-2.0
"""Instructions and system calls that virtio-net spends on a frame, counted and held against budgets; see net_cost.c."""

from __future__ import annotations

from pathlib import Path

import pytest
from callgrind import ROOT, CountedProgram

HERE = Path(__file__).resolve().parent
SOURCES = ROOT / "plugins/virtio_net/qdevpy_virtio_net/csrc"
FRAMES = 4096

#: (direction, host, frames a batch): instructions a frame of 64 bytes, the system calls themselves left out; measured with
#: gcc 12 and rounded up by a twentieth, which is what compilers differ in. Whoever makes it cheaper lowers the number.
BUDGETS = {
    ("send", "tap", 1): 783,
    ("send", "tap", 32): 406,
    ("send", "dgram", 1): 873,
    ("send", "dgram", 32): 395,
    ("send", "stream", 1): 872,
    ("send", "stream", 32): 410,
    ("receive", "tap", 1): 1517,
    ("receive", "tap", 32): 828,
    ("receive", "dgram", 1): 1513,
    ("receive", "dgram", 32): 673,
    ("receive", "stream", 1): 968,
    ("receive", "stream", 32): 623,
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> CountedProgram:
    target = tmp_path_factory.mktemp("net_cost") / "net_cost"
    return CountedProgram(target, [HERE / "net_cost.c", *sorted(SOURCES.glob("*.c"))], "serve", SOURCES)


def calls(direction: str, host: str, batch: int) -> int:
    """System calls of the whole run: one a batch; a tap takes and gives frames one by one, and nothing in the end."""
    batches = FRAMES // batch
    return batches if host != "tap" else FRAMES if direction == "send" else FRAMES + batches


def count(program: CountedProgram, direction: str, host: str, batch: int) -> float:
    """Instructions a frame."""
    prints = f"frames {FRAMES} calls {calls(direction, host, batch)} interrupts {FRAMES // batch}"
    return program.count(direction, host, str(batch), prints=prints) / FRAMES


@pytest.mark.parametrize(("direction", "host", "batch"), BUDGETS)
def test_frame_costs_the_card_no_more_than_its_budget(
    program: CountedProgram, direction: str, host: str, batch: int, capsys: pytest.CaptureFixture[str]
) -> None:
    found, budget = count(program, direction, host, batch), BUDGETS[direction, host, batch]
    with capsys.disabled():
        print(f"\n{direction}, {host}, {batch} a batch: {found:.0f} instructions a frame, budget {budget}")
    assert found <= budget
