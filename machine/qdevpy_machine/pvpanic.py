# SPDX-License-Identifier: Apache-2.0
"""``pvpanic``: a port by which a guest's kernel says that it panicked. As QEMU's ``hw/misc/pvpanic-isa.c``."""

from __future__ import annotations

import logging
from typing import ClassVar

from qdevpy.qdev import property as prop
from qdevpy_machine.isa import ISADevice

log = logging.getLogger(__name__)

PANICKED, CRASH_LOADED = 1, 2


class PVPanic(ISADevice):
    """One port: reads say which events there are, writes say that one happened."""

    type_name: ClassVar[str] = "pvpanic"
    description: ClassVar[str] = "a guest's kernel says here that it panicked"
    category: ClassVar[str] = "Misc"
    qemu_description: ClassVar[str | None] = ""

    ioport: int = prop.uint16(0x505, help="I/O port")
    events: int = prop.uint8(PANICKED | CRASH_LOADED, help="events on offer: 1 panicked, 2 a crash kernel takes over")

    def do_realize(self) -> None:
        """Take the port.

        :raises RealizeError: another device has it
        """
        self.map_ports(self.ioport, 1, lambda offset, size: self.events, self._write)

    def _write(self, offset: int, value: int, size: int) -> None:
        if value & ~(PANICKED | CRASH_LOADED):
            log.warning("%s: the guest wrote %#x: an event that there is not", self.label, value)
        if value & PANICKED:
            self.machine.request_panic()
        elif value & CRASH_LOADED:
            from qdevpy.vm.event_types import GuestCrashloaded

            self.machine.events.emit(GuestCrashloaded(action="run"))
