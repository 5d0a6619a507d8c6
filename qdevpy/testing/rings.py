# SPDX-License-Identifier: Apache-2.0
"""The driver's side of a virtqueue, in Python: what both forms share, and split rings (virtio 1.2, 2.7)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from qdevpy.virtio import defs

if TYPE_CHECKING:
    from qdevpy.testing.driver import PCIDriver

PAGE = 4096
NEXT, WRITE, INDIRECT = 1, 2, 4


@attrs.define
class Chain:
    """A chain that was offered.

    :ivar head: what the device gives back
    :ivar descriptors: those of the ring that it takes
    :ivar writable: ``(address, length)`` of each buffer for the device to write
    """

    head: int
    descriptors: list[int]
    writable: list[tuple[int, int]]


class DriverQueue:
    """One virtqueue, driver's side.

    :param size: entries
    :ivar desc: address of the descriptor area; ``avail`` and ``used``: of the driver's and the device's
    :ivar done: bytes written into chains that are used, by head, until :meth:`wait` has taken them
    :ivar order: heads of all chains ever used, in the order in which they came
    """

    desc: int
    avail: int
    used: int

    def __init__(self, driver: PCIDriver, index: int, size: int) -> None:
        self.driver = driver
        self.memory = driver.machine.memory
        self.index = index
        self.size = size
        self.free = list(range(size))
        self.chains: dict[int, Chain] = {}
        self.done: dict[int, int] = {}
        self.order: list[int] = []

    # -- offering

    def add(self, readable: Sequence[bytes] = (), writable: Sequence[int] = (), *, indirect: bool = False) -> int:
        """Copy READABLE buffers in, make room for WRITABLE ones, and offer the chain; its head."""
        buffers = [(self._put(data), len(data), 0) for data in readable]
        room = [(self.driver.allocator.take(max(length, 1)), length) for length in writable]
        buffers += [(address, length, WRITE) for address, length in room]
        return self.add_raw(buffers, room, indirect=indirect)

    def add_raw(
        self, buffers: Sequence[tuple[int, int, int]], room: Sequence[tuple[int, int]] = (), *, indirect: bool = False
    ) -> int:
        """Offer ``(address, length, flags)`` as they are, sound or not; the chain's head."""
        raise NotImplementedError

    def _put(self, data: bytes) -> int:
        address = self.driver.allocator.take(max(len(data), 1))
        self.memory.write(address, data)
        return address

    def kick(self) -> None:
        """Write the notify register, always."""
        self.driver.notify(self.index)

    def wants_kick(self) -> bool:
        """Whether the device asks to be kicked for the chain offered last."""
        raise NotImplementedError

    def kick_if_wanted(self) -> bool:
        """Write the notify register where the device asks for it (2.7.13.4, 2.8.21.2), for the chain offered last."""
        wanted = self.wants_kick()
        if wanted:
            self.kick()
        return wanted

    @property
    def next_position(self) -> int:
        """What a kick with NOTIFICATION_DATA says: where the next chain will be, 15 bits, and its wrap counter (2.9)."""
        raise NotImplementedError

    # -- collecting

    def collect(self) -> int:
        """Take what the device has used since last time; how many chains."""
        count = 0
        while (used := self._next_used()) is not None:
            head, length = used
            self.done[head] = length
            self.order.append(head)
            count += 1
        return count

    def _next_used(self) -> tuple[int, int] | None:
        """Head and bytes written of the next used chain, whose descriptors are free again."""
        raise NotImplementedError

    def wait(self, head: int, timeout: float = 10.0) -> int:
        """Bytes that the device says it wrote into chain HEAD; runs the main loop meanwhile.

        :raises TimeoutError: it is not used in time
        """
        what = f"queue {self.index}: chain {head}"
        self.driver.machine.wait_for(lambda: self.collect() >= 0 and head in self.done, what, timeout)
        return self.done.pop(head)

    def read(self, head: int) -> bytes:
        """The writable buffers of a chain, joined."""
        return b"".join(self.memory.read(address, length) for address, length in self.chains[head].writable)

    def request(
        self, readable: Sequence[bytes] = (), writable: Sequence[int] = (), *, indirect: bool = False
    ) -> tuple[int, bytes]:
        """Offer, kick, wait: bytes written, and the writable buffers."""
        head = self.add(readable, writable, indirect=indirect)
        self.kick()
        written = self.wait(head)
        return written, self.read(head)

    # -- event suppression (2.7.7, 2.7.10, 2.8.10)

    def set_no_interrupt(self, no: bool) -> None:
        """Whether the driver wants no interrupts; without EVENT_IDX."""
        raise NotImplementedError

    def _load(self, address: int) -> int:
        return int.from_bytes(self.memory.read(address, 2), "little")

    def _store(self, address: int, value: int) -> None:
        self.memory.write(address, value.to_bytes(2, "little"))


class SplitQueue(DriverQueue):
    """A split virtqueue, laid out as the legacy interface wants it."""

    def __init__(self, driver: PCIDriver, index: int, size: int) -> None:
        super().__init__(driver, index, size)
        self.desc = driver.allocator.take(16 * size + 6 + 2 * size + PAGE + 6 + 8 * size, PAGE)
        self.avail = self.desc + 16 * size
        self.used = (self.avail + 6 + 2 * size + PAGE - 1) & ~(PAGE - 1)
        self.memory.write(self.desc, bytes(self.used + 6 + 8 * size - self.desc))  # as drivers do
        self.avail_idx = 0
        self.seen = 0

    # -- offering

    def add_raw(
        self, buffers: Sequence[tuple[int, int, int]], room: Sequence[tuple[int, int]] = (), *, indirect: bool = False
    ) -> int:
        """As :meth:`DriverQueue.add_raw`; the head is the first descriptor's index."""
        if indirect:
            table = self.driver.allocator.take(16 * len(buffers))
            self._write_table(table, buffers, range(len(buffers)))
            buffers = [(table, 16 * len(buffers), INDIRECT)]
        descriptors = [self.free.pop(0) for _ in buffers]
        self._write_table(self.desc, buffers, descriptors)
        self.chains[descriptors[0]] = Chain(descriptors[0], descriptors, list(room))
        self.offer(descriptors[0])
        return descriptors[0]

    def write_descriptor(self, index: int, address: int, length: int, flags: int, following: int = 0) -> None:
        """A descriptor, whatever it says."""
        self.memory.write(self.desc + 16 * index, struct.pack("<QIHH", address, length, flags, following))

    def _write_table(self, table: int, buffers: Sequence[tuple[int, int, int]], indices: Sequence[int]) -> None:
        for i, (address, length, flags) in enumerate(buffers):
            last = i == len(buffers) - 1
            following = 0 if last else indices[i + 1]
            entry = struct.pack("<QIHH", address, length, flags if last else flags | NEXT, following)
            self.memory.write(table + 16 * indices[i], entry)

    def offer(self, head: int) -> None:
        """Put HEAD into the available ring and raise its index."""
        self._store(self.avail + 4 + 2 * (self.avail_idx % self.size), head)
        self.avail_idx = (self.avail_idx + 1) & 0xFFFF
        self._store(self.avail + 2, self.avail_idx)

    def wants_kick(self) -> bool:
        """As :meth:`DriverQueue.wants_kick` (2.7.13.4)."""
        if self.driver.has_feature(defs.F_RING_EVENT_IDX):
            return self.avail_event == (self.avail_idx - 1) & 0xFFFF
        return not self._load(self.used) & 1

    @property
    def next_position(self) -> int:
        """As :meth:`DriverQueue.next_position`: the available index, without a wrap counter."""
        return self.avail_idx & 0x7FFF

    # -- collecting

    def _next_used(self) -> tuple[int, int] | None:
        if self.seen == self.used_index:
            return None
        head, length = struct.unpack("<II", self.memory.read(self.used + 4 + 8 * (self.seen % self.size), 8))
        self.seen = (self.seen + 1) & 0xFFFF
        self.free += self.chains[head].descriptors
        return head, length

    @property
    def used_index(self) -> int:
        """The device's used index, as it is in memory now."""
        return self._load(self.used + 2)

    # -- event suppression (2.7.7, 2.7.10)

    def set_used_event(self, index: int) -> None:
        """Interrupt when the used index passes INDEX (EVENT_IDX)."""
        self._store(self.avail + 4 + 2 * self.size, index & 0xFFFF)

    @property
    def avail_event(self) -> int:
        """Kick when the available index passes this (EVENT_IDX)."""
        return self._load(self.used + 4 + 8 * self.size)

    def set_no_interrupt(self, no: bool) -> None:
        """VIRTQ_AVAIL_F_NO_INTERRUPT."""
        self._store(self.avail, int(no))
