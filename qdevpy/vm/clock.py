# SPDX-License-Identifier: Apache-2.0
"""Virtual time: what a guest's chips count, and the timers that they set (QEMU: ``QEMU_CLOCK_VIRTUAL``).

Time that has to do with the host (a reconnect, a poll interval) is not here but :meth:`MainLoop.call_later`. All
methods are called with the VM lock held, and callbacks are called with it held.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qdevpy.vm.loop import MainLoop
    from qdevpy.vm.loop import Timer as LoopTimer

SECOND = 1_000_000_000

Callback = Callable[[], None]


class Timer:
    """A callback at a virtual time; made by :meth:`Clock.call_at`.

    :ivar when: nanoseconds
    """

    def __init__(self, clock: Clock, when: int, callback: Callback) -> None:
        self._clock = clock
        self.when = when
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        """Do not call; harmless afterwards."""
        if self.callback is not None:
            self.callback = None
            self._clock.deadline_changed()


class Clock:
    """Timers, earliest first, those of one time in the order they were set. What time it is a subclass knows."""

    def __init__(self) -> None:
        self._timers: list[tuple[int, int, Timer]] = []
        self._order = itertools.count()

    def now_ns(self) -> int:
        """The guest's virtual time in nanoseconds; it begins at 0 and never goes back."""
        raise NotImplementedError

    def call_at(self, ns: int, callback: Callback) -> Timer:
        """Call once it is NS; soon, where that is over."""
        timer = Timer(self, ns, callback)
        heapq.heappush(self._timers, (ns, next(self._order), timer))
        self.deadline_changed()
        return timer

    def call_later(self, seconds: float, callback: Callback) -> Timer:
        """Call after SECONDS of virtual time."""
        return self.call_at(self.now_ns() + round(seconds * SECOND), callback)

    def deadline(self) -> int | None:
        """When the next timer is due, in nanoseconds; None: there is none."""
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def run_due(self) -> None:
        """Call what is due."""
        now = self.now_ns()
        while (deadline := self.deadline()) is not None and deadline <= now:
            timer = heapq.heappop(self._timers)[2]
            callback, timer.callback = timer.callback, None
            assert callback is not None
            callback()

    def deadline_changed(self) -> None:
        """:meth:`deadline` may have changed."""

    def start(self) -> None:
        """The machine runs."""

    def stop(self) -> None:
        """The machine stands still."""


class HostClock(Clock):
    """Goes with the host's monotonic clock while the machine runs.

    :param loop: calls the timers
    :param monotonic_ns: the host's clock
    """

    def __init__(self, loop: MainLoop, monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        super().__init__()
        self._loop = loop
        self._host = monotonic_ns
        self._elapsed = 0  # until it was last stopped
        self._started: int | None = None  # host time; None: it stands still
        self._wake: LoopTimer | None = None
        self._wake_at: int | None = None  # what _wake was set for

    def now_ns(self) -> int:
        """See :meth:`Clock.now_ns`. Without the lock (faults, on an I/O thread) it may be off by what is about to change."""
        elapsed, started = self._elapsed, self._started
        return elapsed if started is None else elapsed + self._host() - started

    def start(self) -> None:
        """Go on; harmless where it goes."""
        if self._started is None:
            self._started = self._host()
            self.deadline_changed()

    def stop(self) -> None:
        """Stand still; no timer is called until :meth:`start`."""
        if self._started is not None:
            self._elapsed = self.now_ns()
            self._started = None
            self.deadline_changed()

    def deadline_changed(self) -> None:
        """Have the main loop wake for the next timer, and for no other."""
        deadline = None if self._started is None else self.deadline()
        if deadline == self._wake_at:
            return
        if self._wake is not None:
            self._wake.cancel()
        self._wake, self._wake_at = None, deadline
        if deadline is not None:
            self._wake = self._loop.call_later(max(0, deadline - self.now_ns()) / SECOND, self._woken)

    def _woken(self) -> None:
        self._wake = self._wake_at = None
        if self._started is not None:
            try:
                self.run_due()
            finally:
                self.deadline_changed()


class SteppedClock(Clock):
    """Moves when it is told to, and at no other time (QEMU: ``accel/qtest/qtest.c``)."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0

    def now_ns(self) -> int:
        """See :meth:`Clock.now_ns`."""
        return self._now

    def advance_to(self, ns: int, *, go_on: Callable[[], bool] = lambda: True) -> None:
        """Move to NS, and run what is due on the way, each at its time; nothing where that is over.

        :param go_on: asked before each timer; False ends the journey there
        """
        while self._now < ns and go_on():
            deadline = self.deadline()
            self._now = ns if deadline is None else min(ns, max(self._now, deadline))
            self.run_due()
