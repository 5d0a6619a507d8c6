# SPDX-License-Identifier: Apache-2.0
"""The callbacks that a transport offers to the virtio devices behind it.

QEMU's ``VirtIOBindings`` of the ioeventfd series, v3: the device does not know what carries it; the
transport learns of status changes from :meth:`TransportBindings.status_changed` and derives the host
notifiers from them, so that start and stop are symmetric.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qdevpy.virtio.queue import VirtQueue

GuestNotifierChanged = Callable[[int, int], None]


class TransportBindings(ABC):
    """What a virtio device may ask of, and what it tells, its transport. With the VM lock held."""

    @abstractmethod
    def notify(self, index: int) -> None:
        """Interrupt the guest for queue INDEX. Written in terms of :meth:`notify_queue`, never the other way round."""

    @abstractmethod
    def notify_queue(self, queue: VirtQueue) -> None:
        """Interrupt the guest for a queue: its MSI-X vector, or INTx with ISR bit 0."""

    @abstractmethod
    def notify_config(self) -> None:
        """Tell the guest that the config space changed (ISR bit 1 or the config vector)."""

    def transport_features(self) -> int:
        """Override: features that the transport offers beside the device's."""
        return 0

    @abstractmethod
    def set_host_notifier(self, index: int, taken: bool) -> int | None:
        """True: somebody else (vhost) serves queue INDEX: our handler is detached, the ioeventfd stays and its
        fd is returned. False: it is ours again; None.
        """

    @abstractmethod
    def set_guest_notifiers(self, assign: bool, changed: GuestNotifierChanged | None = None) -> list[int]:
        """Eventfds, one a queue, whose signals interrupt the guest; vhost writes them.

        :param changed: called with a queue's index and its eventfd from now on, when the driver gives it another vector
            while they are assigned; the old one is not to be signalled after it returned
        """

    @abstractmethod
    def save(self) -> dict[str, object]:
        """The transport's state, as plain data."""

    @abstractmethod
    def load(self, state: dict[str, object]) -> None:
        """Restore what :meth:`save` returned."""

    @abstractmethod
    def vm_state_changed(self, running: bool) -> None:
        """The VM starts or stops; called after the device."""

    @abstractmethod
    def status_changed(self, old: int, new: int) -> None:
        """The device status went from OLD to NEW. Called after the device itself has handled it."""
