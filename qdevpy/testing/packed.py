# SPDX-License-Identifier: Apache-2.0
"""The driver's side of a packed virtqueue, in Python (virtio 1.2, 2.8)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qdevpy.testing.rings import INDIRECT, NEXT, WRITE, Chain, DriverQueue
from qdevpy.virtio import defs

if TYPE_CHECKING:
    from qdevpy.testing.driver import PCIDriver

#: flags that say whose a descriptor is: different: available, equal: used (2.8.1)
AVAIL, USED = 1 << 7, 1 << 15
WRAP = 1 << 15
#: 2.8.10
EVENTS_ENABLED, EVENTS_DISABLED, EVENTS_AT = 0, 1, 2


class PackedQueue(DriverQueue):
    """A packed virtqueue. A chain's head is its buffer id, the number of the descriptor that was free the longest.

    :ivar next: position of the next chain to offer: descriptor, and the driver's wrap counter in bit 15
    :ivar next_used: position of the next used descriptor
    """

    def __init__(self, driver: PCIDriver, index: int, size: int) -> None:
        super().__init__(driver, index, size)
        self.desc = driver.allocator.take(16 * size + 8, 16)
        self.avail = self.desc + 16 * size
        self.used = self.avail + 4
        self.memory.write(self.desc, bytes(16 * size + 8))  # 2.8.13
        self.next = self.next_used = WRAP

    def after(self, position: int, count: int = 1) -> int:
        """The position COUNT descriptors further on."""
        index, wrap = (position & ~WRAP) + count, position & WRAP
        return index - self.size | wrap ^ WRAP if index >= self.size else index | wrap

    # -- offering

    def add_raw(
        self, buffers: Sequence[tuple[int, int, int]], room: Sequence[tuple[int, int]] = (), *, indirect: bool = False
    ) -> int:
        """As :meth:`DriverQueue.add_raw`; the head is the buffer id."""
        if indirect:  # 2.8.7: in order, and without NEXT
            table = self.driver.allocator.take(16 * len(buffers))
            for i, (address, length, flags) in enumerate(buffers):
                self.memory.write(table + 16 * i, struct.pack("<QIHH", address, length, 0, flags))
            buffers = [(table, 16 * len(buffers), INDIRECT)]
        descriptors = [self.free.pop(0) for _ in buffers]
        self.chains[descriptors[0]] = Chain(descriptors[0], descriptors, list(room))
        self.offer(descriptors[0], [(a, n, f | NEXT * (i + 1 < len(buffers))) for i, (a, n, f) in enumerate(buffers)])
        return descriptors[0]

    def offer(self, head: int, descriptors: Sequence[tuple[int, int, int]]) -> None:
        """Write ``(address, length, flags)`` to the next places of the ring, the first one's flags last (2.8.21.1)."""
        place, flags_of_first = self.next, b""
        for address, length, flags in descriptors:
            flags |= AVAIL if self.next & WRAP else USED
            entry = struct.pack("<QIHH", address, length, head, flags)
            if self.next == place:
                flags_of_first, entry = entry[14:], entry[:14]
            self.memory.write(self.desc + 16 * (self.next & ~WRAP), entry)
            self.next = self.after(self.next)
        self.last_offered = place
        self.memory.write(self.desc + 16 * (place & ~WRAP) + 14, flags_of_first)

    def wants_kick(self) -> bool:
        """As :meth:`DriverQueue.wants_kick` (2.8.21.2)."""
        position, mode = self.kick_event
        if mode != EVENTS_AT or not self.driver.has_feature(defs.F_RING_EVENT_IDX):
            return mode != EVENTS_DISABLED
        step = self.last_offered
        while step != self.next:
            if step == position:
                return True
            step = self.after(step)
        return False

    @property
    def next_position(self) -> int:
        """As :meth:`DriverQueue.next_position`."""
        return self.next

    # -- collecting

    def _next_used(self) -> tuple[int, int] | None:
        place = self.desc + 16 * (self.next_used & ~WRAP)
        length, head, flags = struct.unpack("<IHH", self.memory.read(place + 8, 8))
        expected = AVAIL | USED if self.next_used & WRAP else 0
        # a descriptor never written, all zeros, looks used at a wrap counter of 0: what is not in flight cannot be
        if flags & (AVAIL | USED) != expected or not self.in_flight:
            return None
        self.next_used = self.after(self.next_used, len(self.chains[head].descriptors))
        self.free += self.chains[head].descriptors
        return head, length if flags & WRITE else 0

    @property
    def in_flight(self) -> int:
        """Descriptors that were offered and are not used yet."""
        return self.size - len(self.free)

    # -- event suppression (2.8.10)

    def set_used_event(self, position: int) -> None:
        """Interrupt when the descriptor at POSITION is used (EVENT_IDX)."""
        self.memory.write(self.avail, struct.pack("<HH", position, EVENTS_AT))

    @property
    def kick_event(self) -> tuple[int, int]:
        """The device's event suppression structure: position and mode."""
        position, mode = struct.unpack("<HH", self.memory.read(self.used, 4))
        return position, mode

    def set_no_interrupt(self, no: bool) -> None:
        """As :meth:`DriverQueue.set_no_interrupt`."""
        self.memory.write(self.avail, struct.pack("<HH", 0, EVENTS_DISABLED if no else EVENTS_ENABLED))
