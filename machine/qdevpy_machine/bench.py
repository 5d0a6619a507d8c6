# SPDX-License-Identifier: Apache-2.0
"""What ``qdevpy bench`` measures of KVM and of the machine as a whole."""

from __future__ import annotations

import platform
import sys

from qdevpy.bench.measurement import P50
from qdevpy.bench.program import Launch, Program
from qdevpy.bench.suite import Rig, Row, Suite, Target
from qdevpy_machine.bare import AWAITED, QUIET

BARE = "bare"


def _command(launch: Launch) -> list[str]:
    return [sys.executable, "-m", "qdevpy_machine.bare", str(launch.kernel), str(launch.serial)]


BARE_PROGRAM = Program(BARE, "bare KVM", platform.release(), _command, has_monitor=False)
BARE_RIG = Rig("bare", lambda setting, place: ())


def _bare_row(name: str, words: str) -> Row:
    return Row(name, BARE_RIG, f"bare {words} count=4000", P50, (BARE,))


def suite() -> Suite:
    """A kick where there is nothing but KVM, to compare devices' kicks with."""
    rows = [
        _bare_row("bare-kick", f"address={QUIET['mmio']:#x}"),
        _bare_row("bare-kick-awaited", f"address={AWAITED['mmio']:#x}"),
        _bare_row("bare-kick-port", f"port={QUIET['pio']:#x}"),
    ]
    target = Target(
        "vCPU's cost of a kick with ioeventfd, over a bare KVM ioeventfd write", "blk-kick", "bare-kick", BARE, 1.05, False
    )
    return Suite(rows, [target], [BARE_PROGRAM])
