# SPDX-License-Identifier: Apache-2.0
"""Taps: what they see of a queue, and what they can do to it, whoever serves it and whatever form its ring has."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from null_device import NullDevice
from ring_forms import FORMS, OFFER, InOrderDriver
from virtio_pci_rig import plugged

from qdevpy.native.core import ffi, lib
from qdevpy.native.tap import Chain, QueueTap
from qdevpy.testing.driver import ModernDriver
from qdevpy.testing.packed import WRAP, PackedQueue
from qdevpy.testing.rings import DriverQueue
from qdevpy.virtio import defs
from qdevpy.virtio.queue import VirtQueue

NATIVE, PYTHON = 0, 1
CASES = [(driver, index) for driver in (ModernDriver, *FORMS) for index in (NATIVE, PYTHON)]
NAMES = [f"{driver.__name__}-{'python' if index else 'native'}" for driver, index in CASES]


class Recorder(QueueTap):
    """Writes down what it sees; keeps the chains whose data is in ``keep``, swallows those in ``swallow``.

    :ivar log: what happened, in order
    :ivar heads: by data, of what it keeps or swallows
    """

    def __init__(self, queue: VirtQueue, name: str = "") -> None:
        super().__init__(queue.pointer)
        self.name = name
        self.log: list[tuple[Any, ...]] = []
        self.keep: set[bytes] = set()
        self.swallow: set[bytes] = set()
        self.heads: dict[bytes, int] = {}
        self.interrupt: bool | None = None

    def kicked(self, way: int) -> None:
        self.log.append(("kicked", way))

    def popped(self, chain: Chain) -> bool:
        data = chain.read()
        self.heads[data] = chain.head
        self.log.append(("popped", data))
        return data not in self.keep

    def pushed(self, head: int, length: int) -> int | None:
        chain = self.chain(head)
        assert chain is not None
        self.log.append(("pushed", chain.read(), length))
        return None if chain.read() in self.swallow else length

    def decided(self, interrupt: bool) -> bool:
        self.log.append(("decided", interrupt))
        return interrupt if self.interrupt is None else self.interrupt

    def forgotten(self) -> None:
        self.log.append(("forgotten",))

    def seen(self, what: str) -> list[Any]:
        """The first argument of all events WHAT."""
        return [entry[1] for entry in self.log if entry[0] == what]


class Rig:
    """A queue with a tap, and its driver's side."""

    def __init__(self, driver: Any, index: int) -> None:
        self.driver = driver
        self.queue: VirtQueue = driver.device.queues[index]
        self.ring: DriverQueue = driver.queues[index]
        self.tap = Recorder(self.queue)
        self.tap.add()

    def offer(self, data: bytes) -> int:
        return self.ring.add([data], [8])

    def used(self) -> list[int]:
        """Heads that came back so far, in order."""
        self.ring.collect()
        return self.ring.order

    def hand_over(self, data: bytes) -> None:
        assert self.tap.hand_over(self.tap.heads[data])
        if not self.queue.is_native:
            self.queue.kick()

    @property
    def interrupts(self) -> int:
        return self.queue.counters()["interrupts"]


@contextmanager
def tapped(driver_class: type[Any], index: int, **properties: Any) -> Iterator[Rig]:
    with ExitStack() as stack:
        driver = stack.enter_context(plugged(driver_class, NullDevice, **{"ioeventfd": "off", **OFFER, **properties}))
        driver.start()
        rig = Rig(driver, index)
        stack.callback(rig.tap.remove)
        yield rig


@pytest.fixture(params=CASES, ids=NAMES)
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    driver_class, index = request.param
    with tapped(driver_class, index) as rig:
        yield rig


# -- looking


def test_tap_sees_kick_chain_completion_and_interrupt_in_order(rig: Rig) -> None:
    written, _ = rig.ring.request([b"ab"], [8])
    assert rig.tap.log == [
        ("kicked", lib.QD_KICK_SYNC),
        ("popped", b"ab"),
        ("pushed", b"ab", written),
        ("decided", True),
    ]  # fmt: skip


def test_tap_that_only_looks_changes_nothing_over_many_turns_of_the_ring(rig: Rig) -> None:
    for n in range(200):
        rig.ring.request([b"%d" % n], [8], indirect=False)
    assert rig.tap.seen("popped") == [b"%d" % n for n in range(200)]
    assert rig.queue.counters()["requests"] == 200
    assert rig.queue.inflight == 0


@pytest.mark.parametrize("index", [NATIVE, PYTHON])
def test_kick_through_ioeventfd_is_named_so(index: int) -> None:
    with tapped(ModernDriver, index, ioeventfd="on") as rig:
        rig.ring.request([b"ab"], [8])
        assert rig.tap.seen("kicked") == [lib.QD_KICK_IOEVENTFD]


def test_tap_that_came_late_sees_what_comes_later(rig: Rig) -> None:
    rig.tap.remove()
    rig.ring.request([b"before"], [8])
    rig.tap.add()
    rig.ring.request([b"after"], [8])
    assert rig.tap.seen("popped") == [b"after"]


def test_taps_are_asked_from_the_guest_to_the_device_and_back(rig: Rig) -> None:
    behind = Recorder(rig.queue)
    order: list[str] = []
    rig.tap.popped = lambda chain: bool(order.append("first popped")) or True  # type: ignore[method-assign]
    behind.popped = lambda chain: bool(order.append("second popped")) or True  # type: ignore[method-assign]
    rig.tap.pushed = lambda head, length: order.append("first pushed") or length  # type: ignore[method-assign,func-returns-value]
    behind.pushed = lambda head, length: order.append("second pushed") or length  # type: ignore[method-assign,func-returns-value]
    behind.add()
    rig.ring.request([b"ab"], [8])
    behind.remove()
    assert order == ["first popped", "second popped", "second pushed", "first pushed"]


def test_removed_tap_sees_nothing_and_the_ring_is_as_without(rig: Rig) -> None:
    rig.tap.remove()
    rig.ring.request([b"ab"], [8])
    assert rig.tap.log == []
    assert rig.queue.pointer.ring.tapped == ffi.NULL
    rig.tap.add()


# -- changing


def test_kept_chain_is_passed_by_and_completed_by_the_tap(rig: Rig) -> None:
    rig.tap.keep = {b"mine"}
    kept, other = rig.offer(b"mine"), rig.offer(b"theirs")
    rig.ring.kick()
    in_order = rig.driver.has_feature(defs.F_IN_ORDER)
    assert rig.used() == ([] if in_order else [other])
    chain = rig.tap.chain(kept)
    assert chain is not None
    assert chain.write(b"E", -1) == 1
    before = rig.interrupts
    assert rig.tap.complete(kept, 5)
    assert rig.used() == ([kept, other] if in_order else [other, kept])
    assert rig.ring.done[kept] == 5
    assert rig.ring.read(kept)[-1:] == b"E"
    assert rig.interrupts == before + 1
    rig.ring.request([b"more"], [8])


def test_chain_completed_in_the_callback_is_seen_at_once(rig: Rig) -> None:
    def popped(chain: Chain) -> bool:
        return not rig.tap.complete_now(chain.head, 3)

    rig.tap.popped = popped  # type: ignore[method-assign]
    assert rig.ring.request([b"ab"], [8])[0] == 3
    assert rig.tap.seen("pushed") == []
    assert rig.interrupts == 1


def test_kept_chain_is_not_waited_for_and_survives_a_pause(rig: Rig) -> None:
    rig.tap.keep = {b"mine"}
    head = rig.offer(b"mine")
    rig.ring.kick()
    assert rig.queue.inflight == 0
    rig.queue.stop()
    rig.queue.start()
    rig.hand_over(b"mine")
    assert rig.used() == [head]


def test_kept_chain_is_handed_over_later_and_seen_once(rig: Rig) -> None:
    rig.tap.keep = {b"mine"}
    head = rig.offer(b"mine")
    rig.ring.kick()
    assert rig.used() == []
    rig.hand_over(b"mine")
    assert rig.used() == [head]
    assert rig.tap.seen("popped") == [b"mine"]
    assert rig.tap.seen("pushed") == [b"mine"]
    assert not rig.tap.hand_over(head)
    assert rig.queue.counters()["requests"] == 1


def test_chain_handed_over_goes_to_the_taps_behind(rig: Rig) -> None:
    behind = Recorder(rig.queue)
    behind.add()
    rig.tap.keep = {b"mine"}
    rig.offer(b"mine")
    rig.ring.kick()
    assert behind.seen("popped") == []
    rig.hand_over(b"mine")
    behind.remove()
    assert behind.seen("popped") == [b"mine"]


def test_kept_chain_completed_while_the_queue_stands_still_is_seen_when_it_goes_on(rig: Rig) -> None:
    rig.tap.keep = {b"mine"}
    head = rig.offer(b"mine")
    rig.ring.kick()
    rig.queue.stop()
    assert rig.tap.complete(head, 2)
    assert rig.used() == []
    rig.queue.start()
    rig.queue.kick()
    assert rig.used() == [head]
    assert rig.ring.done[head] == 2


def test_swallowed_completion_is_not_seen_before_the_tap_says_so(rig: Rig) -> None:
    rig.tap.swallow = {b"mine"}
    head = rig.offer(b"mine")
    rig.ring.kick()
    assert rig.used() == []
    assert rig.queue.inflight == 0
    assert rig.tap.complete(head, 4)
    assert rig.used() == [head]
    assert rig.ring.done[head] == 4


def test_length_is_changed_on_the_way_to_the_driver(rig: Rig) -> None:
    rig.tap.pushed = lambda head, length: length + 77  # type: ignore[method-assign]
    assert rig.ring.request([], [8])[0] == 77


def test_chain_completed_twice_is_used_twice(rig: Rig) -> None:
    head = rig.ring.add([], [8])
    rig.ring.kick()
    assert rig.used() == [head]
    rig.tap.keep = {b"mine"}  # the driver waits for something: only then does it look
    rig.offer(b"mine")
    rig.ring.kick()
    assert rig.tap.complete(head, 9)
    assert rig.used() == [head, head]
    assert rig.ring.done[head] == 9
    assert rig.queue.pointer.ring.error == ffi.NULL


@pytest.mark.parametrize(("asked", "forced"), [(True, False), (False, True)])
def test_interrupt_is_lost_or_spurious_as_the_tap_decides(rig: Rig, asked: bool, forced: bool) -> None:
    rig.ring.request([b"one"], [8])
    if not rig.driver.has_feature(defs.F_RING_EVENT_IDX):
        rig.ring.set_no_interrupt(not asked)
    elif isinstance(rig.ring, PackedQueue):
        rig.ring.set_used_event(2 | WRAP if asked else 40 | WRAP)
    else:
        rig.ring.set_used_event(1 if asked else 40)
    before = rig.interrupts
    rig.tap.interrupt = forced
    rig.offer(b"ab")
    rig.ring.kick()
    assert rig.tap.seen("decided") == [True, asked]
    assert rig.interrupts == before + forced


# -- rules


def test_device_has_a_chain_so_the_tap_cannot_complete_it() -> None:
    with tapped(ModernDriver, PYTHON) as rig:
        found = []
        rig.driver.device.handle_output = lambda queue: found.append(queue.pop())
        head = rig.offer(b"ab")
        rig.ring.kick()
        assert not rig.tap.complete(head, 0)
        rig.queue.push(found[0], 1)
        rig.queue.flush()
        assert rig.used() == [head]


def test_reset_forgets_what_was_kept(rig: Rig) -> None:
    rig.tap.keep = {b"mine"}
    head = rig.offer(b"mine")
    rig.ring.kick()
    rig.driver.set_status(0)
    assert ("forgotten",) in rig.tap.log
    assert not rig.tap.complete(head, 1)
    assert not rig.tap.hand_over(head)


@pytest.mark.parametrize("driver_class", [ModernDriver, InOrderDriver])
@pytest.mark.parametrize("index", [NATIVE, PYTHON])
def test_chain_offered_while_a_tap_has_it_breaks_the_device_alone(driver_class: type[Any], index: int) -> None:
    with tapped(driver_class, index) as rig:
        rig.tap.keep = {b"mine"}
        rig.ring.offer(rig.offer(b"mine"))  # type: ignore[attr-defined]
        rig.ring.kick()
        rig.driver.machine.wait_for(lambda: rig.driver.device.broken, "NEEDS_RESET")
        assert rig.driver.device.broken.endswith("chain offered that is in use")


def test_newer_chain_kept_does_not_confuse_a_device_that_gives_the_older_one_back() -> None:
    with tapped(ModernDriver, PYTHON) as rig:
        first, kept, last = rig.offer(b"first"), rig.offer(b"kept"), rig.offer(b"last")
        rig.tap.keep = {b"kept"}
        rounds: list[list[bytes]] = []

        def serve(queue: VirtQueue) -> None:
            one, two = queue.pop(), queue.pop()
            assert one is not None
            assert two is not None
            rounds.append([one.read(), two.read()])
            if len(rounds) == 1:
                lib.qd_vring_unpop(ffi.addressof(queue.pointer.ring))
                lib.qd_vring_unpop(ffi.addressof(queue.pointer.ring))
                return
            for element in (one, two):
                queue.push(element, 0)
            queue.flush()

        rig.driver.device.handle_output = serve
        rig.ring.kick()
        assert rig.queue.inflight == 0
        rig.queue.kick()
        assert rounds == [[b"first", b"last"]] * 2
        assert rig.used() == [first, last]
        assert rig.tap.complete(kept, 0)
        assert rig.tap.seen("popped") == [b"first", b"kept", b"last"]
        assert rig.queue.counters()["requests"] == 3


def test_callback_that_fails_is_logged_and_changes_nothing(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*arguments: Any) -> Any:
        raise RuntimeError("no tap")

    rig.tap.popped = rig.tap.pushed = rig.tap.decided = fail  # type: ignore[method-assign]
    with caplog.at_level(logging.ERROR):
        head = rig.offer(b"ab")
        rig.ring.kick()
    assert rig.used() == [head]
    assert rig.interrupts == 1
    assert [record.message for record in caplog.records] == [f"in a tap's {name}" for name in ("popped", "pushed", "decided")]


def test_tap_comes_and_goes_on_a_queue_that_an_iothread_serves() -> None:
    with tapped(ModernDriver, NATIVE, ioeventfd="on") as rig:
        for n in range(50):
            rig.tap.remove()
            heads = [rig.offer(b"%d" % n) for _ in range(4)]
            rig.ring.kick()
            rig.tap.add()
            for head in heads:
                rig.ring.wait(head)
        assert len(rig.ring.order) == 200
