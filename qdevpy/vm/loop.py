# SPDX-License-Identifier: Apache-2.0
"""The main loop: file descriptors, timers and calls from other threads, on the thread that runs the machine.

Callbacks run with the VM lock held. Python's ``selectors`` does the waiting; no native queue depends on it.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

log = logging.getLogger(__name__)

Callback = Callable[[], None]


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
    """

    def __init__(self, lock: AbstractContextManager[object]) -> None:
        self._lock = lock
        self._selector = selectors.EpollSelector()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._posted: deque[Callback] = deque()
        self._once: set[Callback] = set()  # of call_once_soon, not called yet
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._mutex = threading.Lock()
        self._selector.register(self._wake_read, selectors.EVENT_READ, {})

    @property
    def wake_fd(self) -> int:
        """A byte written here wakes the loop; for :func:`signal.set_wakeup_fd`."""
        return self._wake_write

    def close(self) -> None:
        """Forget everything and free the descriptors of the loop's own."""
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _change(self, fd: int, event: int, callback: Callback | None) -> None:
        with self._mutex:
            try:
                callbacks: dict[int, Callback] = dict(self._selector.get_key(fd).data)
                known = True
            except KeyError:
                callbacks, known = {}, False
            callbacks.pop(event, None)
            if callback is not None:
                callbacks[event] = callback
            mask = 0
            for wanted in callbacks:
                mask |= wanted
            if mask and known:
                self._selector.modify(fd, mask, callbacks)
            elif mask:
                self._selector.register(fd, mask, callbacks)
            elif known:
                self._selector.unregister(fd)

    def add_reader(self, fd: int, callback: Callback) -> None:
        """Call when FD is readable, as long as it is; replaces an earlier reader. Any thread."""
        self._change(fd, selectors.EVENT_READ, callback)
        self.wake()

    def remove_reader(self, fd: int) -> None:
        """Before FD is closed; harmless where there is none."""
        self._change(fd, selectors.EVENT_READ, None)

    def add_writer(self, fd: int, callback: Callback) -> None:
        """Call when FD is writable, as long as it is."""
        self._change(fd, selectors.EVENT_WRITE, callback)
        self.wake()

    def remove_writer(self, fd: int) -> None:
        """Before FD is closed; harmless where there is none."""
        self._change(fd, selectors.EVENT_WRITE, None)

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
            timeout = until if timeout is None else min(timeout, until)
        for key, mask in self._selector.select(timeout):
            if key.fd == self._wake_read:
                os.read(self._wake_read, 4096)
                continue
            for event in (selectors.EVENT_READ, selectors.EVENT_WRITE):
                if mask & event:
                    self._call_ready(key.fd, event)
        while self._timers and self._timers[0][0] <= time.monotonic():
            with self._mutex:
                timer = heapq.heappop(self._timers)[2]
            if timer.callback is not None:
                self._call(timer.callback)
        for _ in range(len(self._posted)):
            self._call(self._posted.popleft())

    def _call_ready(self, fd: int, event: int) -> None:
        """Call unless an earlier callback of this round took the handler away."""
        with self._lock:
            try:
                callback = self._selector.get_key(fd).data.get(event)
            except KeyError:
                return
            if callback is not None:
                self._call(callback)

    def _call(self, callback: Callback) -> None:
        with self._lock:
            try:
                callback()
            except Exception:  # a device's failure must not end the machine
                log.exception("in a main-loop callback")
