# SPDX-License-Identifier: Apache-2.0
"""The C ring against the plain Python model, on two copies of the same guest memory."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from two_memories import DATA, DESC, HIGH, RAM, TABLE, TwoMemories
from vring_model import INDIRECT, NEXT, WRITE, BrokenRingError, Chain, RingModel

from qdevpy.native.core import ffi, lib
from qdevpy.virtio import defs

AVAIL, USED = 0x6000, 0x8000


class Pair(TwoMemories):
    """A split ring.

    :param start: index of both sides
    """

    def __init__(self, num: int, features: set[int], start: int = 0) -> None:
        super().__init__(num, features)
        self.queue.ring.last_avail = self.queue.ring.used_idx = start
        self.model = RingModel(
            self.model_memory,
            num,
            DESC,
            AVAIL,
            USED,
            indirect=defs.F_RING_INDIRECT_DESC in features,
            event_idx=defs.F_RING_EVENT_IDX in features,
            in_order={defs.F_IN_ORDER, defs.F_VERSION_1} <= features,
            notify_on_empty=defs.F_NOTIFY_ON_EMPTY in features and defs.F_VERSION_1 not in features,
            start=start,
        )
        self.write(AVAIL + 2, struct.pack("<H", start))
        self.write(USED + 2, struct.pack("<H", start))
        assert lib.qd_vq_setup(self.queue, num, DESC, AVAIL, USED) == 0

    def same_memory(self) -> bool:
        n = 6 + 8 * self.num
        return self.c_memory.read(USED, n) == self.model_memory.read(USED, n)


def descriptor(address: int, length: int, flags: int, next_: int) -> bytes:
    return struct.pack("<QIHH", address, length, flags, next_)


FEATURES = st.sets(
    st.sampled_from([defs.F_RING_EVENT_IDX, defs.F_RING_INDIRECT_DESC, defs.F_NOTIFY_ON_EMPTY, defs.F_VERSION_1, defs.F_IN_ORDER])
)
STARTS = st.sampled_from([0, 1, 0x7FFF, 0xFFFD, 0xFFFF])


class WellBehavedDriver(RuleBasedStateMachine):
    """A driver that keeps the rules, and a device that serves in any order; indexes wrap."""

    @initialize(order=st.integers(0, 4), features=FEATURES, start=STARTS)
    def set_up(self, order: int, features: set[int], start: int) -> None:
        self.num = 1 << order
        self.features = features
        self.pair = Pair(self.num, features, start)
        self.free = list(range(self.num))
        self.owned: dict[int, list[int]] = {}
        self.avail_idx = start
        self.inflight: list[Chain] = []
        self.waiting: set[int] = set()

    def teardown(self) -> None:
        if hasattr(self, "pair"):
            self.pair.close()

    @rule(out=st.integers(0, 3), into=st.integers(0, 3), indirect=st.booleans(), data=st.data())
    def offer(self, out: int, into: int, indirect: bool, data: st.DataObject) -> None:
        indirect = indirect and defs.F_RING_INDIRECT_DESC in self.features
        kinds = [0] * out + [WRITE] * into
        if not kinds or len(self.free) < (1 if indirect else len(kinds)):
            return
        lengths = data.draw(st.lists(st.integers(1, 5000), min_size=len(kinds), max_size=len(kinds)))
        mine = [self.free.pop() for _ in range(1 if indirect else len(kinds))]
        if indirect:
            table = TABLE + 1024 * mine[0] + data.draw(st.sampled_from([0, 1, 8]))  # alignment is not asked for
            self.put(table, range(len(kinds)), kinds, lengths)
            self.pair.write(DESC + 16 * mine[0], descriptor(table, 16 * len(kinds), INDIRECT, 0))
        else:
            self.put(DESC, mine, kinds, lengths)
        self.owned[mine[0]] = mine
        self.pair.write(AVAIL + 4 + 2 * (self.avail_idx % self.num), struct.pack("<H", mine[0]))
        self.avail_idx = (self.avail_idx + 1) & 0xFFFF
        self.pair.write(AVAIL + 2, struct.pack("<H", self.avail_idx))

    def put(self, table: int, places: Any, kinds: list[int], lengths: list[int]) -> None:
        places = list(places)
        for i, place in enumerate(places):
            last = i + 1 == len(places)
            flags = kinds[i] | (0 if last else NEXT)
            self.pair.write(table + 16 * place, descriptor(DATA + 8192 * i, lengths[i], flags, 0 if last else places[i + 1]))

    @rule(flag=st.integers(0, 1))
    def suppress_interrupts(self, flag: int) -> None:
        self.pair.write(AVAIL, struct.pack("<H", flag))

    @rule(ahead=st.integers(-2, 6))
    def ask_for_event(self, ahead: int) -> None:
        event = (self.pair.model.published + ahead) & 0xFFFF
        self.pair.write(AVAIL + 4 + 2 * self.num, struct.pack("<H", event))

    @rule()
    def pop(self) -> None:
        chain = self.pair.pop()
        if chain is not None:
            self.inflight.append(chain)

    @rule(most=st.integers(1, 4))
    def pop_ahead_and_give_back(self, most: int) -> None:
        popped = 0
        while popped < most and self.pair.pop() is not None:
            popped += 1
        for _ in range(popped):
            lib.qd_vring_unpop(ffi.addressof(self.pair.queue, "ring"))
            self.pair.model.unpop()

    @precondition(lambda self: self.inflight)
    @rule(data=st.data(), length=st.integers(0, 1 << 31))
    def push(self, data: st.DataObject, length: int) -> None:
        chain = self.inflight.pop(data.draw(st.integers(0, len(self.inflight) - 1)))
        lib.qd_vq_push(self.pair.queue, chain.head, length)
        self.pair.model.push(chain.head, length)
        self.waiting.add(chain.head)
        for head in [head for head in self.waiting if head not in self.pair.model.flight]:
            self.waiting.remove(head)
            self.free += self.owned.pop(head)

    @rule()
    def publish(self) -> None:
        assert lib.qd_vq_publish(self.pair.queue) == self.pair.model.publish()

    @rule(enabled=st.booleans())
    def set_kicks(self, enabled: bool) -> None:
        assert lib.qd_vq_set_kicks(self.pair.queue, enabled) == self.pair.model.set_kicks(enabled)

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "pair"):
            return
        assert self.pair.queue.ring.error == ffi.NULL
        assert not self.pair.model.broken
        assert self.pair.queue.ring.inflight == self.pair.model.inflight
        assert self.pair.same_memory()


WellBehavedDriver.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestWellBehavedDriver = WellBehavedDriver.TestCase

#: addresses and lengths at which something could go wrong
ADDRESSES = st.sampled_from(
    [DATA, DATA + 1, TABLE, DESC, USED, RAM - 1, RAM - 16, RAM, HIGH, HIGH + 0xFFF, HIGH - 1, 1 << 63, 2**64 - 1]
)
LENGTHS = st.sampled_from([0, 1, 15, 16, 32, 48, 64, 0x1000, 0x1001, 16 * 1024, 16 * 1025, RAM, 2**31, 2**32 - 1, 2**32 - 16])
DESCRIPTORS = st.lists(st.tuples(ADDRESSES, LENGTHS, st.integers(0, 7), st.integers(0, 5)), min_size=8, max_size=8)


@settings(max_examples=400, deadline=None)
@given(
    features=FEATURES,
    ring=DESCRIPTORS,
    table=DESCRIPTORS,
    heads=st.lists(st.integers(0, 5), min_size=4, max_size=4),
    offered=st.lists(st.integers(-1, 5), min_size=1, max_size=4),
)
def test_hostile_ring_is_refused_exactly_where_the_model_refuses(
    features: set[int],
    ring: list[tuple[int, int, int, int]],
    table: list[tuple[int, int, int, int]],
    heads: list[int],
    offered: list[int],
) -> None:
    pair = Pair(4, features)
    try:
        pair.write(DESC, b"".join(descriptor(*d) for d in ring))
        pair.write(TABLE, b"".join(descriptor(*d) for d in table))
        pair.write(AVAIL + 4, struct.pack("<4H", *heads))
        idx = 0
        for more in offered:
            idx = (idx + more) & 0xFFFF
            pair.write(AVAIL + 2, struct.pack("<H", idx))
            while (chain := pair.pop()) is not None:
                if more % 2:
                    lib.qd_vq_push(pair.queue, chain.head, 1)
                    pair.model.push(chain.head, 1)
            assert lib.qd_vq_publish(pair.queue) == pair.model.publish()
    except BrokenRingError:
        assert lib.qd_vq_pop(pair.queue, pair.elem, True) == -1  # for ever
        assert not lib.qd_vq_publish(pair.queue)
        assert not lib.qd_vq_set_kicks(pair.queue, True)
    finally:
        assert pair.same_memory()
        pair.close()


@settings(max_examples=100, deadline=None)
@given(noise=st.binary(min_size=256, max_size=256), num=st.sampled_from([1, 2, 16, 1024]), steps=st.integers(1, 8))
def test_noise_in_ring_memory_does_no_harm(noise: bytes, num: int, steps: int) -> None:
    pair = Pair(num, {defs.F_RING_EVENT_IDX, defs.F_RING_INDIRECT_DESC})
    try:
        pair.write(DESC, (noise * (16 * num // 256 + 1))[: 16 * num])
        pair.write(AVAIL, noise[: 6 + 2 * num])
        for _ in range(steps):
            if pair.pop() is None:
                break
    except BrokenRingError:
        assert pair.queue.ring.error != ffi.NULL
    finally:
        pair.close()


# -- single rules, each with the text that the user reads


def broken_by(chain: list[tuple[int, int, int, int]], *, features: set[int] | None = None, head: int = 0) -> str:
    """The error after popping one chain from a ring of 4."""
    pair = Pair(4, {defs.F_RING_INDIRECT_DESC} if features is None else features)
    try:
        pair.write(DESC, b"".join(descriptor(*d) for d in chain))
        pair.write(AVAIL + 2, struct.pack("<HH", 1, head))
        with pytest.raises(BrokenRingError):
            pair.pop()
        return str(ffi.string(pair.queue.ring.error).decode())
    finally:
        pair.close()


RULES = [
    ([(DATA, 0, 0, 0)], "descriptor of zero length"),
    ([(RAM, 1, 0, 0)], "descriptor points outside guest memory"),
    ([(RAM - 1, 2, 0, 0)], "descriptor points outside guest memory"),
    ([(2**64 - 1, 2, 0, 0)], "descriptor points outside guest memory"),
    ([(DATA, 1, NEXT, 0)], "descriptor chain loops"),
    ([(DATA, 1, NEXT, 4)], "descriptor index beyond its table"),
    ([(DATA, 1, NEXT | WRITE, 1), (DATA, 1, 0, 0)], "readable descriptor after a writable one"),
    ([(TABLE, 16, INDIRECT | NEXT, 1)], "indirect descriptor where none is allowed"),
    ([(DESC, 16, INDIRECT, 0)], "indirect descriptor where none is allowed"),
    ([(TABLE, 0, INDIRECT, 0)], "indirect table of a wrong size"),
    ([(TABLE, 17, INDIRECT, 0)], "indirect table of a wrong size"),
    ([(TABLE, 16 * 1025, INDIRECT, 0)], "indirect table of a wrong size"),
    ([(RAM - 16, 32, INDIRECT, 0)], "indirect table outside guest memory"),
]


@pytest.mark.parametrize(("chain", "error"), RULES)
def test_chain_that_breaks_a_rule_breaks_the_ring(chain: list[tuple[int, int, int, int]], error: str) -> None:
    assert broken_by(chain) == error


def test_indirect_without_the_feature_breaks_the_ring() -> None:
    assert broken_by([(TABLE, 16, INDIRECT, 0)], features=set()) == "indirect descriptor where none is allowed"


def test_head_beyond_the_table_breaks_the_ring() -> None:
    assert broken_by([(DATA, 1, 0, 0)], head=4) == "avail entry beyond the descriptor table"


def test_normal_descriptors_before_an_indirect_one_are_one_chain() -> None:
    pair = Pair(4, {defs.F_RING_INDIRECT_DESC})
    pair.write(DESC, descriptor(DATA, 8, NEXT, 1) + descriptor(TABLE, 32, INDIRECT | WRITE, 0))
    pair.write(TABLE, descriptor(DATA + 64, 8, NEXT, 1) + descriptor(DATA + 128, 8, WRITE, 0))
    pair.write(AVAIL + 2, struct.pack("<HH", 1, 0))
    assert pair.pop() == Chain(0, [(DATA, 8), (DATA + 64, 8)], [(DATA + 128, 8)])
    pair.close()


def test_chain_of_more_than_1024_buffers_breaks_the_ring() -> None:
    pair = Pair(2, {defs.F_RING_INDIRECT_DESC})
    pair.write(DESC, descriptor(DATA, 1, NEXT, 1) + descriptor(TABLE, 16 * 1024, INDIRECT, 0))
    pair.write(TABLE, b"".join(descriptor(DATA, 1, NEXT if i < 1023 else 0, i + 1) for i in range(1024)))
    pair.write(AVAIL + 2, struct.pack("<HH", 1, 0))
    with pytest.raises(BrokenRingError):
        pair.pop()
    assert ffi.string(pair.queue.ring.error) == b"descriptor chain longer than 1024 buffers"
    pair.close()


@pytest.mark.parametrize(
    ("num", "desc", "avail", "used", "error"),
    [
        (0, DESC, AVAIL, USED, "queue size is not a power of two from 1 to 1024"),
        (3, DESC, AVAIL, USED, "queue size is not a power of two from 1 to 1024"),
        (2048, DESC, AVAIL, USED, "queue size is not a power of two from 1 to 1024"),
        (8, DESC + 8, AVAIL, USED, "a ring's address is not aligned"),
        (8, DESC, AVAIL + 1, USED, "a ring's address is not aligned"),
        (8, DESC, AVAIL, USED + 2, "a ring's address is not aligned"),
        (8, RAM - 64, AVAIL, USED, "a ring lies outside guest memory"),
        (8, DESC, RAM - 4, USED, "a ring lies outside guest memory"),
        (8, DESC, AVAIL, RAM - 4, "a ring lies outside guest memory"),
    ],
)
def test_setup_with_unacceptable_ring_says_why(num: int, desc: int, avail: int, used: int, error: str) -> None:
    pair = Pair(4, set())
    assert lib.qd_vq_setup(pair.queue, num, desc, avail, used) == -1
    assert ffi.string(pair.queue.ring.error).decode() == error
    assert lib.qd_vq_pop(pair.queue, pair.elem, True) == -1
    pair.close()


def test_need_event_is_true_exactly_where_the_event_is_crossed() -> None:
    for old, n in ((0, 1), (5, 3), (0xFFFE, 4), (0xFFFF, 1)):
        new = (old + n) & 0xFFFF
        crossed = {(old + i) & 0xFFFF for i in range(n)}
        for event in range(0x10000):
            assert lib.qd_vring_need_event(event, new, old) == (event in crossed)


# -- iovec helpers


@settings(max_examples=200, deadline=None)
@given(parts=st.lists(st.binary(max_size=9), max_size=6), offset=st.integers(0, 40), length=st.integers(0, 40))
def test_iov_helpers_see_the_parts_as_one(parts: list[bytes], offset: int, length: int) -> None:
    buffers = [ffi.new("char[]", part or b"\0") for part in parts]
    iov = ffi.new("struct iovec[]", max(1, len(parts)))
    for i, buffer in enumerate(buffers):
        iov[i].iov_base, iov[i].iov_len = buffer, len(parts[i])
    whole = b"".join(parts)
    expected = whole[offset : offset + length]

    to = ffi.new("char[]", 64)
    assert lib.qd_iov_read(iov, len(parts), offset, to, length) == len(expected)
    assert ffi.buffer(to, len(expected))[:] == expected

    sliced = ffi.new("struct iovec[]", max(1, len(parts)))
    n = lib.qd_iov_slice(iov, len(parts), offset, length, sliced)
    assert b"".join(ffi.buffer(sliced[i].iov_base, sliced[i].iov_len)[:] for i in range(n)) == expected

    assert lib.qd_iov_write(iov, len(parts), offset, b"x" * 64, length) == len(expected)
    after = b"".join(ffi.buffer(b, len(p))[:] for b, p in zip(buffers, parts, strict=True))
    assert after == whole[:offset] + b"x" * len(expected) + whole[offset + len(expected) :]


def test_more_chains_offered_than_the_queue_holds_breaks_the_ring() -> None:
    """The driver offers one chain again and again; the device never holds more than the queue's size."""
    pair = Pair(4, set())
    pair.write(DESC, descriptor(DATA, 8, 0, 0))
    for idx in range(1, 5):
        pair.write(AVAIL + 2, struct.pack("<H", idx))
        assert pair.pop() is not None
    pair.write(AVAIL + 2, struct.pack("<H", 5))
    with pytest.raises(BrokenRingError):
        pair.pop()
    assert ffi.string(pair.queue.ring.error) == b"more chains offered than the queue has entries"
    pair.close()
