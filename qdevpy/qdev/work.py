# SPDX-License-Identifier: Apache-2.0
"""What a device does beside answering its driver: timers, and work on other threads.

Both belong to the device: a reset stops its timers and drops what work is under way, and so does its end, which also
waits for the thread. Made when a device first asks; see :meth:`Device.timer` and :meth:`Device.background`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import queue
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from qdevpy.vm.clock import SECOND

if TYPE_CHECKING:
    from qdevpy.qdev.device import Device
    from qdevpy.vm.clock import Timer

log = logging.getLogger(__name__)

JOIN_SECONDS = 5.0  #: how long a device's end waits for its threads


class DeviceTimer:
    """A callback of a device's in virtual time; made by :meth:`Device.timer`. With the VM lock held.

    :ivar when: nanoseconds of virtual time; None: it is not set
    """

    def __init__(self, device: Device, callback: Callable[[], object]) -> None:
        self._device = device
        self._callback = callback
        self._timer: Timer | None = None

    @property
    def when(self) -> int | None:
        """When it is due."""
        return None if self._timer is None else self._timer.when

    def start(self, seconds: float) -> None:
        """Call after SECONDS of virtual time; what it was set for before is forgotten."""
        self.start_at(self._device.machine.clock.now_ns() + round(seconds * SECOND))

    def start_at(self, ns: int) -> None:
        """Call once virtual time is NS nanoseconds."""
        self.stop()
        self._timer = self._device.machine.clock.call_at(ns, self._due)

    def stop(self) -> None:
        """Do not call; harmless where it is not set."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        self._device.contain(self._callback, "timer")


class Job:
    """A call on another thread, and who gets its result; made by :meth:`Device.background`."""

    def __init__(self, function: Callable[[], Any], then: Callable[[Any], object] | None, *, lasting: bool) -> None:
        self.function = function
        self.then = then
        self.lasting = lasting
        self.cancelled = False
        self.future: Any = None

    def cancel(self) -> None:
        """Nobody gets the result; a coroutine is stopped, a function goes on until it returns. With the VM lock held."""
        self.cancelled = True
        if self.future is not None:
            self.future.cancel()


class DeviceWork:
    """The timers and jobs of one device."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._timers: list[DeviceTimer] = []
        self._jobs: set[Job] = set()
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._has_worker = False
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def in_flight(self) -> int:
        """Jobs whose result is still to come, but for lasting ones."""
        return sum(not job.lasting for job in tuple(self._jobs))

    def add_timer(self, callback: Callable[[], object]) -> DeviceTimer:
        """Made, and not set."""
        timer = DeviceTimer(self._device, callback)
        self._timers.append(timer)
        return timer

    def submit(self, job: Job) -> None:
        """Run a function on the device's thread, after those before it; a coroutine beside the others on its event loop."""
        self._jobs.add(job)
        function = job.function.func if isinstance(job.function, partial) else job.function
        if inspect.iscoroutinefunction(function):
            job.future = asyncio.run_coroutine_threadsafe(self._carry_out_async(job), self._event_loop())
        else:
            if not self._has_worker:
                self._has_worker = True
                self._start_thread(self._serve)
            self._waiting.put(job)

    def _start_thread(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=f"{self._device.label}: background", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._start_thread(self._loop.run_forever)
        return self._loop

    def _serve(self) -> None:
        while (job := self._waiting.get()) is not None:
            if job.cancelled:
                continue
            try:
                self._done(job, job.function(), None)
            except Exception as error:  # told on the main loop
                self._done(job, None, error)

    async def _carry_out_async(self, job: Job) -> None:
        try:
            coroutine: Coroutine[Any, Any, Any] = job.function()
            self._done(job, await coroutine, None)
        except Exception as error:  # told on the main loop
            self._done(job, None, error)

    def _done(self, job: Job, result: Any, error: Exception | None) -> None:
        self._device.machine.loop.call_soon(partial(self._deliver, job, result, error))

    def _deliver(self, job: Job, result: Any, error: Exception | None) -> None:
        """On the main loop, with the VM lock held."""
        self._jobs.discard(job)
        if job.cancelled:
            return
        if error is not None:
            self._device.callback_failed(error, "background work")
        elif job.then is not None:
            self._device.contain(partial(job.then, result), "result of background work")

    # -- with the VM lock held

    def cancel(self) -> None:
        """Timers stop, and nobody gets the results of what is under way."""
        for timer in self._timers:
            timer.stop()
        for job in self._jobs:
            job.cancel()
        self._jobs.clear()

    def close(self) -> None:
        """As :meth:`cancel`; and the threads end. They need no lock of ours, so that waiting for them is safe."""
        self.cancel()
        self._waiting.put(None)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
        for thread in self._threads:
            thread.join(JOIN_SECONDS)
            if thread.is_alive():
                log.warning(
                    "%s: background work goes on %g s after the device's end; left alone", self._device.label, JOIN_SECONDS
                )
                return
        if self._loop is not None:
            if tasks := asyncio.all_tasks(self._loop):  # they have been told to end, and do so when the loop goes on
                self._loop.run_until_complete(asyncio.wait(tasks, timeout=JOIN_SECONDS))
            self._loop.close()
