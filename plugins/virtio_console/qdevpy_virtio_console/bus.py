# SPDX-License-Identifier: Apache-2.0
"""The bus that ports plug into, and which number each gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from qdevpy.errors import RealizeError
from qdevpy.qdev.bus import Bus

if TYPE_CHECKING:
    from qdevpy.qdev.device import Device
    from qdevpy_virtio_console.device import VirtIOSerial
    from qdevpy_virtio_console.port import SerialPort

#: ``nr`` of a port that takes whatever is free
ANY_NUMBER = 0xFFFFFFFF


class VirtIOSerialBus(Bus):
    """``virtio-serial-bus``. Numbers as in QEMU: 0 is kept for a console, because a driver without MULTIPORT sees
    that port only.
    """

    bus_type: ClassVar[str] = "virtio-serial-bus"

    def __init__(self, name: str, owner: VirtIOSerial) -> None:
        from qdevpy.vm.hotplug import SurpriseRemoval

        super().__init__(name, owner)
        self.serial = owner
        self.hotplug = SurpriseRemoval()  # control messages tell the driver

    def port(self, number: int) -> SerialPort | None:
        """The port of that number, or None."""
        return next((port for port in self.ports() if port.nr == number), None)

    def ports(self) -> list[SerialPort]:
        """All ports, in the order they were plugged."""
        from qdevpy_virtio_console.port import SerialPort

        return [child for child in self.children if isinstance(child, SerialPort)]

    def check(self, device: Device) -> None:
        """Give the port its number.

        :raises RealizeError: the number or name is taken, or out of range
        """
        from qdevpy_virtio_console.port import SerialPort

        if not isinstance(device, SerialPort):
            raise RealizeError(f"is no port of '{self.name}'", device=device.label)
        limit = self.serial.max_ports
        if device.nr == ANY_NUMBER:
            device.nr = self._free_number(device)
        if device.nr >= limit:
            raise RealizeError(f"property 'nr': {device.nr}: '{self.name}' has ports 0 to {limit - 1}", device=device.label)
        if device.nr == 0 and not device.is_console:
            raise RealizeError(
                f"property 'nr': 0: port 0 of '{self.name}' is kept for a virtconsole; use 1 to {limit - 1}", device=device.label
            )
        other = self.port(device.nr)
        if other is not None:
            raise RealizeError(f"property 'nr': {device.nr}: taken by {other.label} on '{self.name}'", device=device.label)
        if device.port_name is not None and any(device.port_name == port.port_name for port in self.ports()):
            raise RealizeError(
                f"property 'name': '{device.port_name}': another port of '{self.name}' has it", device=device.label
            )

    def _free_number(self, device: SerialPort) -> int:
        first = 0 if device.is_console else 1
        taken = {port.nr for port in self.ports()}
        for number in range(first, self.serial.max_ports):
            if number not in taken:
                return number
        raise RealizeError(
            f"all ports of '{self.name}' are taken; raise its property 'max_ports' ({self.serial.max_ports})", device=device.label
        )
