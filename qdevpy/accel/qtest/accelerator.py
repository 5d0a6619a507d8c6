# SPDX-License-Identifier: Apache-2.0
"""The qtest accelerator: kicks in software, MSIs as writes to memory, interrupt lines that can be listened to."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from qdevpy.accel.base import MsiMessage
from qdevpy.accel.none import NoneAccelerator
from qdevpy.errors import GuestAddressError
from qdevpy.vm.clock import SteppedClock

if TYPE_CHECKING:
    from qdevpy.native.memory import GuestMemory
    from qdevpy.native.space import AddressSpace
    from qdevpy.vm.loop import MainLoop

log = logging.getLogger(__name__)

#: where local APICs take messages (Intel SDM 3A, 11.11.1): interrupts for CPUs that are not there
APIC_WINDOW = range(0xFEE0_0000, 0xFEF0_0000)


class QtestAccelerator(NoneAccelerator):
    """As ``none``; but somebody reads the irqfds, on the main loop, and time is the protocol's.

    :ivar on_gsi: called with every change of an interrupt line, on whichever thread drives it; None: nobody listens
    """

    name: ClassVar[str] = "qtest"

    on_gsi: Callable[[int, bool], None] | None = None

    def make_clock(self, loop: MainLoop) -> SteppedClock:
        """One that moves on command only."""
        self._loop = loop
        return SteppedClock()

    def open(self, memory: GuestMemory, space: AddressSpace) -> None:
        """Nothing to make."""
        super().open(memory, space)
        self._memory = memory

    def close(self) -> None:
        """Nobody reads irqfds from now on."""
        for fd, _ in self.irqfds.values():
            self._loop.remove_reader(fd)
        super().close()

    # -- messages

    def assign_irqfd(self, fd: int, message: MsiMessage) -> int:
        """Read FD on the main loop, and write the message for it. Signals that come before it is read are one, as KVM's."""
        handle = super().assign_irqfd(fd, message)
        self._loop.add_reader(fd, partial(self._signalled, handle))
        return handle

    def deassign_irqfd(self, handle: int) -> None:
        """From now on signals stay pending in the eventfd."""
        self._loop.remove_reader(self.irqfds[handle][0])
        super().deassign_irqfd(handle)

    def _signalled(self, handle: int) -> None:
        fd, message = self.irqfds[handle]
        with suppress(BlockingIOError):
            os.eventfd_read(fd)
            self._send(message)

    def _send(self, message: MsiMessage) -> None:
        """A message is a write of four bytes, wherever its address leads (PCI 3.0, 6.8.1)."""
        if message.address in APIC_WINDOW:
            log.debug("MSI: vector %#x, to a processor", message.data & 0xFF)
            return
        try:
            self._memory.write(message.address, message.data.to_bytes(4, "little"))
        except GuestAddressError:
            self._space.write("mmio", message.address, message.data, 4)

    # -- lines

    def set_gsi(self, gsi: int, level: bool) -> None:
        """Remember the level, and tell who listens."""
        changed = self.gsi_levels.get(gsi, False) != level
        super().set_gsi(gsi, level)
        if changed and self.on_gsi is not None:
            self.on_gsi(gsi, level)
