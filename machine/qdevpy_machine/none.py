# SPDX-License-Identifier: Apache-2.0
"""``none``: no chips, no bus, no CPU; for those who only want to talk to a monitor. As QEMU's ``hw/core/null-machine.c``."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from qdevpy.vm.board import Board

if TYPE_CHECKING:
    from qdevpy.accel.base import BootState
    from qdevpy.vm.machine import Machine


class NoBoard(Board):
    """Memory where the definition asks for it, and nothing else."""

    type_name: ClassVar[str] = "none"
    description: ClassVar[str] = "empty machine"
    max_cpus: ClassVar[int] = 1
    default_memory: ClassVar[int] = 0
    has_cpus: ClassVar[bool] = False
    default_ram_id: ClassVar[str | None] = "ram"

    def add_memory(self, machine: Machine) -> None:
        """RAM at 0, as much as was asked for."""
        if machine.memory_size:
            machine.memory.add_ram(0, machine.memory_size, name="ram")

    def build(self, machine: Machine) -> None:
        """There is nothing to plug."""

    def prepare_boot(self, machine: Machine) -> BootState | None:
        """Nothing boots."""
        return None
