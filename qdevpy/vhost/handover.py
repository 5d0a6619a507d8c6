# SPDX-License-Identifier: Apache-2.0
"""How a device's queues come to a back end: directly (:class:`Direct`), or through a relay (``relay.py``).

In both cases a back end sees a vring: addresses, a position to begin at, an eventfd that kicks it and one that it signals.
"""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from qdevpy.errors import GuestAddressError
from qdevpy.vhost.messages import Region, RingAddresses
from qdevpy.virtio import defs

if TYPE_CHECKING:
    from qdevpy.virtio.device import VirtIODevice
    from qdevpy.virtio.queue import VirtQueue

log = logging.getLogger(__name__)

#: features of rings, which whoever serves them must have (virtio 1.2, 6)
RING_FEATURES = sum(
    1 << feature
    for feature in (
        defs.F_NOTIFY_ON_EMPTY,
        defs.F_RING_INDIRECT_DESC,
        defs.F_RING_EVENT_IDX,
        defs.F_VERSION_1,
        defs.F_ACCESS_PLATFORM,
        defs.F_RING_PACKED,
        defs.F_IN_ORDER,
        defs.F_NOTIFICATION_DATA,
    )
)


class Handover(ABC):
    """The queues of one device that a back end serves.

    :cvar features: features of rings that the back end must have for the driver to have them
    :cvar withheld: those that the driver cannot have whatever the back end has
    :ivar kicks: eventfds of the queues that are handed over, by index
    """

    features: int = RING_FEATURES
    #: resetting a queue alone (2.6.1) has no message
    withheld: int = 1 << defs.F_RING_RESET

    def __init__(self) -> None:
        self.kicks: dict[int, int] = {}

    @abstractmethod
    def take(self, queue: VirtQueue) -> None:
        """Hand a queue over that the driver has set up.

        :raises GuestAddressError: its ring is not wholly in guest memory, or not aligned
        """

    @abstractmethod
    def give_back(self) -> None:
        """All are the device's again."""

    @abstractmethod
    def call(self, index: int) -> int:
        """The eventfd that the back end signals."""

    @abstractmethod
    def begin(self, queue: VirtQueue, *, successor: bool) -> tuple[RingAddresses, int]:
        """The ring, and the entry to begin with.

        :param successor: another back end than the one that served it last
        """

    @abstractmethod
    def stopped(self, queue: VirtQueue, base: int) -> None:
        """The back end has stopped, and would have gone on at entry BASE."""

    @abstractmethod
    def lost(self, queue: VirtQueue) -> str | None:
        """The back end is gone, without a word about where it stopped; why nobody can go on with the queue, if so."""

    def regions(self) -> Sequence[Region]:
        """Override: memory that the back end needs beside the guest's."""
        return ()

    def forget(self, queue: VirtQueue) -> None:  # noqa: B027 -- nothing, most often
        """Override: the driver reset the device; nothing is in flight."""

    def signal(self, index: int) -> None:
        """As the back end would."""
        with suppress(BlockingIOError):
            os.eventfd_write(self.call(index), 1)

    def kick(self, index: int) -> None:
        """As the driver would."""
        with suppress(BlockingIOError):
            os.eventfd_write(self.kicks[index], 1)


class Direct(Handover):
    """The back end has the guest's own rings and eventfds: no thread of ours is on the way.

    :param call_changed: the driver gave queue INDEX another vector, and its eventfd is FD from now on
    """

    def __init__(self, device: VirtIODevice, call_changed: Callable[[int, int], None]) -> None:
        super().__init__()
        self._device = device
        self._call_changed = call_changed
        self._calls: list[int] = []  # of all queues of the device

    def take(self, queue: VirtQueue) -> None:
        """Host and guest notifiers; the ring is checked before anybody else looks at it."""
        self._addresses(queue)
        bindings = self._device.bindings
        if not self._calls:
            self._calls = bindings.set_guest_notifiers(True, self._notifier_changed)
        kick = bindings.set_host_notifier(queue.index, True)
        assert kick is not None
        self.kicks[queue.index] = kick

    def give_back(self) -> None:
        """In reverse."""
        for index in self.kicks:
            self._device.bindings.set_host_notifier(index, False)
        self.kicks.clear()
        if self._calls:
            self._calls = self._device.bindings.set_guest_notifiers(False)

    def _notifier_changed(self, index: int, fd: int) -> None:
        self._calls[index] = fd
        if index in self.kicks:
            self._call_changed(index, fd)

    def call(self, index: int) -> int:
        """The vector's, or one that raises INTx."""
        return self._calls[index]

    def begin(self, queue: VirtQueue, *, successor: bool) -> tuple[RingAddresses, int]:
        """Where it was stopped, or lost; in a packed ring both positions count (bits 0 to 15 and 16 to 31)."""
        avail, used = queue.positions
        return self._addresses(queue), avail | used << 16 if self._is_packed else avail

    def stopped(self, queue: VirtQueue, base: int) -> None:
        """Between the used index and BASE is at most a ring of requests."""
        if self._is_packed:
            avail, used = base & 0xFFFF, base >> 16
            if max(avail & 0x7FFF, used & 0x7FFF) < queue.size:  # bit 15 is the wrap counter
                queue.positions = (avail, used)
            else:
                log.warning("%s: %s: the back end says it stopped at %#x", self._device.label, queue.label, base)
            return
        used = self._used_index(queue)
        if base > 0xFFFF or (base - used & 0xFFFF) > queue.size:
            what = "the back end says it stopped at entry"
            log.warning("%s: %s: %s %d, with %d used", self._device.label, queue.label, what, base, used)
            base = used
        queue.positions = (base, used)

    def lost(self, queue: VirtQueue) -> str | None:
        """Go on where the used ring ends, so that what it had begun is served again. A packed ring has no such index."""
        if self._is_packed:
            return f"{queue.label}: the back end is gone, and a packed ring does not say where it was"
        used = self._used_index(queue)
        queue.positions = (used, used)
        return None

    @property
    def _is_packed(self) -> bool:
        return self._device.has_feature(defs.F_RING_PACKED)

    def _used_index(self, queue: VirtQueue) -> int:
        return int.from_bytes(self._device.machine.memory.read(queue.used + 2, 2), "little")

    def _addresses(self, queue: VirtQueue) -> RingAddresses:
        memory, n = self._device.machine.memory, queue.size
        if self._is_packed:  # descriptor ring, driver's and device's event suppression structure (2.8)
            return ring_addresses(memory.address_of, queue, (16 * n, 16), (4, 4), (4, 4))
        return ring_addresses(memory.address_of, queue, (16 * n, 16), (6 + 2 * n, 2), (6 + 8 * n, 4))


def ring_addresses(at: Callable[[int, int], int], queue: VirtQueue, *parts: tuple[int, int]) -> RingAddresses:
    """A ring's three PARTS, (bytes, alignment) each, in this process.

    :raises GuestAddressError: not wholly in guest memory, or not aligned (2.7, 2.8)
    """
    found = []
    for address, (length, alignment) in zip((queue.desc, queue.avail, queue.used), parts, strict=True):
        if address % alignment:
            raise GuestAddressError(address, length)
        found.append(at(address, length))
    return RingAddresses(*found)
