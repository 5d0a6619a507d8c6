# SPDX-License-Identifier: Apache-2.0
"""Instructions and system calls that virtio-net spends on a frame, counted and held against budgets; see net_cost.c."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SOURCES = ROOT / "plugins/virtio_net/qdevpy_virtio_net/csrc"
INCLUDES = (f"-I{ROOT / 'qdevpy/native/include'}", f"-I{SOURCES}")
#: as the card is compiled
FLAGS = ("-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", *INCLUDES)
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
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for tool in ("gcc", "valgrind"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} here; install Debian's package of that name")
    program = tmp_path_factory.mktemp("net_cost") / "net_cost"
    sources = [HERE / "net_cost.c", *sorted(SOURCES.glob("*.c"))]
    subprocess.run(["gcc", *FLAGS, "-o", str(program), *map(str, sources)], check=True)
    return program


def calls(direction: str, host: str, batch: int) -> int:
    """System calls of the whole run: one a batch; a tap takes and gives frames one by one, and nothing in the end."""
    batches = FRAMES // batch
    return batches if host != "tap" else FRAMES if direction == "send" else FRAMES + batches


def count(program: Path, direction: str, host: str, batch: int) -> float:
    """Instructions a frame."""
    callgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=serve"]
    done = subprocess.run([*callgrind, str(program), direction, host, str(batch)], capture_output=True, text=True, check=False)
    assert done.stdout == f"frames {FRAMES} calls {calls(direction, host, batch)} interrupts {FRAMES // batch}\n", done.stderr
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found, done.stderr
    return int(found[1]) / FRAMES


@pytest.mark.parametrize(("direction", "host", "batch"), BUDGETS)
def test_frame_costs_the_card_no_more_than_its_budget(
    program: Path, direction: str, host: str, batch: int, capsys: pytest.CaptureFixture[str]
) -> None:
    found, budget = count(program, direction, host, batch), BUDGETS[direction, host, batch]
    with capsys.disabled():
        print(f"\n{direction}, {host}, {batch} a batch: {found:.0f} instructions a frame, budget {budget}")
    assert found <= budget
