# SPDX-License-Identifier: Apache-2.0
"""A device's queues, served by a back end that may come, go and come back.

::

               back end comes                 queues are to be served
     AWAY <------------------------> READY <--------------------------> SERVING
      ^         it goes                 queues are not to be served        |  ^
      |                                                          it goes   v  | it comes back
      +------------------------------------------------------------------ ORPHANED
                     queues are not to be served

While ORPHANED the queues stay handed over: kicks wait in their eventfds, and so does what the driver has put into the rings.

What is in flight when a back end goes is not lost. With shared memory for requests in flight (INFLIGHT_SHMFD) the back end notes
there what it has begun, and its successor begins with that. Without it a device that can wait for a successor has a relay
(``relay.py``), which knows. With neither the successor starts where the used ring ends: whatever is between the used and the
available index is served again, which is all there is where requests complete in order, as a network card's do.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from qdevpy.errors import GuestAddressError, VhostError
from qdevpy.vhost.backend import Inflight, VhostBackend, Vring
from qdevpy.vhost.handover import Direct
from qdevpy.vhost.messages import Region
from qdevpy.vhost.relay import Relayed
from qdevpy.virtio import defs

if TYPE_CHECKING:
    from qdevpy.virtio.device import VirtIODevice
    from qdevpy.virtio.queue import NativeHandler, VirtQueue


class State(enum.Enum):
    """See the diagram above."""

    AWAY = "away"
    READY = "ready"
    SERVING = "serving"
    ORPHANED = "orphaned"


class Frontend:
    """The first COUNT queues of a device and whoever serves them. With the VM lock held.

    :param device: calls :meth:`queues_wanted` from its ``before_serving``, :meth:`queues_left` from its ``after_serving``
        and :meth:`reset` from its ``do_reset``
    :param features: those of the device's features that the back end must have; the rest is the device's own business
    :param failed: called with an error of the back end, which is not used any more: hang up
    :param enabled: whether the driver uses the queue of an index now; the others are started and paused
    :param relayed: a back end may be followed by another, and keeps no note of what it has begun
    :ivar count: queues that are handed over; may change while none is
    :ivar backend: who is there
    :ivar handover: how the queues come to it
    """

    def __init__(
        self,
        device: VirtIODevice,
        count: int,
        features: int,
        failed: Callable[[VhostError], None],
        enabled: Callable[[int], bool] = lambda index: True,
        *,
        relayed: bool = False,
    ) -> None:
        self.device = device
        self.state = State.AWAY
        self.backend: VhostBackend | None = None
        self.handover: Direct | Relayed = (
            Relayed(device, count, self.queue_broken) if relayed else Direct(device, self._call_changed)
        )
        self.count = count
        self._features = features | self.handover.features
        self._failed = failed
        self._enabled = enabled
        self._last_features = 0  # of the back end that was there last
        self._errs: dict[int, int] = {}  # eventfds for broken rings, made when first needed
        self._started: set[int] = set()  # vrings that the back end serves
        self._known: set[int] = set()  # those that it has served, ever
        self._inflight: Inflight | None = None

    def handler(self, index: int) -> NativeHandler | None:
        """For the device's queue INDEX, which it passes to :meth:`bind` then."""
        return self.handover.handler(index) if isinstance(self.handover, Relayed) else None

    def bind(self, queue: VirtQueue) -> None:
        """The queue is made."""
        if isinstance(self.handover, Relayed):
            self.handover.bind(queue)

    # -- features

    def offered(self, wanted: int) -> int:
        """Of the features that the device WANTED to offer, those that it can with this back end."""
        backend = self.backend.features if self.backend is not None else self._last_features
        return wanted & (~self._features | backend) & ~self.handover.withheld

    # -- the back end

    def came(self, backend: VhostBackend) -> None:
        """A back end is there, negotiated. One that lacks what the driver uses leaves the device in need of a reset.

        :raises VhostError: it cannot take over what its predecessor had begun
        """
        assert self.state in (State.AWAY, State.ORPHANED)
        self.backend, self._last_features = backend, backend.features
        if self.state is State.AWAY or self._lacks_features() or self.device.broken is not None:
            self.state = State.READY
            return
        try:
            self._start()
        except VhostError:
            self.went()
            raise
        for index in self.handover.kicks:  # its predecessor may have died between the last entry and its signal
            self.handover.signal(index)

    def _lacks_features(self) -> bool:
        """Whether the driver uses what the back end has not got; the device needs a reset then."""
        assert self.backend is not None
        missing = self.device.features & self._features & ~self.backend.features
        if missing:
            self.device.mark_broken(f"the back end lacks features {missing:#x}, which the driver uses")
        return bool(missing)

    def went(self) -> None:
        """The back end is gone; the driver's requests wait for the next."""
        self.backend = None
        self._started.clear()
        self._known.clear()
        self.state = State.ORPHANED if self.handover.kicks else State.AWAY
        for queue in self.device.queues[: self.count]:
            why = self.handover.lost(queue) if queue.enabled and queue.size else None
            if why is not None and self._inflight is None:
                self.device.mark_broken(why)

    def _lost(self, error: VhostError) -> None:
        """It failed us."""
        self.went()
        self._failed(error)

    # -- what the device calls

    def queues_wanted(self) -> None:
        """Hand over every queue that the driver has set up, and let the back end serve them."""
        if self.device.broken is not None:
            return
        for queue in self.device.queues[: self.count]:
            if queue.enabled and queue.size and queue.index not in self.handover.kicks:
                try:
                    self.handover.take(queue)
                except GuestAddressError as error:
                    self.device.mark_broken(f"{queue.label}: {error}")
                    return
        if self.backend is None:
            self.state = State.ORPHANED
            return
        if self._lacks_features():
            return
        try:
            self._start()
        except VhostError as error:
            self._lost(error)

    def queues_left(self) -> None:
        """The back end stops, and the queues are the device's again."""
        self._stop()
        self.handover.give_back()
        if self.state is State.ORPHANED:
            self.state = State.AWAY

    def reset(self) -> None:
        """The driver reset the device: nothing is in flight any more. ``after_serving``, which follows, gives the queues back."""
        self._stop()
        if self._inflight is not None:
            self._inflight.close()
            self._inflight = None
        for queue in self.device.queues[: self.count]:
            self.handover.forget(queue)
        if self.backend is not None:
            self._ask(lambda backend: backend.set_status(0))

    def set_enabled(self, index: int, enabled: bool) -> None:
        """The driver uses queue INDEX, or not any more (several queue pairs)."""
        if index in self._started:
            self._ask(lambda backend: backend.enable(index, enabled))

    def close(self) -> None:
        """The device goes."""
        self.queues_left()
        self.reset()
        for fd in self._errs.values():
            self.device.machine.loop.remove_reader(fd)
            os.close(fd)
        self._errs.clear()
        if isinstance(self.handover, Relayed):
            self.handover.close()

    def _ask(self, what: Callable[[VhostBackend], None]) -> None:
        """A request to the back end that may fail."""
        if self.backend is None:
            return
        try:
            what(self.backend)
        except VhostError as error:
            self._lost(error)

    def _call_changed(self, index: int, fd: int) -> None:
        """The driver gave a queue another vector."""
        if index in self._started:
            self._ask(lambda backend: backend.set_call(index, fd))

    # -- starting

    def _start(self) -> None:
        """Start every vring that is handed over and not started yet.

        :raises VhostError: the back end fails
        """
        backend, device = self.backend, self.device
        assert backend is not None
        is_first = not self._started
        if is_first:
            backend.set_features(device.features & self._features)
            memory = [Region(ram.gpa, ram.size, ram.hva, ram.fd) for ram in device.machine.memory.regions]
            backend.set_memory([*memory, *self.handover.regions()])
            if self._inflight is None:
                self._inflight = backend.make_inflight(self.count, max(queue.size for queue in device.queues[: self.count]))
            if self._inflight is not None:
                backend.use_inflight(self._inflight)
        fresh = [index for index in self.handover.kicks if index not in self._started]
        for index in fresh:
            self._start_vring(backend, index)
        if is_first:
            backend.set_status(device.status | defs.STATUS_DRIVER_OK)
        self.state = State.SERVING
        for index in fresh:  # what was offered before it came
            self.handover.kick(index)

    def _start_vring(self, backend: VhostBackend, index: int) -> None:
        queue = self.device.queues[index]
        ring, base = self.handover.begin(queue, successor=index not in self._known)
        self._known.add(index)
        kick, call = self.handover.kicks[index], self.handover.call(index)
        backend.start_vring(index, Vring(queue.size, base, ring, kick, call, self._err(index)))
        self._started.add(index)
        backend.enable(index, self._enabled(index))

    def _err(self, index: int) -> int:
        if index not in self._errs:
            fd = self._errs[index] = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self.device.machine.loop.add_reader(fd, lambda: self._ring_broken(index, fd))
        return self._errs[index]

    def _ring_broken(self, index: int, fd: int) -> None:
        """The back end cannot make sense of what the driver put there."""
        with suppress(BlockingIOError):
            os.eventfd_read(fd)
            self.queue_broken(index)

    def queue_broken(self, index: int) -> None:
        """The back end finds a queue broken, or has broken it itself."""
        if index in self._started:
            self._stop()
            self.device.mark_broken(f"{self.device.queues[index].label}: its back end finds it broken, or has broken it")

    # -- stopping

    def _stop(self) -> None:
        """Stop what the back end serves, and note where it stopped."""
        for index in sorted(self._started):
            if self.backend is None:  # lost meanwhile
                break
            queue = self.device.queues[index]
            try:
                base = self.backend.stop_vring(index)
            except VhostError as error:
                self._lost(error)
                break
            self._started.discard(index)
            self.handover.stopped(queue, base)
        if self.state is State.SERVING:
            self.state = State.READY
