# SPDX-License-Identifier: Apache-2.0
"""When queues are served, and when their kicks come through ioeventfds. Ten rules; the numbers below are theirs.

The policy is here, for all transports; a transport says what it knows (:class:`NotifierTransport`) and calls
:meth:`HostNotifiers.update` whenever one of these facts may have changed. ``update`` compares what should be with
what is, so start and stop are symmetric whatever the cause: a status write (1, 2), bus mastering (3), reset (4), the
VM's run state (7).

::

    IDLE --should_serve()--> SERVING --(ioeventfd on)--> SERVING with notifiers
     ^                          |
     +------- otherwise --------+     detach, deassign, look once more, stop

As QEMU's ``virtio_device_start_ioeventfd_impl`` and its stop.
"""

from __future__ import annotations

import logging
import os
import select
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
    def ioeventfd_wanted(self) -> bool:
        """The user's choice, where the device's class allows one."""

    @property
    def accelerator(self) -> Accelerator:
        """Who assigns."""

    def io_events(self, queue: VirtQueue, fd: int) -> list[IoEvent]:
        """The writes that kick QUEUE, on every register interface; empty while no BAR is decoded."""


class HostNotifiers:
    """The host notifiers of one device.

    :ivar serving: queues are started
    :ivar assigned: by queue index, the eventfd and the writes that signal it
    """

    def __init__(self, device: VirtIODevice, transport: NotifierTransport) -> None:
        self.device = device
        self.transport = transport
        self.serving = False
        self.assigned: dict[int, tuple[int, list[IoEvent]]] = {}
        self._taken: set[int] = set()
        self._warned = False

    def should_serve(self) -> bool:
        """DRIVER_OK, and memory may be accessed, and the VM runs, and the device is not broken."""
        device = self.device
        return bool(
            device.status & defs.STATUS_DRIVER_OK
            and device.broken is None
            and device.machine.running
            and self.transport.dma_allowed
        )

    def update(self) -> None:
        """Bring what is to what should be."""
        wanted = self.should_serve()
        if wanted and not self.serving:
            self._start()
        elif self.serving and not wanted:
            self._stop()

    def _start(self) -> None:
        self.serving = True
        for queue in self.device.queues:
            queue.start()
        self.assign()
        for queue in self.device.queues:
            queue.kick()  # the driver may have kicked before anybody listened (1)

    def stop(self) -> None:
        """Serve nothing, whatever the facts are: the device is taken out."""
        if self.serving:
            self._stop()

    def _stop(self) -> None:
        self.deassign()
        for queue in self.device.queues:
            queue.stop()
        self.serving = False
        self._taken.clear()

    def queue_enabled(self, queue: VirtQueue) -> None:
        """The driver set a queue up after DRIVER_OK."""
        if not self.serving:
            return
        queue.start()
        if self.transport.ioeventfd_wanted:
            try:
                self._assign_queue(queue)
            except OSError as error:
                self._fall_back(queue.index, error)
        queue.kick()

    def queue_disabled(self, queue: VirtQueue) -> None:
        """The driver takes one queue away."""
        if queue.index in self.assigned:
            self._deassign_queue(queue)
        queue.stop()

    # -- ioeventfds

    def assign(self) -> None:
        """An ioeventfd for every queue in use, then its handler (1); all or none (6)."""
        if not self.serving or not self.transport.ioeventfd_wanted:
            return
        for queue in self.device.queues:
            if queue.index in self.assigned:
                continue
            try:
                self._assign_queue(queue)
            except OSError as error:
                self._fall_back(queue.index, error)
                return

    def deassign(self) -> None:
        """Give all ioeventfds back, the last one first; kicks are synchronous from now on."""
        for index in sorted(self.assigned, reverse=True):
            self._deassign_queue(self.device.queues[index])

    def _fall_back(self, index: int, error: OSError) -> None:
        self.deassign()
        if not self._warned:
            self._warned = True
            log.warning(
                "%s: queue %d: no ioeventfd (%s); kicks are served synchronously, which works and is slower",
                self.device.label, index, error.strerror or error,
            )  # fmt: skip

    def _assign_queue(self, queue: VirtQueue) -> None:
        """:raises OSError: the accelerator refuses; nothing of this queue is left assigned."""
        if queue.size == 0 or not queue.enabled:
            return
        if not self.transport.io_events(queue, -1):
            return  # no register is decoded; the transport comes back when one is
        fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        done: list[IoEvent] = []
        try:
            for event in self.transport.io_events(queue, fd):
                self.transport.accelerator.assign_ioevent(event)
                done.append(event)
            if queue.index not in self._taken:
                queue.attach(fd)
        except OSError:
            for event in reversed(done):
                self.transport.accelerator.deassign_ioevent(event)
            os.close(fd)
            raise
        self.assigned[queue.index] = (fd, done)

    def _deassign_queue(self, queue: VirtQueue) -> None:
        fd, events = self.assigned.pop(queue.index)
        queue.detach()  # serves a kick that was signalled (7)
        for event in reversed(events):
            self.transport.accelerator.deassign_ioevent(event)
        # a kick of another vCPU between the two lines above is in the eventfd still
        if queue.index not in self._taken and select.select([fd], [], [], 0)[0]:
            queue.kick()
        os.close(fd)

    def take(self, index: int) -> int | None:
        """Somebody else (vhost) serves queue INDEX: our handler goes, the ioeventfd stays (5).

        :returns: its eventfd, or None where none is assigned
        """
        self._taken.add(index)
        if index not in self.assigned:
            return None
        self.device.queues[index].detach()
        return self.assigned[index][0]

    def give_back(self, index: int) -> None:
        """Queue INDEX is ours again (5)."""
        self._taken.discard(index)
        if index in self.assigned:
            queue = self.device.queues[index]
            queue.attach(self.assigned[index][0])
            queue.kick()
