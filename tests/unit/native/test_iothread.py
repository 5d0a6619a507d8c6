# SPDX-License-Identifier: Apache-2.0
"""I/O threads."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from qdevpy.errors import QdevpyError
from qdevpy.native.core import ffi, lib
from qdevpy.native.iothread import IOThread


@pytest.fixture
def thread() -> Iterator[IOThread]:
    thread = IOThread("test")
    yield thread
    thread.close()


def names() -> list[str]:
    return [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]


def test_thread_has_its_name_and_ends_with_close() -> None:
    thread = IOThread("a-very-long-name-indeed")
    assert "io-a-very-long-" in names()
    thread.close()
    thread.close()
    assert "io-a-very-long-" not in names()


def test_call_runs_on_the_thread_and_is_waited_for(thread: IOThread) -> None:
    ran: list[int] = []

    @ffi.callback("void(void *)")  # type: ignore[untyped-decorator]
    def note(arg: object) -> None:
        ran.append(threading.get_native_id())

    for _ in range(3):
        lib.qd_loop_call(thread.pointer, note, ffi.NULL)
    assert len(ran) == 3
    assert set(ran) != {threading.get_native_id()}


def test_call_from_the_thread_itself_runs_at_once(thread: IOThread) -> None:
    order: list[str] = []

    @ffi.callback("void(void *)")  # type: ignore[untyped-decorator]
    def inner(arg: object) -> None:
        order.append("inner")

    @ffi.callback("void(void *)")  # type: ignore[untyped-decorator]
    def outer(arg: object) -> None:
        lib.qd_loop_call(thread.pointer, inner, ffi.NULL)
        order.append("outer")

    lib.qd_loop_call(thread.pointer, outer, ffi.NULL)
    assert order == ["inner", "outer"]


def test_calls_from_many_threads_all_run(thread: IOThread) -> None:
    count = [0]

    @ffi.callback("void(void *)")  # type: ignore[untyped-decorator]
    def note(arg: object) -> None:
        count[0] += 1  # on one thread only

    def caller() -> None:
        for _ in range(100):
            lib.qd_loop_call(thread.pointer, note, ffi.NULL)

    callers = [threading.Thread(target=caller) for _ in range(4)]
    for each in callers:
        each.start()
    for each in callers:
        each.join()
    assert count == [400]


class Handler:
    """An eventfd in the loop; counts how often it was found ready."""

    def __init__(self, thread: IOThread) -> None:
        self.thread = thread
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.calls = 0
        self.called = threading.Event()
        self._callback = ffi.callback("void(struct qd_fd *, uint32_t)", self.ready)
        self.pointer = ffi.new("struct qd_fd *", {"fd": self.fd, "events": 1, "ready": self._callback})

    def ready(self, handler: object, events: int) -> None:
        os.eventfd_read(self.fd)
        self.calls += 1
        self.called.set()

    def signal_and_wait(self) -> None:
        self.called.clear()
        os.eventfd_write(self.fd, 1)
        assert self.called.wait(60)


def test_handler_runs_while_it_is_in_the_loop(thread: IOThread) -> None:
    handler = Handler(thread)
    assert lib.qd_loop_add(thread.pointer, handler.pointer) == 0
    assert lib.qd_loop_add(thread.pointer, handler.pointer) == -17  # EEXIST
    handler.signal_and_wait()
    handler.pointer.events = 0
    assert lib.qd_loop_mod(thread.pointer, handler.pointer) == 0
    os.eventfd_write(handler.fd, 1)
    handler.pointer.events = 1
    handler.called.clear()
    assert lib.qd_loop_mod(thread.pointer, handler.pointer) == 0
    assert handler.called.wait(60)
    lib.qd_loop_del(thread.pointer, handler.pointer)
    lib.qd_loop_del(thread.pointer, handler.pointer)
    os.eventfd_write(handler.fd, 1)
    lib.qd_loop_call(thread.pointer, ffi.callback("void(void *)", lambda arg: None), ffi.NULL)
    assert handler.calls == 2
    os.close(handler.fd)


def test_handler_taken_out_by_another_of_the_same_round_does_not_run(thread: IOThread) -> None:
    first, second = Handler(thread), Handler(thread)

    def take_out_the_other(mine: Handler, other: Handler) -> None:
        os.eventfd_read(mine.fd)
        mine.calls += 1
        lib.qd_loop_del(thread.pointer, other.pointer)
        lib.qd_loop_del(thread.pointer, mine.pointer)

    for mine, other in ((first, second), (second, first)):
        mine._callback = ffi.callback(
            "void(struct qd_fd *, uint32_t)", lambda handler, events, m=mine, o=other: take_out_the_other(m, o)
        )
        mine.pointer.ready = mine._callback

    @ffi.callback("void(void *)")  # type: ignore[untyped-decorator]
    def both_ready(arg: object) -> None:
        for handler in (first, second):
            os.eventfd_write(handler.fd, 1)
            lib.qd_loop_add(thread.pointer, handler.pointer)

    lib.qd_loop_call(thread.pointer, both_ready, ffi.NULL)
    while first.calls + second.calls == 0:
        os.sched_yield()
    lib.qd_loop_call(thread.pointer, ffi.callback("void(void *)", lambda arg: None), ffi.NULL)
    assert first.calls + second.calls == 1
    os.close(first.fd)
    os.close(second.fd)


def test_start_without_descriptors_says_what_to_do() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = os.open("/dev/null", os.O_RDONLY)
    os.close(taken)
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken, hard))
    try:
        with pytest.raises(QdevpyError, match="iothread 'x': Too many open files; raise 'ulimit -n'"):
            IOThread("x")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
