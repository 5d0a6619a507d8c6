# SPDX-License-Identifier: Apache-2.0
"""A vCPU's registers, for ``$name`` in expressions and ``info registers``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from qdevpy.accel.base import CpuAccelerator
from qdevpy.monitor.hmp.command import HmpError

if TYPE_CHECKING:
    from qdevpy.monitor.hmp.monitor import Hmp

LEGACY = ("ax", "bx", "cx", "dx", "si", "di", "sp", "bp")
#: QEMU's and gdb's names for the same
ALIASES = {"pc": "rip", "eip": "rip", "eflags": "rflags"}


def read_registers(monitor: Hmp, cpu: int) -> Mapping[str, int]:
    """All registers of a vCPU by name; none where the machine has no vCPUs.

    :raises HmpError: vCPUs run; to look at one means to wait for it
    """
    accel = monitor.machine.accel
    if not isinstance(accel, CpuAccelerator):
        return {}
    if monitor.machine.running:
        raise HmpError("vCPUs are running; stop them first")
    return accel.registers(cpu)


def registers(monitor: Hmp) -> dict[str, int]:
    """Those of the monitor's vCPU, with their aliases."""
    found = dict(read_registers(monitor, monitor.cpu))
    for short in LEGACY:
        if f"r{short}" in found:
            found[f"e{short}"] = found[f"r{short}"] & 0xFFFFFFFF
    found.update((alias, found[name]) for alias, name in ALIASES.items() if name in found)
    return found
