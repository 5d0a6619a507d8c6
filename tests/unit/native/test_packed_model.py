# SPDX-License-Identifier: Apache-2.0
"""The C of packed rings against the plain Python model, on two copies of the same guest memory."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from packed_model import AVAIL, USED, PackedModel
from two_memories import DATA, DESC, HIGH, RAM, TABLE, TwoMemories, make_memory
from vring_model import INDIRECT, NEXT, WRITE, BrokenRingError, Chain

from qdevpy.native.core import ffi, lib
from qdevpy.native.vdev import VDev
from qdevpy.virtio import defs

DRIVER_EVENT, DEVICE_EVENT = 0x6000, 0x8000
BITS = {defs.F_RING_PACKED, defs.F_VERSION_1}


class Pair(TwoMemories):
    """A packed ring.

    :param start: position of both sides, in descriptors from the ring's beginning
    """

    def __init__(self, num: int, features: set[int], start: int = 0) -> None:
        super().__init__(num, features | BITS)
        self.model = PackedModel(
            self.model_memory,
            num,
            DESC,
            DRIVER_EVENT,
            DEVICE_EVENT,
            indirect=defs.F_RING_INDIRECT_DESC in features,
            event_idx=defs.F_RING_EVENT_IDX in features,
            in_order=defs.F_IN_ORDER in features,
            start=start,
        )
        ring = self.queue.ring
        ring.last_avail = ring.used_idx = start % num
        ring.avail_wrap = ring.used_wrap = self.model.wrap(start)
        # what a driver that has come that far leaves in its descriptors: those of its last round, used
        for i in range(num):
            before = start - 1 - (start - 1 - i) % num
            self.write(DESC + 16 * i + 14, struct.pack("<H", (AVAIL | USED) * (before >= 0 and self.model.wrap(before))))
        assert lib.qd_vq_setup(self.queue, num, DESC, DRIVER_EVENT, DEVICE_EVENT) == 0

    def push(self, head: int, length: int) -> None:
        lib.qd_vq_push(self.queue, head, length)
        self.model.push(head, length)

    def unpop(self) -> None:
        lib.qd_vring_unpop(ffi.addressof(self.queue, "ring"))
        self.model.unpop()

    def agree(self) -> None:
        """Memory and positions are the same."""
        for gpa, n in ((DESC, 16 * self.num), (DEVICE_EVENT, 4)):
            assert self.c_memory.read(gpa, n) == self.model_memory.read(gpa, n)
        ring = self.queue.ring
        if not self.model.broken:
            assert ring.inflight == self.model.inflight
            assert ring.last_avail | ring.avail_wrap << 15 == self.model.packed(self.model.next_avail)
            assert ring.used_idx | ring.used_wrap << 15 == self.model.packed(self.model.next_used)


def descriptor(address: int, length: int, number: int, flags: int) -> bytes:
    return struct.pack("<QIHH", address, length, number, flags)


FEATURES = st.sets(st.sampled_from([defs.F_RING_EVENT_IDX, defs.F_RING_INDIRECT_DESC, defs.F_IN_ORDER]))


class WellBehavedDriver(RuleBasedStateMachine):
    """A driver that keeps the rules, and a device that serves in any order; positions wrap."""

    @initialize(num=st.sampled_from([1, 2, 3, 5, 8, 16, 17]), features=FEATURES, start=st.integers(0, 40))
    def set_up(self, num: int, features: set[int], start: int) -> None:
        self.num, self.features = num, features
        self.pair = Pair(num, features, start)
        self.free = list(range(num))
        self.owned: dict[int, int] = {}
        self.room = num
        self.next = self.next_used = start
        self.inflight: list[Chain] = []
        self.offered: list[int] = []
        self.collected: list[int] = []

    def teardown(self) -> None:
        if hasattr(self, "pair"):
            self.pair.close()

    @rule(out=st.integers(0, 3), into=st.integers(0, 3), indirect=st.booleans(), data=st.data())
    def offer(self, out: int, into: int, indirect: bool, data: st.DataObject) -> None:
        indirect = indirect and defs.F_RING_INDIRECT_DESC in self.features
        kinds = [0] * out + [WRITE] * into
        if not kinds or self.room < (1 if indirect else len(kinds)):
            return
        lengths = data.draw(st.lists(st.integers(1, 5000), min_size=len(kinds), max_size=len(kinds)))
        number = self.free.pop(data.draw(st.integers(0, len(self.free) - 1)))
        buffers = [(DATA + 8192 * i, lengths[i], kind) for i, kind in enumerate(kinds)]
        if indirect:
            table = TABLE + 1024 * number + data.draw(st.sampled_from([0, 1, 8]))  # alignment is not asked for
            ignored = data.draw(st.sampled_from([0, NEXT, AVAIL, USED | INDIRECT]))  # 2.8.7: of no meaning there
            self.pair.write(table, b"".join(descriptor(a, n, 77, kind | ignored) for a, n, kind in buffers))
            buffers = [(table, 16 * len(buffers), INDIRECT)]
        self.place(number, buffers)

    def place(self, number: int, buffers: list[tuple[int, int, int]]) -> None:
        entries = []
        for i, (address, length, flags) in enumerate(buffers):
            position, last = self.next + i, i + 1 == len(buffers)
            flags |= (AVAIL if self.pair.model.wrap(position) else USED) | (0 if last else NEXT)
            # 2.8.6: the id of the last descriptor counts
            entries.append((position, descriptor(address, length, number if last else 0xFFFF, flags)))
        for position, entry in reversed(entries):
            self.pair.write(DESC + 16 * (position % self.num), entry)
        self.owned[number] = len(buffers)
        self.offered.append(number)
        self.room -= len(buffers)
        self.next += len(buffers)

    @rule(mode=st.integers(0, 3), ahead=st.integers(-6, 6))
    def ask_for_events(self, mode: int, ahead: int) -> None:
        position = max(0, self.pair.model.shown + ahead)
        self.pair.write(DRIVER_EVENT, struct.pack("<HH", self.pair.model.packed(position), mode))

    @rule()
    def pop(self) -> None:
        chain = self.pair.pop()
        if chain is not None:
            self.inflight.append(chain)

    @rule(most=st.integers(1, 5))
    def pop_ahead_and_give_back(self, most: int) -> None:
        popped = 0
        while popped < most and self.pair.pop() is not None:
            popped += 1
        for _ in range(popped):
            self.pair.unpop()

    @precondition(lambda self: self.inflight)
    @rule(data=st.data(), length=st.integers(0, 1 << 31))
    def push(self, data: st.DataObject, length: int) -> None:
        chain = self.inflight.pop(data.draw(st.integers(0, len(self.inflight) - 1)))
        self.pair.push(chain.head, length)

    @rule()
    def push_what_is_not_popped(self) -> None:
        self.pair.push(self.num - 1 if self.num - 1 not in self.pair.model.flight else 1023, 1)

    @rule()
    def publish(self) -> None:
        assert lib.qd_vq_publish(self.pair.queue) == self.pair.model.publish()

    @rule(enabled=st.booleans())
    def set_kicks(self, enabled: bool) -> None:
        assert lib.qd_vq_set_kicks(self.pair.queue, enabled) == self.pair.model.set_kicks(enabled)

    @rule()
    def collect(self) -> None:
        """As the driver does it, from memory alone."""
        while self.room < self.num:
            _, _, number, flags = self.pair.model.read(self.next_used)
            if flags & (AVAIL | USED) != (AVAIL | USED) * self.pair.model.wrap(self.next_used):
                return
            count = self.owned.pop(number)
            self.room += count
            self.next_used += count
            self.free.append(number)
            self.collected.append(number)
        assert self.next_used == self.next

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "pair"):
            return
        assert self.pair.queue.ring.error == ffi.NULL
        assert not self.pair.model.broken
        self.pair.agree()
        if defs.F_IN_ORDER in self.features:
            assert self.collected == self.offered[: len(self.collected)]


WellBehavedDriver.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestWellBehavedDriver = WellBehavedDriver.TestCase

#: addresses, lengths and flags at which something could go wrong
ADDRESSES = st.sampled_from(
    [DATA, DATA + 1, TABLE, DESC, RAM - 1, RAM - 16, RAM, HIGH, HIGH + 0xFFF, HIGH - 1, 1 << 63, 2**64 - 1]
)
LENGTHS = st.sampled_from([0, 1, 15, 16, 32, 48, 64, 0x1000, 0x1001, 16 * 1024, 16 * 1025, RAM, 2**31, 2**32 - 1, 2**32 - 16])
FLAGS = st.builds(
    lambda low, state: low | state, st.integers(0, 7), st.sampled_from([AVAIL, AVAIL, AVAIL, USED, AVAIL | USED, 0])
)
DESCRIPTORS = st.lists(st.tuples(ADDRESSES, LENGTHS, st.integers(0, 6), FLAGS), min_size=5, max_size=5)


@settings(max_examples=500, deadline=None)
@given(features=FEATURES, rounds=st.lists(DESCRIPTORS, min_size=1, max_size=3), table=DESCRIPTORS, pushes=st.integers(0, 7))
def test_hostile_ring_is_refused_exactly_where_the_model_refuses(
    features: set[int],
    rounds: list[list[tuple[int, int, int, int]]],
    table: list[tuple[int, int, int, int]],
    pushes: int,
) -> None:
    pair = Pair(5, features)
    try:
        pair.write(TABLE, b"".join(descriptor(*d) for d in table))
        for ring in rounds:  # the same places again, whatever is in use there
            pair.write(DESC, b"".join(descriptor(*d) for d in ring))
            while (chain := pair.pop()) is not None:
                if pushes & 1:
                    pair.push(chain.head, pushes)
                pushes >>= 1
            assert lib.qd_vq_publish(pair.queue) == pair.model.publish()
    except BrokenRingError:
        assert lib.qd_vq_pop(pair.queue, pair.elem, True) == -1  # for ever
        assert not lib.qd_vq_publish(pair.queue)
        assert not lib.qd_vq_set_kicks(pair.queue, True)
    finally:
        pair.agree()
        pair.close()


@settings(max_examples=100, deadline=None)
@given(noise=st.binary(min_size=256, max_size=256), num=st.sampled_from([1, 2, 17, 1024]), steps=st.integers(1, 8))
def test_noise_in_ring_memory_does_no_harm(noise: bytes, num: int, steps: int) -> None:
    pair = Pair(num, {defs.F_RING_EVENT_IDX, defs.F_RING_INDIRECT_DESC})
    try:
        pair.write(DESC, (noise * (16 * num // 256 + 1))[: 16 * num])
        pair.write(DRIVER_EVENT, noise[:4])
        for _ in range(steps):
            chain = pair.pop()
            if chain is None:
                break
            pair.push(chain.head, 5)
            assert lib.qd_vq_publish(pair.queue) == pair.model.publish()
    except BrokenRingError:
        assert pair.queue.ring.error != ffi.NULL
    finally:
        pair.close()


# -- single rules, each with the text that the user reads


def pop_all(pair: Pair) -> None:
    while pair.pop() is not None:
        pass


def broken_by(chain: list[tuple[int, int, int, int]], *, features: set[int] | None = None) -> str:
    """The error after popping from a ring of 4 that begins with CHAIN."""
    pair = Pair(4, {defs.F_RING_INDIRECT_DESC} if features is None else features)
    try:
        pair.write(DESC, b"".join(descriptor(*d) for d in chain))
        with pytest.raises(BrokenRingError):
            pop_all(pair)
        return str(ffi.string(pair.queue.ring.error).decode())
    finally:
        pair.close()


A = AVAIL
RULES = [
    ([(DATA, 0, 0, A)], "descriptor of zero length"),
    ([(RAM, 1, 0, A)], "descriptor points outside guest memory"),
    ([(RAM - 1, 2, 0, A)], "descriptor points outside guest memory"),
    ([(2**64 - 1, 2, 0, A)], "descriptor points outside guest memory"),
    ([(DATA, 1, 0, A | NEXT)], "descriptor chain goes on where nothing is available"),
    ([(DATA, 1, 0, A | NEXT), (DATA, 1, 0, USED)], "descriptor chain goes on where nothing is available"),
    ([(DATA, 1, 0, A | NEXT | WRITE), (DATA, 1, 0, A)], "readable descriptor after a writable one"),
    ([(DATA, 1, 4, A)], "buffer id beyond the queue size"),
    ([(DATA, 1, 0xFFFF, A)], "buffer id beyond the queue size"),
    ([(DATA, 1, 2, A), (DATA, 1, 2, A)], "buffer id of a chain that is in use"),
    ([(DESC, 16, 0, A | INDIRECT | NEXT)], "indirect descriptor where none is allowed"),
    ([(DATA, 1, 0, A | NEXT), (DESC, 16, 0, A | INDIRECT)], "indirect descriptor where none is allowed"),
    ([(TABLE, 0, 0, A | INDIRECT)], "indirect table of a wrong size"),
    ([(TABLE, 17, 0, A | INDIRECT)], "indirect table of a wrong size"),
    ([(TABLE, 16 * 1025, 0, A | INDIRECT)], "indirect table of a wrong size"),
    ([(RAM - 16, 32, 0, A | INDIRECT)], "indirect table outside guest memory"),
]


@pytest.mark.parametrize(("chain", "error"), RULES)
def test_chain_that_breaks_a_rule_breaks_the_ring(chain: list[tuple[int, int, int, int]], error: str) -> None:
    assert broken_by(chain) == error


def test_indirect_without_the_feature_breaks_the_ring() -> None:
    assert broken_by([(TABLE, 16, 0, A | INDIRECT)], features=set()) == "indirect descriptor where none is allowed"


@pytest.mark.parametrize(("offered", "more"), [(1, NEXT), (4, 0)], ids=["by a chain", "one by one"])
def test_descriptor_in_use_that_is_offered_again_breaks_the_ring(offered: int, more: int) -> None:
    pair = Pair(4, set())
    pair.write(DESC, b"".join(descriptor(DATA, 8, i, A) for i in range(offered)))
    pop_all(pair)
    pair.write(DESC, descriptor(DATA, 8, 3, USED))  # as available in the next round
    pair.write(DESC + 16 * offered, b"".join(descriptor(DATA, 8, 3, A | more) for _ in range(4 - offered)))
    with pytest.raises(BrokenRingError):
        pair.pop()
    assert ffi.string(pair.queue.ring.error) == b"more descriptors offered than the queue has entries"
    pair.close()


@pytest.mark.parametrize("flags", [0, USED, AVAIL | USED], ids=["zeros", "other round", "used"])
def test_descriptor_that_is_not_available_is_none(flags: int) -> None:
    pair = Pair(4, set())
    pair.write(DESC, descriptor(DATA, 1, 0, flags))
    assert pair.pop() is None
    pair.close()


def test_indirect_table_of_1024_buffers_is_taken_whole() -> None:
    pair = Pair(2, {defs.F_RING_INDIRECT_DESC})
    pair.write(TABLE, b"".join(descriptor(DATA + i, 1, 0, 0) for i in range(1024)))
    pair.write(DESC, descriptor(TABLE, 16 * 1024, 0, A | INDIRECT))
    chain = pair.pop()
    assert chain is not None
    assert len(chain.readable) == 1024
    pair.close()


def test_batch_becomes_visible_with_its_first_descriptor() -> None:
    pair = Pair(4, set())
    pair.write(DESC, b"".join(descriptor(DATA, 8, i, A) for i in range(4)))
    for _ in range(3):
        pair.pop()
    for head in (2, 0, 1):
        pair.push(head, 8)
    flags = [pair.model.read(i)[3] for i in range(4)]
    assert flags == [A, A | USED | WRITE, A | USED | WRITE, A]
    pair.agree()
    assert lib.qd_vq_publish(pair.queue)
    ring = [struct.unpack("<QIHH", pair.c_memory.read(DESC + 16 * i, 16))[1:] for i in range(3)]
    assert ring == [(8, number, A | USED | WRITE) for number in (2, 0, 1)]
    pair.close()


@pytest.mark.parametrize(
    ("num", "desc", "driver", "device", "error"),
    [
        (0, DESC, DRIVER_EVENT, DEVICE_EVENT, "queue size is not from 1 to 1024"),
        (1025, DESC, DRIVER_EVENT, DEVICE_EVENT, "queue size is not from 1 to 1024"),
        (5, DESC + 8, DRIVER_EVENT, DEVICE_EVENT, "a ring's address is not aligned"),
        (5, DESC, DRIVER_EVENT + 2, DEVICE_EVENT, "a ring's address is not aligned"),
        (5, DESC, DRIVER_EVENT, DEVICE_EVENT + 2, "a ring's address is not aligned"),
        (5, RAM - 64, DRIVER_EVENT, DEVICE_EVENT, "a ring lies outside guest memory"),
        (5, DESC, RAM, DEVICE_EVENT, "a ring lies outside guest memory"),
        (5, DESC, DRIVER_EVENT, RAM, "a ring lies outside guest memory"),
        (3, DESC, DRIVER_EVENT, DEVICE_EVENT, "a position lies beyond the ring"),
    ],
)
def test_setup_with_unacceptable_ring_says_why(num: int, desc: int, driver: int, device: int, error: str) -> None:
    pair = Pair(4, set(), start=3)
    assert lib.qd_vq_setup(pair.queue, num, desc, driver, device) == -1
    assert ffi.string(pair.queue.ring.error).decode() == error
    assert lib.qd_vq_pop(pair.queue, pair.elem, True) == -1
    pair.close()


@pytest.mark.parametrize("bits", [{defs.F_RING_PACKED}, {defs.F_IN_ORDER}, set()])
def test_ring_is_packed_with_version_1_only(bits: set[int]) -> None:
    memory = make_memory()
    vdev = VDev(memory)
    vdev.features = sum(1 << bit for bit in bits)
    queue: Any = vdev.add_queue()
    assert lib.qd_vq_setup(queue, 4, DESC, DRIVER_EVENT, DEVICE_EVENT) == 0
    assert not queue.ring.packed
    assert not queue.ring.in_order
    vdev.close()
    memory.close()


def test_chains_in_flight_survive_a_stop_and_a_start() -> None:
    pair = Pair(4, {defs.F_IN_ORDER})
    pair.write(DESC, b"".join(descriptor(DATA, 8, i, A) for i in range(3)))
    for _ in range(3):
        pair.pop()
    pair.push(1, 5)  # waits for 0
    assert lib.qd_vq_setup(pair.queue, 4, DESC, DRIVER_EVENT, DEVICE_EVENT) == 0
    pair.push(0, 5)
    pair.agree()
    assert pair.model.next_used == 2
    pair.close()
