# SPDX-License-Identifier: Apache-2.0
"""The main loop: file descriptors, timers and calls from other threads, on the thread that runs the machine.

Callbacks run with the VM lock held. No native queue depends on it; a queue that Python serves does, so what happens
between two rounds is little.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qdevpy.native.waiting import PollingWait

log = logging.getLogger(__name__)

Callback = Callable[[], None]

#: what a callback may wait for; a hang-up or an error is news for both
READ, WRITE = select.EPOLLIN, select.EPOLLOUT
MAX_EVENTS = 64  #: of one round


class Timer:
    """A callback at a time; see :meth:`MainLoop.call_later`."""

    def __init__(self, when: float, callback: Callback) -> None:
        self.when = when
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        """Do not call; harmless afterwards."""
        self.callback = None


class MainLoop:
    """Readers, writers, timers and posted calls.

    :param lock: taken around every callback
    :param poll_max_ns: longest time to poll before sleeping, where :meth:`poll_before_sleeping` asks for it
    """

    def __init__(self, lock: AbstractContextManager[object], poll_max_ns: int = 0) -> None:
        self._lock = lock
        self._poll_max_ns = poll_max_ns
        self._epoll = select.epoll()
        self._pollers = 0
        self._polling: PollingWait | None = None
        self._handlers: dict[int, dict[int, Callback]] = {}  # by descriptor, then by what it waits for
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._posted: deque[Callback] = deque()
        self._once: set[Callback] = set()  # of call_once_soon, not called yet
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._mutex = threading.Lock()
        self._epoll.register(self._wake_read, READ)

    @property
    def wake_fd(self) -> int:
        """A byte written here wakes the loop; for :func:`signal.set_wakeup_fd`."""
        return self._wake_write

    def close(self) -> None:
        """Forget everything and free the descriptors of the loop's own."""
        self._epoll.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _change(self, fd: int, event: int, callback: Callback | None) -> None:
        with self._mutex:
            known = fd in self._handlers
            callbacks = dict(self._handlers.get(fd, ()))
            callbacks.pop(event, None)
            if callback is not None:
                callbacks[event] = callback
            mask = 0
            for wanted in callbacks:
                mask |= wanted
            if mask and known:
                self._epoll.modify(fd, mask)
            elif mask:
                self._epoll.register(fd, mask)
            elif known:
                with suppress(OSError):  # it was closed before
                    self._epoll.unregister(fd)
            if mask:
                self._handlers[fd] = callbacks
            else:
                self._handlers.pop(fd, None)

    def add_reader(self, fd: int, callback: Callback) -> None:
        """Call when FD is readable, as long as it is; replaces an earlier reader. Any thread."""
        self._change(fd, READ, callback)
        self.wake()

    def remove_reader(self, fd: int) -> None:
        """Before FD is closed; harmless where there is none."""
        self._change(fd, READ, None)

    def add_writer(self, fd: int, callback: Callback) -> None:
        """Call when FD is writable, as long as it is."""
        self._change(fd, WRITE, callback)
        self.wake()

    def remove_writer(self, fd: int) -> None:
        """Before FD is closed; harmless where there is none."""
        self._change(fd, WRITE, None)

    def call_soon(self, callback: Callback) -> None:
        """Call on the loop's thread, soon. Any thread."""
        self._posted.append(callback)
        self.wake()

    def call_once_soon(self, callback: Callback) -> None:
        """As :meth:`call_soon`, but for one that waits already: who is asked often goes on once. With the VM lock held."""
        if callback not in self._once:
            self._once.add(callback)
            self.call_soon(partial(self._call_once, callback))

    def _call_once(self, callback: Callback) -> None:
        self._once.discard(callback)  # first: it may ask for its next turn
        callback()

    def call_later(self, seconds: float, callback: Callback) -> Timer:
        """Call on the loop's thread after SECONDS of wall-clock time. Any thread."""
        timer = Timer(time.monotonic() + seconds, callback)
        with self._mutex:
            heapq.heappush(self._timers, (timer.when, next(self._order), timer))
        self.wake()
        return timer

    def wake(self) -> None:
        """Make a waiting :meth:`run_once` look around. Any thread, also a signal handler."""
        try:
            os.write(self._wake_write, b"\0")
        except BlockingIOError:
            return  # full: it will wake

    def run_once(self, timeout: float | None = None) -> None:
        """Wait for something, at most TIMEOUT seconds, and call what is due."""
        if self._posted:
            timeout = 0
        elif self._timers:
            until = max(0.0, self._timers[0][0] - time.monotonic())
            timeout = until if timeout is None or until < timeout else timeout
        for fd, mask in self._wait(timeout):
            if fd == self._wake_read:
                os.read(self._wake_read, 4096)
                continue
            if mask & ~WRITE:
                self._call_ready(fd, READ)
            if mask & ~READ:
                self._call_ready(fd, WRITE)
        while self._timers and self._timers[0][0] <= time.monotonic():
            with self._mutex:
                timer = heapq.heappop(self._timers)[2]
            if timer.callback is not None:
                self._call(timer.callback)
        for _ in range(len(self._posted)):
            self._call(self._posted.popleft())

    def _wait(self, timeout: float | None) -> Iterable[tuple[int, int]]:
        # up to the next millisecond, which is what epoll counts in: a timer is due after the wait, not just before
        ms = -1 if timeout is None else math.ceil(timeout * 1e3)
        if self._polling is not None:
            return self._polling.poll(ms)
        return self._epoll.poll(ms if ms < 0 else ms * 1e-3, MAX_EVENTS)

    def poll_before_sleeping(self, on: bool) -> None:
        """For who is about to be woken often (True; as often False in the end): poll for a while before each sleep.

        The time adapts as that of I/O threads (docs/io-threads.md). With the VM lock held.
        """
        self._pollers += 1 if on else -1
        if self._pollers == 0:
            self._polling = None
        elif self._polling is None and self._poll_max_ns:
            from qdevpy.native.waiting import PollingWait

            self._polling = PollingWait(self._epoll.fileno(), self._poll_max_ns)

    def _call_ready(self, fd: int, event: int) -> None:
        """Call unless an earlier callback of this round took the handler away."""
        with self._lock:
            callbacks = self._handlers.get(fd)
            callback = callbacks.get(event) if callbacks is not None else None
            if callback is not None:
                self._run(callback)

    def _call(self, callback: Callback) -> None:
        with self._lock:
            self._run(callback)

    def _run(self, callback: Callback) -> None:
        try:
            callback()
        except Exception:  # a device's failure must not end the machine
            log.exception("in a main-loop callback")
