# SPDX-License-Identifier: Apache-2.0
"""When queues are served, and when their kicks come through ioeventfds: rules 1 to 7 of docs/host-notifiers.md, by their numbers.

The policy is here, for all transports. A transport says what it knows (:class:`NotifierTransport`) and calls
:meth:`HostNotifiers.update` whenever one of these facts may have changed. ``update`` compares what should be with
what is, so start and stop are symmetric whatever the cause: a status write (1, 2), bus mastering (3), reset (4), the
VM's run state (7), a BAR that moved.

::

    STOPPED <---> SYNCHRONOUS <---> NOTIFIED
      no queue      a kick is         and an ioeventfd a queue,
      is served     served in the     its handler on an I/O thread
                    vCPU's exit       (native) or the main loop

As QEMU's ``hw/virtio/virtio-bus.c`` and ``virtio_device_start_ioeventfd_impl``.
"""

from __future__ import annotations

import enum
import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from qdevpy.virtio import defs

if TYPE_CHECKING:
    from qdevpy.accel.base import Accelerator, IoEvent
    from qdevpy.virtio.device import VirtIODevice
    from qdevpy.virtio.queue import VirtQueue

log = logging.getLogger(__name__)


class NotifierTransport(Protocol):
    """What a transport contributes."""

    @property
    def dma_allowed(self) -> bool:
        """Bus mastering is on, or the workaround for drivers that forget it is in force (8)."""

    @property
    def kicked_early(self) -> bool:
        """A legacy driver kicked before DRIVER_OK; it waits for an answer before it goes on."""

    @property
    def ioeventfd_wanted(self) -> bool:
        """The user's choice, where the device's class allows one."""

    @property
    def accelerator(self) -> Accelerator:
        """Who assigns."""

    def io_events(self, queue: VirtQueue, fd: int) -> list[IoEvent]:
        """The writes that kick QUEUE on the register interface in use; empty while its BAR is not decoded."""


class Service(enum.Enum):
    """See the diagram above."""

    STOPPED = "stopped"
    SYNCHRONOUS = "synchronous"
    NOTIFIED = "notified"


class HostNotifier:
    """One queue's eventfd.

    :ivar events: the writes that signal it now
    :ivar taken: somebody else (vhost) serves the queue (5)
    """

    def __init__(self, queue: VirtQueue) -> None:
        self.queue = queue
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.events: list[IoEvent] = []
        self.taken = False

    def assign(self, transport: NotifierTransport) -> None:
        """Have the accelerator signal it; all events or none.

        :raises OSError: the accelerator refuses
        """
        try:
            for event in transport.io_events(self.queue, self.fd):
                transport.accelerator.assign_ioevent(event)
                self.events.append(event)
        except OSError:
            self.deassign(transport)
            raise

    def deassign(self, transport: NotifierTransport) -> None:
        """Undo :meth:`assign`. A signal that came before stays in the eventfd."""
        while self.events:
            event = self.events.pop()
            try:
                transport.accelerator.deassign_ioevent(event)
            except OSError as error:
                log.warning("%s: %s: %s", self.queue.device.label, event, error)

    def take_signal(self) -> bool:
        """Whether it was signalled; it is not afterwards."""
        with suppress(BlockingIOError):
            return bool(os.eventfd_read(self.fd))
        return False


class HostNotifiers:
    """The host notifiers of one device.

    :ivar service: how queues are served now
    :ivar notifiers: by queue index
    """

    def __init__(self, device: VirtIODevice, transport: NotifierTransport) -> None:
        self.device = device
        self.transport = transport
        self.service = Service.STOPPED
        self.notifiers: dict[int, HostNotifier] = {}
        self._refused = False  # by the accelerator, since the queues were started (6)
        self._warned = False

    def of(self, queue: VirtQueue) -> HostNotifier:
        """The queue's notifier; its eventfd is made when first asked for, and closed with the device."""
        if queue.index not in self.notifiers:
            self.notifiers[queue.index] = HostNotifier(queue)
        return self.notifiers[queue.index]

    # -- policy

    def wanted(self) -> Service:
        """What should be (1, 2, 3, 7)."""
        device, transport = self.device, self.transport
        if device.broken is not None or not device.machine.running or not transport.dma_allowed:
            return Service.STOPPED
        if not device.status & defs.STATUS_DRIVER_OK:
            return Service.SYNCHRONOUS if transport.kicked_early else Service.STOPPED
        if not transport.ioeventfd_wanted or self._refused or not self._is_decoded():
            return Service.SYNCHRONOUS
        return Service.NOTIFIED

    def _is_decoded(self) -> bool:
        queues = self.device.queues
        return bool(queues and self.transport.io_events(queues[0], -1))

    def update(self) -> None:
        """Bring what is to what should be."""
        before, wanted = self.service, self.wanted()
        if before is Service.NOTIFIED and (wanted is not Service.NOTIFIED or self._has_moved()):
            self._leave_notified()
        elif self._has_moved():
            self._move_taken()
        if wanted is Service.STOPPED:
            self._stop_queues()
            return
        if self.service is Service.STOPPED:
            self._start_queues()
        if wanted is Service.NOTIFIED and self.service is Service.SYNCHRONOUS:
            self._enter_notified()
        if before is not self.service:
            self._kick_by_hand()

    def _start_queues(self) -> None:
        self.service = Service.SYNCHRONOUS
        self.device.before_serving()
        for queue in self.device.queues:
            if not self.is_taken(queue):
                queue.start()

    def _stop_queues(self) -> None:
        """Drain what is in flight (7)."""
        for queue in self.device.queues:
            queue.stop()
        before, self.service = self.service, Service.STOPPED
        self._refused = False
        if before is not Service.STOPPED:
            self.device.after_serving()

    def _kick_by_hand(self) -> None:
        """A kick may have arrived while nobody listened (1)."""
        for queue in self.device.queues:
            self.kick(queue)

    def kick(self, queue: VirtQueue) -> None:
        """A kick that no ioeventfd took."""
        if self.is_taken(queue):
            os.eventfd_write(self.of(queue).fd, 1)
        else:
            queue.kick()

    def queue_enabled(self, queue: VirtQueue) -> None:
        """The driver set a queue up after DRIVER_OK; its ioeventfd is there already (1)."""
        if self.service is Service.STOPPED or self.is_taken(queue):
            return
        self.device.before_serving()
        if self.is_taken(queue):
            self.kick(queue)
            return
        queue.start()
        if self.service is Service.NOTIFIED:
            self._attach([self.of(queue)])
        queue.kick()

    # -- to NOTIFIED and back

    def _enter_notified(self) -> None:
        """An ioeventfd for every queue of nonzero size, then the handlers (1); all or none (6)."""
        done: list[HostNotifier] = []
        try:
            for queue in self.device.queues:
                if queue.size and not self.of(queue).events:  # who took a queue that was synchronous has its ioeventfd
                    self.of(queue).assign(self.transport)
                    done.append(self.of(queue))
        except OSError as error:
            self._unwind(done, error)
        else:
            self.service = Service.NOTIFIED
            self._attach(done)

    def _attach(self, notifiers: list[HostNotifier]) -> None:
        """Let the queues' own threads wait for the eventfds."""
        try:
            for notifier in notifiers:
                if not notifier.taken:
                    notifier.queue.attach(notifier.fd)
        except OSError as error:
            self._leave_notified()
            self._unwind([], error)

    def _unwind(self, done: list[HostNotifier], error: OSError) -> None:
        """Rule 6: the queues below go back, kicks are synchronous, and the user hears of it once."""
        for notifier in reversed(done):
            notifier.deassign(self.transport)
        self._refused = True
        if not self._warned:
            self._warned = True
            log.warning(
                "%s: no ioeventfd for its queues (%s); kicks are served synchronously, which works and is slower",
                self.device.label,
                error.strerror or error,
            )

    def _leave_notified(self) -> None:
        """Handlers go first, then the ioeventfds, the last one first; no kick is lost (2, 3, 7)."""
        self.service = Service.SYNCHRONOUS
        for index in sorted(self.notifiers, reverse=True):
            self._release(self.notifiers[index])

    def _release(self, notifier: HostNotifier) -> None:
        notifier.queue.detach()  # serves a kick that was signalled
        notifier.deassign(self.transport)
        # another vCPU's kick between the two lines above is in the eventfd, and nobody waits for it any more
        if not notifier.taken and notifier.take_signal():
            notifier.queue.kick()

    def _has_moved(self) -> bool:
        """Whether an ioeventfd is not where the register is now."""
        return any(n.events != self.transport.io_events(n.queue, n.fd) for n in self.notifiers.values() if n.events)

    # -- vhost (5)

    def is_taken(self, queue: VirtQueue) -> bool:
        """Whether somebody else serves the queue."""
        return queue.index in self.notifiers and self.notifiers[queue.index].taken

    def _move_taken(self) -> None:
        """The registers have moved: ioeventfds of queues that were taken while kicks are synchronous follow."""
        for notifier in self.notifiers.values():
            notifier.deassign(self.transport)
            if notifier.taken:
                self._assign_taken(notifier)

    def _assign_taken(self, notifier: HostNotifier) -> None:
        """Where the accelerator refuses, kicks are written to the eventfd by hand, which works and is slower."""
        try:
            notifier.assign(self.transport)
        except OSError as error:
            log.warning("%s: no ioeventfd for %s: %s", self.device.label, notifier.queue.label, error.strerror or error)

    def take(self, queue: VirtQueue) -> int:
        """Somebody else serves QUEUE from now on: our handler is detached, the ioeventfd stays (5).

        :returns: its eventfd, which kicks arrive at from now on, by way of the accelerator or, where that refuses, by hand
        """
        notifier = self.of(queue)
        notifier.taken = True
        queue.stop()
        if not notifier.events:  # the user chose synchronous kicks, which nobody else can serve, or none is assigned yet
            self._assign_taken(notifier)
        return notifier.fd

    def give_back(self, queue: VirtQueue) -> None:
        """Queue INDEX is ours again (5)."""
        if not self.is_taken(queue):
            return
        notifier = self.of(queue)
        notifier.taken = False
        if self.service is not Service.NOTIFIED:
            notifier.deassign(self.transport)
        if self.service is not Service.STOPPED:
            queue.start()
            if self.service is Service.NOTIFIED:
                self._attach([notifier])
            queue.kick()

    def reset(self) -> None:
        """The driver is gone: everything back, also what somebody else had taken (4)."""
        self.update()
        for notifier in self.notifiers.values():
            notifier.deassign(self.transport)
            notifier.taken = False
            notifier.take_signal()

    def close(self) -> None:
        """The device goes."""
        if self.service is Service.NOTIFIED:
            self._leave_notified()
        self._stop_queues()
        for notifier in self.notifiers.values():
            notifier.deassign(self.transport)
            os.close(notifier.fd)
        self.notifiers.clear()
