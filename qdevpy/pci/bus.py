# SPDX-License-Identifier: Apache-2.0
"""A PCI bus: 32 slots of 8 functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Protocol

from qdevpy.errors import RealizeError
from qdevpy.pci.device import PCIDevice
from qdevpy.pci.intx import IntxLines
from qdevpy.qdev.bus import Bus

if TYPE_CHECKING:
    from qdevpy.accel.base import Accelerator
    from qdevpy.qdev.device import Device

SLOTS = 32


def place(devfn: int) -> str:
    """``slot.function`` as users write it."""
    return f"{devfn >> 3:02x}.{devfn & 7}"


class BoardHotplug(Protocol):
    """The board's hotplug controller, which buses behind bridges join."""

    def add_bus(self, bus: PCIBus) -> int:
        """Devices come to BUS and go from it through the controller; its number there."""

    def remove_bus(self, bus: PCIBus) -> None:
        """BUS goes."""


class PCIBus(Bus):
    """A bus with its functions by address.

    :param accel: where interrupt lines end
    :param lines: of a bus behind a bridge: the first bus's, which all share
    :ivar board_hotplug: what the buses behind this bus's bridges join; None: nothing comes or goes there
    :ivar intx_router: the board's wiring: ``(slot, pin from 1) -> GSI``, or -1
    """

    bus_type: ClassVar[str] = "PCI"

    def __init__(
        self, name: str, owner: Device | None = None, *, accel: Accelerator | None = None, lines: IntxLines | None = None
    ) -> None:
        super().__init__(name, owner)
        if lines is None:
            assert accel is not None, "a bus without bridge needs the accelerator"
            lines = IntxLines(accel)
        self.lines = lines
        self.intx_router: Callable[[int, int], int] = lambda slot, pin: -1
        self.board_hotplug: BoardHotplug | None = None
        self._functions: dict[int, PCIDevice] = {}

    def check(self, device: Device) -> None:
        """Give the function its address.

        :raises RealizeError: it is taken, the bus is full, or the slot's functions do not go together
        """
        assert isinstance(device, PCIDevice)
        devfn = self._free_slot(device) if device.addr < 0 else device.addr
        taken = self._functions.get(devfn)
        if taken is not None:
            raise RealizeError(
                f"PCI: slot {devfn >> 3} function {devfn & 7} not available for {device.type_name}, in use by "
                f"{taken.type_name},id={taken.id or '(null)'}; leave addr {place(devfn)} out, or choose another slot",
                device=device.label,
            )
        self._check_functions(device, devfn)
        device.devfn = device.addr = devfn
        self._functions[devfn] = device

    def _check_functions(self, device: PCIDevice, devfn: int) -> None:
        """A guest looks for functions 1 to 7 only where function 0 says that there are several (PCI 3.0, 6.2.1)."""
        slot = devfn & ~7
        first = device if devfn == slot else self._functions.get(slot)
        if device.hotplugged and first is not None and first is not device:
            raise RealizeError(
                f"PCI: slot {slot >> 3} function 0 already occupied by {first.type_name}, new func {device.type_name} cannot be "
                "exposed to guest; add function 0 last, for that is when the guest looks at the slot",
                device=device.label,
            )
        several = devfn != slot or any(at & ~7 == slot and at != slot for at in self._functions)
        if several and first is not None and not first.multifunction:
            raise RealizeError(
                f"addr {place(devfn)}: the slot has several functions, and {first.label} in function 0 is not multifunction; "
                "set multifunction=on there, or choose another slot",
                device=device.label,
            )

    def _free_slot(self, device: Device) -> int:
        for devfn in range(0, SLOTS * 8, 8):
            if not any(devfn + function in self._functions for function in range(8)):
                return devfn
        raise RealizeError(f"no free slot on '{self.name}': all {SLOTS} are in use", device=device.label)

    def plug(self, device: Device) -> None:
        """As :meth:`Bus.plug`; the address is free again where the function fails to realize."""
        try:
            super().plug(device)
        except BaseException:
            self._forget(device)
            raise

    def unplug(self, device: Device) -> None:
        """As :meth:`Bus.unplug`."""
        try:
            super().unplug(device)
        finally:
            self._forget(device)

    def _forget(self, device: Device) -> None:
        for devfn, function in list(self._functions.items()):
            if function is device:
                del self._functions[devfn]

    def device_at(self, devfn: int) -> PCIDevice | None:
        """The realized function at an address, or None."""
        function = self._functions.get(devfn)
        return function if function is not None and function.is_realized else None

    def config_read(self, devfn: int, offset: int, size: int) -> int:
        """A configuration cycle; all ones where there is no function."""
        function = self.device_at(devfn)
        return (1 << 8 * size) - 1 if function is None else function.config_read(offset, size)

    def config_write(self, devfn: int, offset: int, value: int, size: int) -> None:
        """A configuration cycle; nothing happens where there is no function."""
        function = self.device_at(devfn)
        if function is not None:
            function.config_write(offset, value, size)

    def route(self, function: PCIDevice) -> None:
        """Connect a function's pin where the board's wiring leads."""
        if function.interrupt_pin:
            function.intx.route(self.intx_router(function.devfn >> 3, function.interrupt_pin))

    def routes_changed(self) -> None:
        """The board's wiring changed (PIRQ registers): asserted lines move."""
        for function in self._functions.values():
            self.route(function)
            for bus in function.child_buses:
                if isinstance(bus, PCIBus):
                    bus.routes_changed()

    def bus_behind(self, number: int) -> PCIBus | None:
        """The bus to which the guest gave NUMBER, behind one of this bus's bridges; None: there is none."""
        for function in self._functions.values():
            found = function.bus_of(number) if function.is_realized else None
            if found is not None:
                return found
        return None
