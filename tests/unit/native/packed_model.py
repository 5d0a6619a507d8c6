# SPDX-License-Identifier: Apache-2.0
"""A packed virtqueue's device side in plain Python: what the C of ``qd_vring_packed.h`` is held against.

Written from virtio 1.2, section 2.8, for reading. Positions count descriptors from the ring's beginning and never wrap, so
the wrap counter of one is a division, where the C keeps a bit.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from vring_model import INDIRECT, MOST_BUFFERS, NEXT, WRITE, BrokenRingError, Chain

from qdevpy.native.memory import GuestMemory

AVAIL, USED = 1 << 7, 1 << 15
DISABLED, AT = 1, 2


@dataclass
class InFlight:
    """A popped chain: the descriptors it takes; whether the device is done with it, and how much it wrote."""

    count: int
    written: int | None = None


@dataclass
class PackedModel:
    """One ring over guest memory, which the driver may change at any moment."""

    memory: GuestMemory
    num: int
    desc: int
    driver_event: int
    device_event: int
    indirect: bool = True
    event_idx: bool = True
    in_order: bool = False
    start: int = 0
    broken: bool = False
    #: by id, in the order in which they were popped
    flight: dict[int, InFlight] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.next_avail = self.next_used = self.shown = self.decided = self.start
        self.hidden: tuple[int, int] | None = None  # where the flags are that publish() writes, and they
        self.ever_decided = False

    # -- memory

    def wrap(self, position: int) -> bool:
        """2.8.1: 1 at first, and changes with every round."""
        return position // self.num % 2 == 0

    def place(self, position: int) -> int:
        return self.desc + 16 * (position % self.num)

    def packed(self, position: int) -> int:
        return position % self.num | self.wrap(position) << 15

    def is_ram(self, gpa: int, n: int) -> bool:
        return any(r.gpa <= gpa < r.gpa + r.size and gpa + n <= r.gpa + r.size for r in self.memory.regions)

    def read(self, position: int) -> tuple[int, int, int, int]:
        """Address, length, id, flags."""
        address, length, number, flags = struct.unpack("<QIHH", self.memory.read(self.place(position), 16))
        return address, length, number, flags

    def is_available(self, position: int) -> bool:
        flags = self.read(position)[3]
        wrap = self.wrap(position)
        return bool(flags & AVAIL) == wrap and bool(flags & USED) != wrap

    # -- available

    @property
    def inflight(self) -> int:
        return sum(chain.written is None for chain in self.flight.values())

    def pop(self) -> Chain | None:
        if self.broken:
            raise BrokenRingError
        if not self.is_available(self.next_avail):
            return None
        try:
            return self.read_chain()
        except BrokenRingError:
            self.broken = True
            raise

    def read_chain(self) -> Chain:
        chain, position = Chain(0), self.next_avail
        while True:
            if position - self.next_used == self.num or not self.is_available(position):
                raise BrokenRingError
            address, length, number, flags = self.read(position)
            first = position == self.next_avail
            position += 1
            if flags & INDIRECT:
                if not self.indirect or not first or flags & NEXT:
                    raise BrokenRingError
                self.read_table(chain, address, length)
                break
            self.add(chain, address, length, flags)
            if not flags & NEXT:
                break
        if number >= self.num or number in self.flight:
            raise BrokenRingError
        chain.head = number
        self.flight[number] = InFlight(position - self.next_avail)
        self.next_avail = position
        return chain

    def read_table(self, chain: Chain, address: int, length: int) -> None:
        if length == 0 or length % 16 or length // 16 > MOST_BUFFERS or not self.is_ram(address, length):
            raise BrokenRingError
        for i in range(length // 16):
            where, n, _, flags = struct.unpack("<QIHH", self.memory.read(address + 16 * i, 16))
            self.add(chain, where, n, flags)

    def add(self, chain: Chain, address: int, length: int, flags: int) -> None:
        if length == 0 or not self.is_ram(address, length) or (chain.writable and not flags & WRITE):
            raise BrokenRingError
        (chain.writable if flags & WRITE else chain.readable).append((address, length))

    def unpop(self) -> None:
        _, chain = self.flight.popitem()
        self.next_avail -= chain.count

    # -- used

    def push(self, head: int, length: int) -> None:
        if self.broken or head not in self.flight:
            return
        self.flight[head].written = length
        if not self.in_order:
            self.use(head)
            return
        while self.flight and next(iter(self.flight.values())).written is not None:
            self.use(next(iter(self.flight)))

    def use(self, head: int) -> None:
        chain = self.flight.pop(head)
        assert chain.written is not None
        flags = (AVAIL | USED) * self.wrap(self.next_used) | WRITE * bool(chain.written)
        place = self.place(self.next_used)
        self.memory.write(place + 8, struct.pack("<IH", chain.written, head))
        if self.hidden is None:
            self.hidden = (place, flags)
        else:
            self.memory.write(place + 14, struct.pack("<H", flags))
        self.next_used += chain.count

    def publish(self) -> bool:
        """Show what was pushed; whether the driver wants an interrupt (2.8.10)."""
        if self.broken:
            return False
        if self.hidden is not None:
            place, flags = self.hidden
            self.memory.write(place + 14, struct.pack("<H", flags))
            self.hidden = None
            self.shown = self.next_used
        if self.shown == self.decided:
            return False
        passed = {self.packed(position) for position in range(self.decided, self.shown)}
        first = not self.ever_decided
        self.decided, self.ever_decided = self.shown, True
        event, flags = struct.unpack("<HH", self.memory.read(self.driver_event, 4))
        if flags & 3 == DISABLED:
            return False
        if flags & 3 != AT or not self.event_idx:
            return True
        return first or event in passed

    # -- kicks

    def set_kicks(self, enabled: bool) -> bool:
        if self.broken:
            return False
        if not enabled:
            if not self.event_idx:
                self.memory.write(self.device_event, struct.pack("<HH", 0, DISABLED))
            return False
        mode = AT if self.event_idx else 0
        self.memory.write(self.device_event, struct.pack("<HH", self.packed(self.next_avail), mode))
        return self.is_available(self.next_avail)
