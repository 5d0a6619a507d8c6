# SPDX-License-Identifier: Apache-2.0
"""Single-port chips: ``port92`` (fast A20 and reset), ``isa-debug-exit``, ``isa-debugcon``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from qdevpy.errors import RealizeError
from qdevpy.qdev import property as prop
from qdevpy_machine.isa import ISADevice

if TYPE_CHECKING:
    from qdevpy.backend.chardev import Chardev

A20, FAST_RESET = 0x02, 0x01


class Port92(ISADevice):
    """System control port A: bit 0 resets the processor, bit 1 is A20. As QEMU's ``hw/i386/port92.c``."""

    type_name: ClassVar[str] = "port92"
    description: ClassVar[str] = "fast A20 gate and reset"
    gpios: ClassVar[Sequence[tuple[str, str, int]]] = (("out", "a20", 1),)
    user_creatable: ClassVar[bool] = False

    def do_realize(self) -> None:
        """Take port 0x92."""
        self._value = A20
        self.map_ports(0x92, 1, self._read, self._write)

    def do_reset(self) -> None:
        """A20 is open, as firmware leaves it."""
        self._value = A20

    def _read(self, offset: int, size: int) -> int:
        return self._value

    def _write(self, offset: int, value: int, size: int) -> None:
        rising = value & ~self._value & FAST_RESET
        self._value = value & 0xFF
        if rising:
            self.machine.request_reset("port 0x92 reset")


class ISADebugExit(ISADevice):
    """A write ends the machine; the process's status is ``value << 1 | 1``. As QEMU's ``hw/misc/debugexit.c``."""

    type_name: ClassVar[str] = "isa-debug-exit"
    description: ClassVar[str] = "ends the machine with a status that the guest writes"
    category: ClassVar[str] = "Misc"
    qemu_description: ClassVar[str | None] = ""

    iobase: int = prop.uint32(0x501, maximum=0xFFFF, help="first I/O port")
    iosize: int = prop.uint32(2, minimum=1, maximum=8, help="number of ports")

    def do_realize(self) -> None:
        """Take the ports.

        :raises RealizeError: another device has them
        """
        self.map_ports(self.iobase, self.iosize, self._read, self._write)

    def _read(self, offset: int, size: int) -> int:
        return 0

    def _write(self, offset: int, value: int, size: int) -> None:
        status = (value << 1 | 1) & 0xFF  # what the parent process sees of it
        self.machine.request_shutdown(f"isa-debug-exit: the guest wrote {value:#x}, status {status}", status)


class ISADebugCon(ISADevice):
    """Bytes written to a port go to a chardev; reads say that it is there. As QEMU's ``hw/char/debugcon.c``."""

    type_name: ClassVar[str] = "isa-debugcon"
    description: ClassVar[str] = "debug console: one port, output only"
    category: ClassVar[str] = "Misc"
    qemu_description: ClassVar[str | None] = ""

    iobase: int = prop.uint32(0xE9, maximum=0xFFFF, help="I/O port")
    readback: int = prop.uint32(0xE9, maximum=0xFF, help="what the port reads as")
    chardev: Chardev | None = prop.chardev(help="where the bytes go")

    def do_realize(self) -> None:
        """Take the port and the chardev.

        :raises RealizeError: no chardev, or another device has the port
        """
        if self.chardev is None:
            raise RealizeError("needs a chardev; set chardev", device=self.label)
        self.map_ports(self.iobase, 1, lambda offset, size: self.readback, self._write)
        self.chardev.take(self.label)
        self.cleanup.callback(self.chardev.release)

    def _write(self, offset: int, value: int, size: int) -> None:
        assert self.chardev is not None
        self.chardev.write(bytes([value & 0xFF]))  # a full chardev loses it: there is no flow control here
