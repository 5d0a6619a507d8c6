# SPDX-License-Identifier: Apache-2.0
"""I/O threads that poll before they sleep: what is found without a kick, and that nobody is forgotten meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from qdevpy.native.core import ffi, lib
from qdevpy.native.iothread import IOThread, Polling
from qdevpy.native.memory import GuestMemory
from qdevpy.virtio import defs

#: grows from nothing to its limit within two events, and does not end while a test runs
FOREVER = Polling(max_ns=60 * 10**9, grow=1 << 40)
DESC, AVAIL, USED, DATA, SIZE = 0x1000, 0x2000, 0x3000, 0x8000, 8
EVENT_IDX, VERSION_1 = 1 << defs.F_RING_EVENT_IDX, 1 << defs.F_VERSION_1
NO_NOTIFY = 1

pytestmark = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="with one CPU nothing is polled")


@pytest.fixture
def thread() -> Iterator[IOThread]:
    thread = IOThread("test", FOREVER)
    while thread.statistics()["window_ns"] < FOREVER.max_ns:
        assert thread.thread_id  # an event; the time to poll grows with two of them
    yield thread
    thread.close()


def wait_for(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within 30 s"
        time.sleep(0.0001)  # lets the thread have Python's lock, for handlers in Python


class Handler:
    """An eventfd in the loop; with a poll() of its own where asked for."""

    def __init__(self, thread: IOThread, *, polled: bool) -> None:
        self.thread = thread
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.work = False  # what poll() answers
        self.late_work = False  # what the end of polling answers
        self.signals = self.polls = self.served = 0
        self.polling: list[bool] = []
        self._callbacks = [
            ffi.callback("void(struct qd_fd *, uint32_t)", self.ready),
            ffi.callback("bool(struct qd_fd *)", self.poll),
            ffi.callback("bool(struct qd_fd *, bool)", self.set_polling),
        ]
        self.pointer = ffi.new("struct qd_fd *", {"fd": self.fd, "events": 1, "ready": self._callbacks[0]})
        if polled:
            self.pointer.poll, self.pointer.polling = self._callbacks[1:]
        assert lib.qd_loop_add(thread.pointer, self.pointer) == 0

    def ready(self, handler: object, events: int) -> None:
        if events:
            os.eventfd_read(self.fd)
            self.signals += 1
        else:
            self.work = self.late_work = False
            self.served += 1

    def poll(self, handler: object) -> bool:
        self.polls += 1
        return self.work

    def set_polling(self, handler: object, on: bool) -> bool:
        self.polling.append(on)
        return not on and self.late_work

    def signal(self) -> None:
        """And wait until it was served."""
        before = self.signals
        os.eventfd_write(self.fd, 1)
        wait_for(lambda: self.signals > before, "a signal that is served")

    def start_polling(self) -> None:
        self.signal()
        wait_for(lambda: self.polling == [True], "polling")
        self.polling.clear()

    def close(self) -> None:
        lib.qd_loop_del(self.thread.pointer, self.pointer)
        os.close(self.fd)


@pytest.fixture
def make_handler(thread: IOThread) -> Iterator[Callable[..., Handler]]:
    handlers: list[Handler] = []

    def make(*, polled: bool = True) -> Handler:
        handlers.append(Handler(thread, polled=polled))
        return handlers[-1]

    yield make
    for handler in handlers:
        handler.close()


MakeHandler = Callable[..., Handler]


def test_polled_handler_with_work_is_called_without_a_signal(thread: IOThread, make_handler: MakeHandler) -> None:
    handler = make_handler()
    handler.start_polling()
    signals = handler.signals
    for round_ in range(1, 4):
        handler.work = True
        wait_for(lambda n=round_: handler.served == n, "work that is found")
    assert handler.signals == signals
    assert thread.statistics()["polls_hit"] >= 3
    assert thread.statistics()["polled_ns"] > 0


def test_handler_without_poll_is_served_while_others_are_polled(make_handler: MakeHandler) -> None:
    polled, other = make_handler(), make_handler(polled=False)
    polled.start_polling()
    for _ in range(10):
        other.signal()
    assert polled.polling == []  # it went on all the time


def test_call_is_run_while_handlers_are_polled(thread: IOThread, make_handler: MakeHandler) -> None:
    handler = make_handler()
    handler.start_polling()
    for _ in range(10):
        assert thread.thread_id > 0
    assert handler.polling == []


def test_polling_ends_when_it_is_switched_off(thread: IOThread, make_handler: MakeHandler) -> None:
    handler = make_handler()
    handler.start_polling()
    thread.set_polling(Polling(0))
    wait_for(lambda: handler.polling == [False], "the end of polling")
    polls = handler.polls
    handler.work = True
    handler.signal()
    assert (handler.polls, handler.served) == (polls, 0)


def test_work_that_shows_at_the_end_of_polling_is_done(thread: IOThread, make_handler: MakeHandler) -> None:
    handler = make_handler()
    handler.start_polling()
    handler.late_work = True
    thread.set_polling(Polling(0))
    wait_for(lambda: handler.served == 1, "late work")


def test_handler_that_leaves_is_polled_no_more(thread: IOThread, make_handler: MakeHandler) -> None:
    first, second = make_handler(), make_handler()
    first.start_polling()
    second.close()
    polls = second.polls
    seen = first.polls
    wait_for(lambda: first.polls > seen + 3, "more rounds")
    assert second.polls == polls
    second.fd = os.eventfd(0)  # for the fixture


def test_thread_that_may_use_one_cpu_only_never_polls() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        thread = IOThread("test", FOREVER)
    finally:
        os.sched_setaffinity(0, before)
    handler = Handler(thread, polled=True)
    for _ in range(5):
        handler.signal()
    handler.close()
    assert handler.polls == 0
    thread.close()


def test_silence_longer_than_the_limit_lets_the_thread_sleep(make_handler: MakeHandler, thread: IOThread) -> None:
    thread.set_polling(Polling(1000))
    handler = make_handler()
    for _ in range(3):
        time.sleep(0.002)  # far beyond 1 us: this is about silence
        handler.signal()
    assert thread.statistics()["polls_hit"] == 0
    assert thread.statistics()["sleeps"] >= 3


class Ring:
    """A queue on the thread, and its driver's side."""

    def __init__(self, thread: IOThread, features: int, ops: Any) -> None:
        self.memory = GuestMemory()
        self.memory.add_ram(0, 1 << 16)
        self.thread = thread
        self.features = features
        self.vdev = lib.qd_vdev_new(self.memory.pointer)
        self.vdev.features = features
        self.vq = lib.qd_vdev_add_queue(self.vdev)
        self.ops = ops  # kept alive for C
        self.vq.ops, self.vq.loop = ops, thread.pointer
        self.kick = os.eventfd(0)
        self.offered = 0
        for i in range(SIZE):
            self.memory.write(DESC + 16 * i, DATA.to_bytes(8, "little") + (64).to_bytes(8, "little"))
        assert lib.qd_vq_setup(self.vq, SIZE, DESC, AVAIL, USED) == 0
        assert lib.qd_vq_start(self.vq) == 0
        assert lib.qd_vq_attach(self.vq, self.kick) == 0

    def _word(self, address: int) -> int:
        return int.from_bytes(self.memory.read(address, 2), "little")

    @property
    def used_idx(self) -> int:
        return self._word(USED + 2)

    @property
    def asked_for_kicks(self) -> bool:
        """Whether the driver has to kick for what it offered last (2.7.7, 2.7.10)."""
        if not self.features & EVENT_IDX:
            return not self._word(USED) & NO_NOTIFY
        event = self._word(USED + 4 + 8 * SIZE)
        return bool(lib.qd_vring_need_event(event, self.offered & 0xFFFF, (self.offered - 1) & 0xFFFF))

    def offer(self) -> None:
        self.memory.write(AVAIL + 4 + 2 * (self.offered % SIZE), (0).to_bytes(2, "little"))
        self.offered += 1
        self.memory.write(AVAIL + 2, (self.offered & 0xFFFF).to_bytes(2, "little"))

    def offer_and_kick(self) -> None:
        self.offer()
        os.eventfd_write(self.kick, 1)

    def start_polling(self) -> None:
        before = self.vq.kicks_ioeventfd
        self.offer_and_kick()
        wait_for(lambda: self.vq.kicks_ioeventfd > before and self.vq.ring.polled, "a kick that is served, and polling")

    def close(self) -> None:
        lib.qd_vq_stop(self.vq)
        os.close(self.kick)
        lib.qd_vdev_free(self.vdev)
        self.memory.close()


@pytest.fixture(params=[VERSION_1, VERSION_1 | EVENT_IDX], ids=["flags", "event-idx"])
def ring(thread: IOThread, request: pytest.FixtureRequest) -> Iterator[Ring]:
    ring = Ring(thread, request.param, lib.qd_null_ops)
    yield ring
    ring.close()


def test_polled_queue_is_served_although_its_driver_does_not_kick(ring: Ring) -> None:
    ring.start_polling()
    kicks = ring.vq.kicks_ioeventfd
    for _ in range(100):
        ring.offer()
        wait_for(lambda: ring.used_idx == ring.offered & 0xFFFF, "a chain that is found")
        assert not ring.asked_for_kicks
    assert ring.vq.kicks_ioeventfd == kicks
    assert ring.vq.kicks_polled >= 100


def test_driver_is_asked_for_kicks_again_when_polling_ends(ring: Ring, thread: IOThread) -> None:
    ring.start_polling()
    thread.set_polling(Polling(0))
    wait_for(lambda: not ring.vq.ring.polled, "the end of polling")
    assert thread.thread_id  # the thread has left the handler
    ring.offer()
    assert ring.asked_for_kicks


def test_detach_while_polled_serves_what_was_offered_and_asks_for_kicks(ring: Ring) -> None:
    ring.start_polling()
    for _ in range(50):
        ring.offer()
        lib.qd_vq_detach(ring.vq)
        assert ring.used_idx == ring.offered & 0xFFFF
        assert not ring.vq.ring.polled
        ring.offer()
        assert ring.asked_for_kicks
        assert lib.qd_vq_attach(ring.vq, ring.kick) == 0
        assert lib.qd_vq_kick(ring.vq)
        ring.start_polling()


def test_chains_that_the_handler_leaves_are_no_reason_to_call_it_again(thread: IOThread) -> None:
    calls = 0

    @ffi.callback("void(struct qd_vq *)")  # type: ignore[untyped-decorator]
    def leave_them(vq: Any) -> None:
        nonlocal calls
        calls += 1

    ring = Ring(thread, VERSION_1, ffi.new("struct qd_queue_ops *", {"kick": leave_them}))
    other = Handler(thread, polled=True)
    other.start_polling()
    ring.offer()
    wait_for(lambda: calls == 1, "the first call")
    for _ in range(10):
        seen = other.polls
        wait_for(lambda n=seen: other.polls > n + 10, "rounds of polling")
    assert calls == 1
    ring.offer_and_kick()
    wait_for(lambda: calls == 2, "the call for a kick")
    other.close()
    ring.close()
