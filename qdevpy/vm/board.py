# SPDX-License-Identifier: Apache-2.0
"""The contract between the machine and its board (``pc``): the board knows chips, the machine knows none."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from qdevpy.errors import PropertyError, did_you_mean
from qdevpy.qdev.object import Object
from qdevpy.qdev.property import Property, properties_of

if TYPE_CHECKING:
    from qdevpy.accel.base import BootState
    from qdevpy.qdev.device import Device
    from qdevpy.vm.machine import Machine


class Board(Object, ABC):
    """A board; one instance a machine. Its properties are the machine's options (QEMU: -machine pc,NAME=VALUE).

    :cvar type_name: machine type in definitions (``pc``)
    :cvar aliases: other names of it (``pc-i440fx-7.2``)
    :cvar buses: the buses it builds, name -> sort (``{"pci.0": "PCI"}``); definitions are checked against them
    :cvar chips: what sits at a fixed place, ``(bus, devfn) -> type``; definitions are checked against them
    :cvar qom_parents: abstract types that the machine's derives from in QEMU, the nearest first (``generic-pc-machine``)
    :cvar compat: defaults that this version changes: ``(device type, property, text)``
    :cvar has_cpus: False: whatever the definition says, there is no vCPU
    :cvar data_folders: where firmware and option ROMs are looked for, behind the definition's own folders
    :cvar default_memory: bytes where the definition gives none
    :cvar hotpluggable_cpus, numa_mem_supported, deprecated, is_default: what QMP's query-machines says of it
    :cvar default_cpu_type, default_ram_id: the same; None: it has none
    """

    type_name: ClassVar[str]
    aliases: ClassVar[Sequence[str]] = ()
    description: ClassVar[str] = ""
    buses: ClassVar[Mapping[str, str]] = {}
    chips: ClassVar[Mapping[tuple[str, int], str]] = {}
    qom_parents: ClassVar[Sequence[str]] = ()
    compat: ClassVar[Sequence[tuple[str, str, str]]] = ()
    max_memory: ClassVar[int] = 1 << 40
    max_cpus: ClassVar[int] = 64
    default_memory: ClassVar[int] = 128 << 20
    has_cpus: ClassVar[bool] = True
    data_folders: ClassVar[Sequence[str]] = ()
    hotpluggable_cpus: ClassVar[bool] = False
    numa_mem_supported: ClassVar[bool] = False
    deprecated: ClassVar[bool] = False
    is_default: ClassVar[bool] = False
    default_cpu_type: ClassVar[str | None] = None
    default_ram_id: ClassVar[str | None] = None

    @classmethod
    def chip_classes(cls) -> Sequence[type[Device]]:
        """Override: the classes of what it is built of, for listings of types."""
        return ()

    @classmethod
    def options(cls) -> Mapping[str, Property]:
        """The machine's options by name."""
        return properties_of(cls)

    def find_property(self, name: str) -> tuple[Object, Property]:
        """As :meth:`Object.find_property`, in words for machine options.

        :raises PropertyError: unknown; the message has the nearest valid name
        """
        found = self.options().get(name)
        if found is None:
            known = ", ".join(sorted(self.options())) or "none"
            hint = did_you_mean(name, self.options()) or f"; it has: {known}"
            raise PropertyError(f"machine option '{name}' not found{hint}", device=self.label, name=name)
        return self, found

    @property
    def runs_firmware(self) -> bool:
        """Whether the machine starts in firmware, which looks for option ROMs."""
        return False

    @abstractmethod
    def add_memory(self, machine: Machine) -> None:
        """Add RAM of ``machine.memory_size`` bytes to ``machine.memory``, holes where the board has them."""

    @abstractmethod
    def build(self, machine: Machine) -> None:
        """Create buses and chips: ``machine.add_root_bus``, ``machine.plug``. The accelerator is open."""

    def reset(self, machine: Machine) -> None:
        """Override: after every reset of the devices, with or without CPUs."""

    @abstractmethod
    def prepare_boot(self, machine: Machine) -> BootState | None:
        """After every reset of a machine with CPUs: what firmware would do (BARs, interrupt lines, tables), then
        load kernel and initrd into memory.

        :raises BootError: names the image and what is wrong with it
        """

    def press_power_button(self, machine: Machine) -> None:
        """Somebody presses the power button: tell the guest, where the board has a way. Called with the VM lock held."""
