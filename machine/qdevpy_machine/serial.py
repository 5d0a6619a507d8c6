# SPDX-License-Identifier: Apache-2.0
"""``isa-serial``: a PC's COM port, a 16550A with a chardev at its end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from qdevpy.errors import RealizeError
from qdevpy.qdev import kinds
from qdevpy.qdev import property as prop
from qdevpy.qdev.device import Device
from qdevpy_machine.isa import ISADevice
from qdevpy_machine.uart import UART

if TYPE_CHECKING:
    from qdevpy.backend.chardev import Chardev
    from qdevpy.qdev.object import Object

#: index -> iobase, irq
COM_PORTS = ((0x3F8, 4), (0x2F8, 3), (0x3E8, 4), (0x2E8, 3))


UNSET = 0xFFFFFFFF


class SerialCore(Device):
    """The UART as a part of its own, as QEMU has it: what is the same on every bus."""

    type_name: ClassVar[str] = "serial"
    description: ClassVar[str] = "16550A UART"
    user_creatable: ClassVar[bool] = False

    chardev: Chardev | None = prop.chardev(help="where characters go and come from; default: nowhere")
    baudbase: int = prop.only(
        kinds.Integer("uint32", 0, 0xFFFFFFFF), 115200, why="characters take no time on the line", help="baud rate of divisor 1"
    )
    wakeup: bool = prop.only(kinds.Bool(), False, why="the machine cannot be suspended", help="a character wakes the machine")


class ISASerial(ISADevice):
    """A 16550A UART. As QEMU's ``hw/char/serial-isa.c``.

    :ivar iobase, irq: the port that it has, once realized
    """

    type_name: ClassVar[str] = "isa-serial"
    description: ClassVar[str] = "16550A serial port (COM1 to COM4)"
    category: ClassVar[str] = "Input"
    qemu_description: ClassVar[str | None] = ""

    index: int = prop.uint32(UNSET, maximum=3, unset=UNSET, help="which COM port, from 0; default: the next free one")
    iobase: int = prop.uint32(UNSET, maximum=0xFFF8, unset=UNSET, help="first I/O port; default: the COM port's")
    irq: int = prop.uint32(UNSET, maximum=15, unset=UNSET, help="ISA interrupt; default: the COM port's")

    core: SerialCore = attrs.field(default=None, init=False)
    uart: UART = attrs.field(default=None, init=False)

    def __init__(self, *, chardev: Chardev | None = None, **values: Any) -> None:
        super().__init__(**values)
        self.core = SerialCore(chardev=chardev)
        self.add_part("serial", self.core)

    @property
    def chardev(self) -> Chardev | None:
        """The chardev at its end."""
        return self.core.chardev

    def property_owners(self) -> Iterator[Object]:
        """The ISA side, then the UART."""
        yield self
        yield self.core

    def do_realize(self) -> None:
        """Take the ports and the chardev.

        :raises RealizeError: no COM port is free, or the ports are another device's
        """
        index = self.index = self._free_index() if self.index == UNSET else self.index
        self.iobase = COM_PORTS[index][0] if self.iobase == UNSET else self.iobase
        irq = self.irq = COM_PORTS[index][1] if self.irq == UNSET else self.irq
        self.core.realize()
        self.cleanup.callback(self.core.unrealize)
        self.uart = UART(lambda level: self.set_irq(irq, level), self._transmit, self._room_made)
        self.map_ports(self.iobase, 8, self.uart.read, self.uart.write)
        if self.chardev is not None:
            self.chardev.take(self.label)
            self.cleanup.callback(self.chardev.release)
            self.chardev.attach(lambda: self.uart.room, self.uart.receive, self._event)
            self.cleanup.callback(self.chardev.detach)

    def do_reset(self) -> None:
        """Registers as after a master reset; characters that wait are lost."""
        self.uart.reset()
        self._room_made()

    def _free_index(self) -> int:
        others = [d.index for d in self.isa_bus.children if isinstance(d, ISASerial) and d is not self]
        for index in range(len(COM_PORTS)):
            if index not in others:
                return index
        raise RealizeError(f"there are {len(COM_PORTS)} serial ports already; give iobase, irq and index", device=self.label)

    def _transmit(self, data: bytes) -> int:
        if self.chardev is None:
            return len(data)
        taken = self.chardev.write(data)
        if taken < len(data):
            self.chardev.on_writable(self.uart.transmit_more)
        return taken

    def _room_made(self) -> None:
        if self.chardev is not None:
            self.chardev.resume()

    def _event(self, event: str) -> None:
        if event == "break":
            self.uart.receive_break()
