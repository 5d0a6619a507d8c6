# SPDX-License-Identifier: Apache-2.0
"""The ISA bus: who has which ports, and interrupt lines that several devices may pull."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, cast

from qdevpy.errors import RealizeError
from qdevpy.qdev.bus import Bus
from qdevpy.qdev.device import Device

Read = Callable[[int, int], int]
Write = Callable[[int, int, int], None]


class ISABus(Bus):
    """Sixteen interrupt lines and the ports of the devices on them.

    :param set_irq: drives line 0 to 15 of the interrupt controllers
    """

    bus_type: ClassVar[str] = "ISA"

    def __init__(self, name: str, owner: Device | None, set_irq: Callable[[int, bool], None]) -> None:
        super().__init__(name, owner)
        self._set_irq = set_irq
        self._raised: dict[int, set[Device]] = {}
        self._ports: dict[Device, list[range]] = {}

    def claim_ports(self, device: Device, ports: range) -> None:
        """PORTS are DEVICE's from now on.

        :raises RealizeError: another device has some of them; says which
        """
        for owner, taken in self._ports.items():
            for other in taken:
                if ports.start < other.stop and other.start < ports.stop:
                    raise RealizeError(
                        f"ports {ports.start:#x}-{ports.stop - 1:#x}: {owner.label} has {other.start:#x}-{other.stop - 1:#x}; "
                        "choose others",
                        device=device.label,
                    )
        self._ports.setdefault(device, []).append(ports)

    def release(self, device: Device) -> None:
        """The device goes: its ports are free, its lines low."""
        self._ports.pop(device, None)
        for irq in list(self._raised):
            self.set_irq(device, irq, False)

    def set_irq(self, device: Device, irq: int, level: bool) -> None:
        """Have DEVICE pull line IRQ, or let it go; the line is up while anybody pulls it."""
        raised = self._raised.setdefault(irq, set())
        before = bool(raised)
        if level:
            raised.add(device)
        else:
            raised.discard(device)
        if before != bool(raised):
            self._set_irq(irq, bool(raised))


class ISADevice(Device):
    """Base class of devices on the ISA bus."""

    type_name: ClassVar[str] = "isa-device"
    abstract: ClassVar[bool] = True
    bus_type: ClassVar[str | None] = "ISA"

    @property
    def isa_bus(self) -> ISABus:
        """The bus it is plugged into."""
        return cast(ISABus, self.parent_bus)

    def map_ports(self, base: int, size: int, read: Read, write: Write) -> None:
        """Answer at SIZE ports from BASE until unrealized.

        :raises RealizeError: the ports are another device's, or beyond 0xFFFF
        """
        if not 0 <= base <= base + size <= 0x1_0000:
            raise RealizeError(f"ports {base:#x}-{base + size - 1:#x}: expected ports below 0x10000", device=self.label)
        bus = self.isa_bus
        self.cleanup.callback(bus.release, self)
        bus.claim_ports(self, range(base, base + size))
        mapping = self.machine.space.map("pio", base, size, read, write)
        self.cleanup.callback(mapping.unmap)

    def set_irq(self, irq: int, level: bool) -> None:
        """Pull interrupt line IRQ or let it go."""
        self.isa_bus.set_irq(self, irq, level)
