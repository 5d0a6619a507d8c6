# SPDX-License-Identifier: Apache-2.0
"""What virtio-pci offers to the device behind it."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from qdevpy.native.core import lib
from qdevpy.virtio import defs
from qdevpy.virtio.bindings import TransportBindings

if TYPE_CHECKING:
    from qdevpy.virtio.bindings import GuestNotifierChanged
    from qdevpy.virtio.pci import VirtIOPCI
    from qdevpy.virtio.queue import VirtQueue

ISR_CONFIG = lib.QD_ISR_CONFIG
#: what a queue's state is made of, beside its vector and its positions in the ring
QUEUE_STATE = ("size", "desc", "avail", "used", "enabled")


class GuestNotifier(NamedTuple):
    """What somebody else signals for a queue.

    :ivar fd: the eventfd
    :ivar vector: the same where it is a vector's, else -1: it is ours
    """

    fd: int
    vector: int


class PCIBindings(TransportBindings):
    """The callbacks of one virtio-pci function."""

    def __init__(self, proxy: VirtIOPCI) -> None:
        self._proxy = proxy
        self._guest_notifiers: list[GuestNotifier] = []  # by queue, while assigned
        self._guest_notifier_changed: GuestNotifierChanged | None = None

    def transport_features(self) -> int:
        """VERSION_1, where there is the modern interface."""
        return 0 if self._proxy.disable_modern else 1 << defs.F_VERSION_1

    # -- interrupts

    def notify(self, index: int) -> None:
        """By number (rule 9)."""
        self.notify_queue(self._proxy.device.queues[index])

    def notify_queue(self, queue: VirtQueue) -> None:
        """The queue's vector, or INTx with ISR bit 0 (4.1.5.1.4, 4.1.5.2)."""
        queue.signal()

    def notify_config(self) -> None:
        """The config vector, or INTx with ISR bit 1 (4.1.5.3); a driver that is not there yet hears nothing (2.5.3)."""
        proxy = self._proxy
        proxy.config_generation = (proxy.config_generation + 1) & 0xFF
        if not proxy.device.status & defs.STATUS_DRIVER_OK:
            return
        if proxy.msix is not None and proxy.msix.enabled:
            proxy.msix.notify(proxy.config_vector)
        else:
            # both bits, as QEMU's virtio_notify_config(): there are drivers that only look at the queues' bit
            proxy.device.vdev.set_isr(ISR_CONFIG | lib.QD_ISR_QUEUE)

    # -- queues that somebody else serves

    def set_host_notifier(self, index: int, taken: bool) -> int | None:
        """Rule 5."""
        queue = self._proxy.device.queues[index]
        if taken:
            return self._proxy.notifiers.take(queue)
        self._proxy.notifiers.give_back(queue)
        return None

    def set_guest_notifiers(self, assign: bool, changed: GuestNotifierChanged | None = None) -> list[int]:
        """The eventfds of the queues' vectors; with INTx one that raises it, on the main loop."""
        self._guest_notifier_changed = changed
        while self._guest_notifiers:
            self._release_guest_notifier(self._guest_notifiers.pop())
        if assign:
            self._guest_notifiers = [self._guest_notifier(queue) for queue in self._proxy.device.queues]
        return [notifier.fd for notifier in self._guest_notifiers]

    def vectors_changed(self) -> None:
        """A queue has another vector, or MSI-X was switched: guest notifiers that are assigned follow."""
        for index, before in enumerate(self._guest_notifiers):
            queue = self._proxy.device.queues[index]
            if before.vector == self._vector_fd(queue):
                continue
            now = self._guest_notifiers[index] = self._guest_notifier(queue)
            if self._guest_notifier_changed is not None:
                self._guest_notifier_changed(index, now.fd)
            self._release_guest_notifier(before)
            os.eventfd_write(now.fd, 1)  # one may have been signalled the old way: rather one too many

    def _vector_fd(self, queue: VirtQueue) -> int:
        """The eventfd of the queue's vector; -1 without MSI-X, or without vector."""
        msix = self._proxy.msix
        return msix.fd(queue.vector) if msix is not None and msix.enabled else -1

    def _guest_notifier(self, queue: VirtQueue) -> GuestNotifier:
        vector = self._vector_fd(queue)
        if vector >= 0:
            return GuestNotifier(vector, vector)
        fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._proxy.machine.loop.add_reader(fd, partial(self._guest_notified, fd, queue))
        return GuestNotifier(fd, vector)

    def _release_guest_notifier(self, notifier: GuestNotifier) -> None:
        if notifier.vector < 0:
            self._proxy.machine.loop.remove_reader(notifier.fd)
            os.close(notifier.fd)

    def _guest_notified(self, fd: int, queue: VirtQueue) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(fd)
            self.notify_queue(queue)

    # -- status and run state

    def status_changed(self, old: int, new: int) -> None:
        """Rules 1, 2 and 4."""
        self._proxy.status_changed(old, new)

    def vm_state_changed(self, running: bool) -> None:
        """Rule 7."""
        self._proxy.notifiers.update()

    # -- state

    def save(self) -> dict[str, object]:
        """Everything that the driver set up, of a device that does not serve its queues (the VM is stopped)."""
        proxy, device = self._proxy, self._proxy.device
        return {
            "config": bytes(proxy.config.data).hex(),
            "config_vector": proxy.config_vector,
            "config_generation": proxy.config_generation,
            "bus_master_excused": proxy.bus_master_excused,
            "kicked_early": proxy.kicked_early,
            "msix": proxy.msix.save() if proxy.msix is not None else None,
            "legacy": proxy.legacy.save() if proxy.legacy is not None else None,
            "common": proxy.common.save() if proxy.common is not None else None,
            "isr": device.vdev.isr,
            "status": device.status,
            "features": device.features,
            "queues": [self._save_queue(queue) for queue in device.queues],
        }

    @staticmethod
    def _save_queue(queue: VirtQueue) -> dict[str, object]:
        last_avail, used_idx = queue.positions
        state = {name: getattr(queue, name) for name in QUEUE_STATE}
        return state | {"vector": queue.vector, "last_avail": last_avail, "used_idx": used_idx}

    def load(self, state: dict[str, Any]) -> None:
        """What :meth:`save` returned, into a device of the same shape that does not serve its queues.

        The device's own state is the device's; queues are served again once the VM runs.
        """
        proxy, device = self._proxy, self._proxy.device
        proxy.config.data[:] = bytes.fromhex(state["config"])
        for name in ("config_generation", "bus_master_excused", "kicked_early"):
            setattr(proxy, name, state[name])
        device.status, device.features = state["status"], state["features"]
        if proxy.legacy is not None:
            proxy.legacy.load(state["legacy"])
        if proxy.common is not None:
            proxy.common.load(state["common"])
        proxy.set_config_vector(state["config_vector"])
        for queue, saved in zip(device.queues, state["queues"], strict=True):
            for name in QUEUE_STATE:
                setattr(queue, name, saved[name])
            queue.positions = (saved["last_avail"], saved["used_idx"])
            proxy.set_queue_vector(queue, saved["vector"])
        proxy.config_loaded(state["msix"])
        device.vdev.set_isr(state["isr"])
        proxy.notifiers.update()
