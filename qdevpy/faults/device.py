# SPDX-License-Identifier: Apache-2.0
"""The faults of one device: its schedule, what happens to the device as a whole, and its queues' taps."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import attrs

from qdevpy.faults.log import Entry
from qdevpy.faults.queue import QueueFaults
from qdevpy.faults.schedule import Firing, Identities, ReplaySchedule, Request, RuleSchedule

if TYPE_CHECKING:
    from qdevpy.faults.injector import Faults
    from qdevpy.faults.rule import Rule
    from qdevpy.faults.target import FaultTarget
    from qdevpy.native.tap import Chain
    from qdevpy.virtio.device import VirtIODevice
    from qdevpy.vm.clock import Timer

log = logging.getLogger(__name__)

#: faults of one device that the normal log shows; the fault log has all
MAX_SHOWN = 20


class DeviceFaults:
    """Made with the VM lock held.

    :param name: the device's id
    :ivar gone: its back end is, for the sake of a fault
    :ivar total: requests so far
    """

    def __init__(self, faults: Faults, name: str, device: VirtIODevice, target: FaultTarget) -> None:
        self.faults = faults
        self.name = name
        self.device = device
        self.target = target
        self.machine = device.machine
        self.schedule: RuleSchedule | ReplaySchedule = RuleSchedule(faults.seed)
        self.gone = 0  # how many faults say so
        self._cable_out = 0  # likewise, of those that end
        self.total = 0
        self._shown = 0
        self._begin = self.machine.clock.now_ns()
        self._identities = Identities()
        self._mutex = threading.Lock()  # queues of one device may be served by several threads
        self._timers: set[Timer] = set()
        self._closed = False
        self.queues: list[QueueFaults] = []
        device.cleanup.callback(self.close)
        for queue in device.queues:
            tap = QueueFaults(self, queue)
            tap.add()
            self.queues.append(tap)

    @property
    def now(self) -> int:
        """Virtual time since there are faults for the device, in nanoseconds."""
        return self.machine.clock.now_ns() - self._begin

    # -- what is asked for; with the VM lock held

    def add(self, rule: Rule) -> None:
        """One more rule, whose times count from now."""
        assert isinstance(self.schedule, RuleSchedule)
        now = self.now
        moved = attrs.evolve(rule, after=rule.after + now, until=None if rule.until is None else rule.until + now)
        with self._mutex:
            self.schedule.add(moved)
        if moved.is_timed:
            self._start_timers([(moved.after, Firing.of(moved))])

    def remove(self, number: int) -> None:
        """Forget a rule."""
        with self._mutex:
            if isinstance(self.schedule, RuleSchedule):
                self.schedule.remove(number)

    def replay(self, schedule: ReplaySchedule) -> None:
        """In place of all rules."""
        with self._mutex:
            self.schedule = schedule
        self._start_timers(schedule.at_times())

    def _start_timers(self, times: Iterable[tuple[int, Firing]]) -> None:
        for ns, firing in times:
            self.later(ns - self.now, partial(self._fire_at_time, firing))

    def _fire_at_time(self, firing: Firing) -> None:
        """Unless its rule was removed meanwhile."""
        if not isinstance(self.schedule, RuleSchedule) or self.schedule.has(firing.rule):
            self.happen_now(firing)

    # -- requests; with a queue's lock held

    def arrived(self, queue: QueueFaults, chain: Chain) -> list[Firing]:
        """A request came: what hits it. What hits the device for it is on its way."""
        described = self.target.describe(queue.queue.index, chain)
        with self._mutex:
            self.total += 1
            request = queue.request(self.total, described, self._identities.count(*described))
            now = self.now
            firings = self.schedule.at_request(request, now)
            for firing in firings:
                self._record(firing, now, request)
        for firing in firings:
            if firing.effect.name == "backend-gone":  # at once: this request is the first one that notices
                self._lose_backend(firing)
            elif not firing.effect.wants_request:
                self.machine.loop.call_soon(partial(self._happen, firing, queue.queue.index))
        return firings

    def _record(self, firing: Firing, now: int, request: Request | None) -> None:
        entry = Entry(
            time=now,
            device=self.name,
            what=firing.effect.name,
            rule=firing.rule,
            queue=request.queue if request else None,
            request=request.number if request else 0,
            total=request.total if request else self.total,
            kind=request.kind if request else "",
            sector=request.sector if request else None,
            sectors=request.sectors if request else 0,
            occurrence=request.occurrence if request else 0,
            duration=firing.duration,
            length=firing.length,
        )
        self._shown += 1
        last = "; more of this device's are for debugging only" if self._shown == MAX_SHOWN else ""
        log.log(logging.WARNING if self._shown <= MAX_SHOWN else logging.DEBUG, "%s: fault: %s%s", self.device.label, entry, last)
        self.faults.record(entry)

    # -- the device; on the main loop, with the VM lock held

    def happen_now(self, firing: Firing) -> None:
        """A fault that no request brings."""
        with self._mutex:
            self._record(firing, self.now, None)
        if firing.effect.name == "backend-gone":
            self._lose_backend(firing)
        else:
            self._happen(firing, 0)

    def _happen(self, firing: Firing, queue: int) -> None:
        if self._closed:
            return
        device = self.device
        match firing.effect.name:
            case "spurious-interrupt":
                device.bindings.notify_queue(device.queues[queue])
            case "config-change":
                device.bindings.notify_config()
            case "needs-reset":
                device.mark_broken("a fault that was asked for")
            case "link-down":
                self.target.set_link(False)
                if firing.duration is not None:
                    self._cable_out += 1
                    self.later(firing.duration, self._plug_cable)

    def _plug_cable(self) -> None:
        self._cable_out -= 1
        if not self._cable_out:
            self.target.set_link(True)

    def _lose_backend(self, firing: Firing) -> None:
        """Any thread."""
        with self._mutex:
            self.gone += 1
        if firing.duration is not None:
            self.later(firing.duration, self._find_backend)

    def _find_backend(self) -> None:
        with self._mutex:
            self.gone -= 1
        if not self.gone:
            for queue in self.queues:
                queue.release_all()

    def later(self, ns: int, callback: Callable[[], object]) -> None:
        """Call after NS nanoseconds of virtual time, with the VM lock held, unless the device goes before. Any thread."""
        due = self.machine.clock.now_ns() + ns
        self.machine.loop.call_soon(partial(self._set_timer, due, callback))

    def _set_timer(self, due: int, callback: Callable[[], object]) -> None:
        if self._closed:
            return

        def ring() -> None:
            self._timers.discard(timer)
            self.device.contain(callback, "fault")

        timer = self.machine.clock.call_at(due, ring)
        self._timers.add(timer)

    def close(self) -> None:
        """The device goes, or shall have no faults any more; harmless where it is closed."""
        if self._closed:
            return
        self._closed = True
        with self._mutex:  # first: nothing more is kept once the queues let go
            self.schedule = RuleSchedule(0)
            self.gone = 0
        for timer in self._timers:
            timer.cancel()
        for queue in self.queues:
            queue.close()
        self.queues.clear()
        self._identities = Identities()  # the device remembers us as long as it is there, and these may be many
        if self._cable_out and self.device.is_realized:
            self.target.set_link(True)
        self.faults.forget(self)
