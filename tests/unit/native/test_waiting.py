# SPDX-License-Identifier: Apache-2.0
"""The main loop's waiting where queues of devices in Python are on it."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from qdevpy.native.waiting import PollingWait
from qdevpy.vm.loop import MainLoop

SECOND = 10**9


@pytest.fixture
def epoll() -> Iterator[select.epoll]:
    with select.epoll() as epoll:
        yield epoll


@pytest.fixture
def fds(epoll: select.epoll) -> Iterator[list[int]]:
    found = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(3)]
    for fd in found:
        epoll.register(fd, select.EPOLLIN)
    yield found
    for fd in found:
        os.close(fd)


@pytest.mark.parametrize("max_ns", [0, 32768, SECOND])
def test_what_is_ready_is_told_as_epoll_tells_it(epoll: select.epoll, fds: list[int], max_ns: int) -> None:
    wait = PollingWait(epoll.fileno(), max_ns)
    assert list(wait.poll(0)) == []
    assert list(wait.poll(1)) == []
    os.eventfd_write(fds[0], 1)
    os.eventfd_write(fds[2], 1)
    assert sorted(wait.poll(-1)) == sorted((fd, select.EPOLLIN) for fd in (fds[0], fds[2]))


@pytest.mark.parametrize("max_ns", [0, 32768, 60 * SECOND])
def test_who_waits_for_ever_is_woken_by_another_thread(epoll: select.epoll, fds: list[int], max_ns: int) -> None:
    wait = PollingWait(epoll.fileno(), max_ns)
    for _ in range(50):
        writer = threading.Thread(target=os.eventfd_write, args=(fds[1], 1))
        writer.start()
        assert list(wait.poll(-1)) == [(fds[1], select.EPOLLIN)]
        os.eventfd_read(fds[1])
        writer.join()


def test_signal_ends_the_wait_and_its_handler_runs(epoll: select.epoll) -> None:
    ran: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: ran.append(number))
    try:
        main = threading.get_ident()
        sender = threading.Timer(0.05, lambda: signal.pthread_kill(main, signal.SIGUSR1))
        sender.start()
        assert list(PollingWait(epoll.fileno(), 32768).poll(30_000)) == []
        sender.join()
        assert ran == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_timeout_is_kept_although_the_loop_polls(epoll: select.epoll) -> None:
    wait = PollingWait(epoll.fileno(), 60 * SECOND)
    for _ in range(30):
        begin = time.monotonic()
        assert list(wait.poll(2)) == []
        assert time.monotonic() - begin < 5


def test_main_loop_that_polls_serves_readers_timers_and_calls() -> None:
    loop = MainLoop(nullcontext(), poll_max_ns=SECOND)
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    served: list[str] = []

    def ready() -> None:
        os.eventfd_read(fd)
        served.append("reader")

    loop.add_reader(fd, ready)
    loop.poll_before_sleeping(True)
    loop.poll_before_sleeping(True)
    loop.poll_before_sleeping(False)
    for _ in range(5):
        os.eventfd_write(fd, 1)
        loop.call_later(0.001, lambda: served.append("timer"))
        loop.call_soon(lambda: served.append("call"))
        while len(served) < 3:
            loop.run_once()
        assert sorted(served) == ["call", "reader", "timer"]
        served.clear()
    loop.poll_before_sleeping(False)
    os.eventfd_write(fd, 1)
    loop.run_once()
    assert served == ["reader"]
    loop.close()
    os.close(fd)
