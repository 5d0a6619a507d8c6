# SPDX-License-Identifier: Apache-2.0
"""PCI-to-PCI bridges: a function with a bus behind it (PCI-to-PCI Bridge 1.2; QEMU ``hw/pci/pci_bridge.c``).

Config cycles follow the bus numbers. Memory and I/O do not follow the windows: what a BAR behind the bridge asks for is
decoded wherever it is, as long as that function's command register says so, which no driver can tell from a bridge
that is programmed right. Interrupt pins turn by the slot (table 9-1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import attrs

from qdevpy.errors import RealizeError
from qdevpy.pci import config
from qdevpy.pci.bus import PCIBus
from qdevpy.pci.device import PCIDevice
from qdevpy.qdev import kinds
from qdevpy.qdev import property as prop

PRIMARY, SECONDARY, SUBORDINATE, LATENCY = 0x18, 0x19, 0x1A, 0x1B
IO_BASE, MEMORY_BASE, PREFETCH_BASE = 0x1C, 0x20, 0x24
PREFETCH_BASE_UPPER, PREFETCH_LIMIT_UPPER = 0x28, 0x2C
CONTROL = 0x3E
CONTROL_RESET = 0x40
HEADER_BRIDGE = 1
CAP_SLOT_NUMBERING = 0x04
NO_SHPC = "devices behind it come and go through ACPI; there is no standard hotplug controller"
NO_MSI = "its standard hotplug controller, which would interrupt, is not there"
NO_RESERVE = "the boot code sizes the windows by what is behind the bridge"


class PCIBridge(PCIDevice):
    """Base class of bridges. Offers a bus named as the bridge.

    :ivar secondary: the bus behind it
    """

    type_name: ClassVar[str] = "base-pci-bridge"
    abstract: ClassVar[bool] = True
    class_code: ClassVar[int] = 0x060400
    offers_bus: ClassVar[str | None] = PCIBus.bus_type
    bus_has_device_id: ClassVar[bool] = True

    secondary: PCIBus = attrs.field(default=None, init=False)

    def do_realize(self) -> None:
        """The header's bridge part, and the bus."""
        space = self.config
        space.set(config.HEADER_TYPE, space.get(config.HEADER_TYPE, 1) | HEADER_BRIDGE, 1)
        for offset in range(config.BAR0 + 8, config.CAPABILITIES):
            space.set(offset, 0, 1, mask=0)
        for offset in (PRIMARY, SECONDARY, SUBORDINATE, LATENCY):
            space.set(offset, 0, 1, mask=0xFF)
        space.set(IO_BASE, 0x0000, 2, mask=0xF0F0)
        space.set(MEMORY_BASE, 0, 4, mask=0xFFF0_FFF0)
        space.set(PREFETCH_BASE, 0x0001_0001, 4, mask=0xFFF0_FFF0)
        space.set(PREFETCH_BASE_UPPER, 0, 8, mask=0xFFFF_FFFF_FFFF_FFFF)
        space.set(CONTROL, 0, 2, mask=0x0EFF)
        self.secondary = PCIBus(self._bus_name(), self, lines=self.bus.lines)
        self.secondary.intx_router = self._route
        self.add_bus(self.secondary)
        board = self.bus.board_hotplug
        if board is not None and not self.hotplugged:  # the DSDT knows those that were there at boot
            board.add_bus(self.secondary)
            self.cleanup.callback(board.remove_bus, self.secondary)
            self.secondary.board_hotplug = board

    def _bus_name(self) -> str:
        if self.id:
            return self.id
        taken = {bus.name for bus in self.machine.buses()}
        return next(name for number in range(1, 256) if (name := f"pci.{number}") not in taken)

    def _route(self, slot: int, pin: int) -> int:
        return self.bus.intx_router(self.devfn >> 3, (pin - 1 + slot) % 4 + 1)

    def bus_of(self, number: int) -> PCIBus | None:
        """The bus of that number behind this bridge, as the guest has numbered them; None: it is not here."""
        first, last = self.config.get(SECONDARY, 1), self.config.get(SUBORDINATE, 1)
        if not 0 < first <= number <= last:
            return None
        return self.secondary if number == first else self.secondary.bus_behind(number)

    def config_write(self, offset: int, value: int, size: int) -> None:
        """As :meth:`PCIDevice.config_write`; setting the reset bit resets what is behind."""
        before = self.config.get(CONTROL, 2)
        super().config_write(offset, value, size)
        if self.config.get(CONTROL, 2) & ~before & CONTROL_RESET:
            self.secondary.reset()

    def do_reset(self) -> None:
        """No bus has a number, no window is open."""
        for offset in (PRIMARY, SECONDARY, SUBORDINATE, LATENCY):
            self.config.set(offset, 0, 1)
        self.config.set(IO_BASE, 0, 2)
        self.config.set(MEMORY_BASE, 0, 4)
        self.config.set(PREFETCH_BASE, 0x0001_0001, 4)
        self.config.set(PREFETCH_BASE_UPPER, 0, 8)
        self.config.set(CONTROL, 0, 2)


class PCIBridgeDevice(PCIBridge):
    """``pci-bridge``: QEMU's generic one (``hw/pci-bridge/pci_bridge_dev.c``)."""

    type_name: ClassVar[str] = "pci-bridge"
    description: ClassVar[str] = "Standard PCI Bridge"
    category: ClassVar[str] = "Controller/Bridge/Hub"
    vendor_id: ClassVar[int] = 0x1B36
    device_id: ClassVar[int] = 0x0001

    chassis_nr: int = prop.uint8(0, name="chassis_nr", help="number of the chassis, from 1, for the slot numbering capability")
    msi: str = prop.only(kinds.OnOffAuto(), "auto", why=NO_MSI, help="message signalled interrupts")
    shpc: bool = prop.only(kinds.Bit(), False, why=NO_SHPC, help="standard hotplug controller")
    bus_reserve: int = prop.only(kinds.Integer("uint32", 0, 0xFFFF_FFFF), 0xFFFF_FFFF, why=NO_RESERVE, help="bus numbers kept")

    def do_realize(self) -> None:
        """As :meth:`PCIBridge.do_realize`, with the slot numbering capability (13.2.6).

        :raises RealizeError: it has no chassis
        """
        if not self.chassis_nr:
            raise RealizeError(
                "Bridge chassis not specified. Each bridge is required to be assigned a unique chassis id > 0; "
                "set property 'chassis_nr'",
                device=self.label,
            )
        super().do_realize()
        at = self.config.add_capability(CAP_SLOT_NUMBERING, 4)
        self.config.set(at + 2, 0, 1)
        self.config.set(at + 3, self.chassis_nr, 1, mask=0xFF)


def bridges(bus: PCIBus) -> Mapping[int, PCIBridge]:
    """The bridges on a bus, by devfn."""
    return {child.devfn: child for child in bus.children if isinstance(child, PCIBridge)}
