# SPDX-License-Identifier: Apache-2.0
"""``isa-serial``: a PC's COM port, a 16550A with a chardev at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import attrs

from qdevpy.errors import RealizeError
from qdevpy.qdev import property as prop
from qdevpy_machine.isa import ISADevice
from qdevpy_machine.uart import UART

if TYPE_CHECKING:
    from qdevpy.backend.chardev import Chardev

#: index -> iobase, irq
COM_PORTS = ((0x3F8, 4), (0x2F8, 3), (0x3E8, 4), (0x2E8, 3))


class ISASerial(ISADevice):
    """A 16550A UART. As QEMU's ``hw/char/serial-isa.c``.

    :ivar iobase, irq: the port that it has, once realized
    """

    type_name: ClassVar[str] = "isa-serial"
    description: ClassVar[str] = "16550A serial port (COM1 to COM4)"

    index: int | None = prop.uint32(None, maximum=3, help="which COM port, from 0; default: the next free one")
    iobase: int | None = prop.uint32(None, maximum=0xFFF8, help="first I/O port; default: the COM port's")
    irq: int | None = prop.uint32(None, maximum=15, help="ISA interrupt; default: the COM port's")
    chardev: Chardev | None = prop.chardev(help="where characters go and come from; default: nowhere")

    uart: UART = attrs.field(default=None, init=False)

    def do_realize(self) -> None:
        """Take the ports and the chardev.

        :raises RealizeError: no COM port is free, or the ports are another device's
        """
        index = self._free_index() if self.index is None else self.index
        self.index = index
        self.iobase = COM_PORTS[index][0] if self.iobase is None else self.iobase
        irq = self.irq = COM_PORTS[index][1] if self.irq is None else self.irq
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
