# SPDX-License-Identifier: Apache-2.0
"""The contract between the machine and its board (``pc``): the board knows chips, the machine knows none."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from qdevpy.accel.base import BootState
    from qdevpy.vm.machine import Machine


class Board(ABC):
    """A board; one instance a machine.

    :cvar type_name: machine type in definitions (``pc``)
    :cvar aliases: other names of it (``pc-i440fx-7.2``)
    :cvar buses: the buses it builds, name -> sort (``{"pci.0": "PCI"}``); definitions are checked against them
    :cvar chips: what sits at a fixed place, ``(bus, devfn) -> type``; definitions are checked against them
    :cvar compat: defaults that this version changes: ``(device type, property, text)``
    """

    type_name: ClassVar[str]
    aliases: ClassVar[Sequence[str]] = ()
    description: ClassVar[str] = ""
    buses: ClassVar[Mapping[str, str]] = {}
    chips: ClassVar[Mapping[tuple[str, int], str]] = {}
    compat: ClassVar[Sequence[tuple[str, str, str]]] = ()
    max_memory: ClassVar[int] = 1 << 40
    max_cpus: ClassVar[int] = 64
    default_memory: ClassVar[int] = 128 << 20

    @abstractmethod
    def add_memory(self, machine: Machine) -> None:
        """Add RAM of ``machine.memory_size`` bytes to ``machine.memory``, holes where the board has them."""

    @abstractmethod
    def build(self, machine: Machine) -> None:
        """Create buses and chips: ``machine.add_root_bus``, ``machine.plug``. The accelerator is open."""

    @abstractmethod
    def prepare_boot(self, machine: Machine) -> BootState | None:
        """After every reset of a machine with CPUs: what firmware would do (BARs, interrupt lines, tables), then
        load kernel and initrd into memory.

        :raises BootError: names the image and what is wrong with it
        """
