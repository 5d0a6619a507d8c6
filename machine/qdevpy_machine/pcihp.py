# SPDX-License-Identifier: Apache-2.0
"""ACPI PCI hotplug: the registers by which the DSDT's methods learn which slots changed, and eject.

========  ==========  ===================================================================================
port      name        what it is
========  ==========  ===================================================================================
0xAE00    PCIU        slots with a new device, a bit each; reading clears it
0xAE04    PCID        slots whose device is to go
0xAE08    B0EJ        written: eject the first of these slots
0xAE0C    RMV         slots that may be ejected
0xAE10    BNUM        which bus the others mean (BSEL)
0xAE14    PIDX        (acpi-index: none)
0xAFE0    GPE0        status, then enable, 16 bits each; bit 1 is ours
========  ==========  ===================================================================================

The interface is QEMU's (docs/specs/acpi_pci_hotplug), so that firmware and tests written for it work.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from qdevpy.errors import HotplugError
from qdevpy.pci.device import PCIDevice
from qdevpy.vm.hotplug import remove
from qdevpy_machine import layout
from qdevpy_machine.hotplug_aml import HotplugBus

if TYPE_CHECKING:
    from qdevpy.pci.bus import PCIBus
    from qdevpy.qdev.device import Device

BASE, SIZE = layout.PCI_HOTPLUG, 0x18
EJECT, BUS_NUMBER = 0x08, 0x10
GPE_BASE, GPE_SIZE = layout.GPE0, 4
GPE_HOTPLUG = 1 << 1
#: buses that BNUM can name
MAX_BUSES = 256
NS_PER_MS = 1_000_000
#: bytes of every access
ACCESS = 4
ALL_SLOTS = 0xFFFF_FFFF


class GeneralPurposeEvents:
    """The GPE0 block (ACPI 6.4, 4.8.4.1).

    :param changed: called when :attr:`level` may have changed
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._status = self._enable = 0

    @property
    def level(self) -> bool:
        """Whether an enabled event is pending."""
        return bool(self._status & self._enable)

    def raise_event(self, bit: int) -> None:
        """An event happened."""
        self._status |= bit
        self._changed()

    def reset(self) -> None:
        """Nothing pending, nothing enabled."""
        self._status = self._enable = 0
        self._changed()

    def read(self, offset: int, size: int) -> int:
        """Status and enable bits."""
        block = struct.pack("<HH", self._status, self._enable)
        return int.from_bytes(block[offset : offset + size], "little")

    def write(self, offset: int, value: int, size: int) -> None:
        """Ones clear status bits; enable bits are as written."""
        mask = (1 << 8 * size) - 1 << 8 * offset
        data = value << 8 * offset & mask
        self._status &= ~data & 0xFFFF
        self._enable = (self._enable & ~(mask >> 16) | data >> 16) & 0xFFFF
        self._changed()


def may_go(function: PCIDevice) -> bool:
    """Whether a function can be ejected: no chip of the board, and no bridge that the DSDT knows."""
    return function.user_creatable and (function.hotplugged or not function.offers_bus)


class _Slots:
    """What the guest is to be told of one bus."""

    def __init__(self, bus: PCIBus) -> None:
        self.bus = bus
        self.up = self.down = 0

    def devices(self, mask: int) -> list[PCIDevice]:
        """Devices in the slots of MASK that may go."""
        return [child for child in self.functions() if may_go(child) and mask >> (child.devfn >> 3) & 1]

    def functions(self) -> list[PCIDevice]:
        """All functions of the bus."""
        return [child for child in self.bus.children if isinstance(child, PCIDevice)]

    @property
    def removable(self) -> int:
        """Slots that hold nothing that has to stay."""
        stay = 0
        for child in self.functions():
            if not may_go(child):
                stay |= 1 << (child.devfn >> 3)
        return ~stay & ALL_SLOTS


class PCIHotplug:
    """The controller: the :attr:`Bus.hotplug` of every bus it was given.

    :param raise_event: raises the general purpose event
    """

    def __init__(self, raise_event: Callable[[], None]) -> None:
        self._raise_event = raise_event
        self._buses: list[_Slots] = []
        self._selected = 0

    def add_bus(self, bus: PCIBus) -> int:
        """Devices may come to and go from BUS; its BSEL."""
        self._buses.append(_Slots(bus))
        bus.hotplug = self
        return len(self._buses) - 1

    def remove_bus(self, bus: PCIBus) -> None:
        """BUS is going; its BSEL stays empty, for the guest knows the others by theirs."""
        for slots in self._buses:
            if slots.bus is bus:
                slots.up = slots.down = 0
        bus.hotplug = None

    def describe(self, bus: PCIBus) -> HotplugBus:
        """BUS and those behind its bridges, for the DSDT."""
        from qdevpy.pci.bridge import bridges

        bsel = next((index for index, slots in enumerate(self._buses) if slots.bus is bus), None)
        removable = self._buses[bsel].removable if bsel is not None else 0
        behind = {
            devfn >> 3: self.describe(found.secondary)
            for devfn, found in bridges(bus).items()
            if devfn & 7 == 0 and found.secondary.hotplug is self
        }
        return HotplugBus(bsel, tuple(slot for slot in range(32) if removable >> slot & 1), behind)

    def reset(self) -> None:
        """Before the machine is reset: who was asked to go goes, for the guest that was asked is no more."""
        self._selected = 0
        for slots in self._buses:
            for device in slots.devices(slots.down):
                remove(device)
            slots.up = slots.down = 0

    # -- HotplugHandler

    def plugged(self, device: Device) -> None:
        """Tell the guest of a new device."""
        slots, bit = self._place(device)
        slots.up |= bit
        self._raise_event()

    def unplug_request(self, device: Device) -> None:
        """Ask the guest; where none has ever run, there is nobody to ask.

        :raises HotplugError: it is a bridge that was there at boot
        """
        assert isinstance(device, PCIDevice)
        if not may_go(device):
            raise HotplugError(f"Device '{device.label}' does not support hotplugging: it is a bridge that was there at boot")
        if not device.machine.has_guest:
            remove(device)
            return
        # a guest that boots clears the event, so who asks again is heard, but not before time began (pending_deleted_expires_ms)
        device.leaving = device.machine.clock.now_ns() < NS_PER_MS
        slots, bit = self._place(device)
        slots.down |= bit
        self._raise_event()

    def _place(self, device: Device) -> tuple[_Slots, int]:
        assert isinstance(device, PCIDevice)
        slots = next(slots for slots in self._buses if slots.bus is device.parent_bus)
        return slots, 1 << (device.devfn >> 3)

    # -- registers

    def read(self, offset: int, size: int) -> int:
        """Any register, 32 bits at once; others read as 0, as does everything while no bus can have that number."""
        if size != ACCESS or self._selected >= MAX_BUSES:
            return 0
        slots = self._buses[self._selected] if self._selected < len(self._buses) else None
        match offset:
            case 0x00 if slots is not None:
                up, slots.up = slots.up, 0
                return up
            case 0x04 if slots is not None:
                return slots.down
            case 0x0C:
                return slots.removable if slots is not None else ALL_SLOTS
            case 0x10:
                return self._selected
            case _:
                return 0  # EJECT: no feature beyond the base set; INDEX: none

    def write(self, offset: int, value: int, size: int) -> None:
        """Eject the first of these slots, or choose a bus."""
        if size != ACCESS:
            return
        if offset == BUS_NUMBER:
            self._selected = value
        elif offset == EJECT and value and self._selected < len(self._buses):
            slot = value & -value
            slots = self._buses[self._selected]
            slots.up &= ~slot
            slots.down &= ~slot
            for device in slots.devices(slot):
                remove(device)
