# SPDX-License-Identifier: Apache-2.0
"""A split virtqueue's device side in plain Python: what the C of ``qd_vring.h`` is held against.

Written from virtio 1.2, section 2.7, for reading; one difference of state to a textbook is wanted: like the C, the model
reads ``avail->idx`` only once all entries that it knows of are popped.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from qdevpy.native.memory import GuestMemory

NEXT, WRITE, INDIRECT = 1, 2, 4
MOST_BUFFERS = 1024


class BrokenRingError(Exception):
    """The driver broke a rule."""


@dataclass
class Chain:
    """A popped chain: ``(address, length)`` of its buffers."""

    head: int
    readable: list[tuple[int, int]] = field(default_factory=list)
    writable: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class RingModel:
    """One ring over guest memory, which the driver may change at any moment."""

    memory: GuestMemory
    num: int
    desc: int
    avail: int
    used: int
    indirect: bool = True
    event_idx: bool = True
    notify_on_empty: bool = False
    in_order: bool = False
    start: int = 0
    broken: bool = False
    #: in order: bytes written by head, None while the device has the chain
    flight: dict[int, int | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.last_avail = self.shadow = self.start
        self.used_idx = self.published = self.decided = self.start
        self.ever_decided = False
        self.inflight = 0

    # -- memory

    def get16(self, gpa: int) -> int:
        return int.from_bytes(self.memory.read(gpa, 2), "little")

    def is_ram(self, gpa: int, n: int) -> bool:
        return any(r.gpa <= gpa < r.gpa + r.size and gpa + n <= r.gpa + r.size for r in self.memory.regions)

    # -- 2.7.13: available

    def pending(self) -> int:
        if self.shadow == self.last_avail:
            self.shadow = self.get16(self.avail + 2)
        n = (self.shadow - self.last_avail) & 0xFFFF
        if n > self.num:
            self.broken = True
            raise BrokenRingError
        return n

    def pop(self) -> Chain | None:
        if self.broken:
            raise BrokenRingError
        if self.pending() == 0:
            return None
        try:
            chain = self.read_chain()
        except BrokenRingError:
            self.broken = True
            raise
        self.last_avail = (self.last_avail + 1) & 0xFFFF
        self.inflight += 1
        return chain

    def read_chain(self) -> Chain:
        if self.inflight >= self.num:
            raise BrokenRingError
        head = self.get16(self.avail + 4 + 2 * (self.last_avail % self.num))
        chain = Chain(head)
        self.walk(chain, self.desc, self.num, head, inside=False)
        if self.in_order:
            if head in self.flight:
                raise BrokenRingError
            self.flight[head] = None
        return chain

    def unpop(self) -> None:
        self.last_avail = (self.last_avail - 1) & 0xFFFF
        self.inflight -= 1
        if self.in_order:
            self.flight.popitem()

    def walk(self, chain: Chain, table: int, num: int, index: int, *, inside: bool) -> None:
        seen = 0
        while True:
            if index >= num or seen == num:
                raise BrokenRingError
            seen += 1
            address, length, flags, next_ = struct.unpack("<QIHH", self.memory.read(table + 16 * index, 16))
            if flags & INDIRECT:
                allowed = self.indirect and not inside and not flags & NEXT
                if not allowed or length == 0 or length % 16 or length // 16 > MOST_BUFFERS or not self.is_ram(address, length):
                    raise BrokenRingError
                self.walk(chain, address, length // 16, 0, inside=True)
                return
            if length == 0 or not self.is_ram(address, length):
                raise BrokenRingError
            if len(chain.readable) + len(chain.writable) == MOST_BUFFERS:
                raise BrokenRingError
            if flags & WRITE:
                chain.writable.append((address, length))
            elif chain.writable:
                raise BrokenRingError
            else:
                chain.readable.append((address, length))
            if not flags & NEXT:
                return
            index = next_

    # -- 2.7.8, 2.7.14: used

    def push(self, head: int, length: int) -> None:
        if self.broken:
            return
        self.inflight -= 1
        if not self.in_order:
            self.use(head, length)
            return
        self.flight[head] = length
        while self.flight:  # 2.7.9: those before it come first
            oldest, written = next(iter(self.flight.items()))
            if written is None:
                return
            del self.flight[oldest]
            self.use(oldest, written)

    def use(self, head: int, length: int) -> None:
        self.memory.write(self.used + 4 + 8 * (self.used_idx % self.num), struct.pack("<II", head, length))
        self.used_idx = (self.used_idx + 1) & 0xFFFF

    def publish(self) -> bool:
        """Show what was pushed; whether the driver wants an interrupt (2.7.7, 2.7.10)."""
        if self.broken:
            return False
        self.memory.write(self.used + 2, struct.pack("<H", self.used_idx))
        self.published = self.used_idx
        new = {(self.decided + i) & 0xFFFF for i in range((self.published - self.decided) & 0xFFFF)}
        if not new:
            return False
        first = not self.ever_decided
        self.decided, self.ever_decided = self.published, True
        if self.notify_on_empty and self.inflight == 0 and self.is_empty():
            return True
        if self.broken:
            return False
        if not self.event_idx:
            return not self.get16(self.avail) & 1
        # the driver wants to hear of the used entry with index used_event
        return first or self.get16(self.avail + 4 + 2 * self.num) in new

    def is_empty(self) -> bool:
        try:
            return self.pending() == 0
        except BrokenRingError:
            return False

    # -- 2.7.13.4: kicks

    def set_kicks(self, enabled: bool) -> bool:
        if self.broken:
            return False
        if not enabled:
            if not self.event_idx:
                self.memory.write(self.used, struct.pack("<H", 1))
            return False
        if self.event_idx:
            self.memory.write(self.used + 4 + 8 * self.num, struct.pack("<H", self.last_avail))
        else:
            self.memory.write(self.used, struct.pack("<H", 0))
        self.shadow = self.last_avail
        try:
            return self.pending() > 0
        except BrokenRingError:
            return False
