# SPDX-License-Identifier: Apache-2.0
"""What virtio-pci offers to the device behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qdevpy.native._core import lib
from qdevpy.virtio.bindings import TransportBindings

if TYPE_CHECKING:
    from qdevpy.virtio.pci import VirtIOPCI
    from qdevpy.virtio.queue import VirtQueue

ISR_CONFIG: int = lib.QD_ISR_CONFIG
#: what a queue's state is made of
QUEUE_STATE = ("size", "desc", "avail", "used", "enabled", "vector")


class PCIBindings(TransportBindings):
    """The callbacks of one virtio-pci function."""

    def __init__(self, proxy: VirtIOPCI) -> None:
        self._proxy = proxy

    def notify(self, index: int) -> None:
        """By number (rule 9)."""
        self.notify_queue(self._proxy.device.queues[index])

    def notify_queue(self, queue: VirtQueue) -> None:
        """The queue's vector, or INTx."""
        queue.signal()

    def notify_config(self) -> None:
        """The config vector, or INTx with ISR bit 1 (4.1.5.3)."""
        proxy = self._proxy
        proxy.config_generation = (proxy.config_generation + 1) & 0xFF
        if proxy.msix is not None and proxy.msix.enabled:
            proxy.msix.notify(proxy.config_vector)
        else:
            proxy.device.vdev.set_isr(ISR_CONFIG)

    def set_host_notifier(self, index: int, taken: bool) -> int | None:
        """Rule 5."""
        if taken:
            return self._proxy.notifiers.take(index)
        self._proxy.notifiers.give_back(index)
        return None

    def set_guest_notifiers(self, assign: bool) -> list[int]:
        """The eventfds of the queues' vectors, -1 where one has none."""
        msix = self._proxy.msix
        if not assign or msix is None:
            return []
        return [msix.fd(queue.vector) for queue in self._proxy.device.queues]

    def status_changed(self, old: int, new: int) -> None:
        """Rules 1, 2 and 4."""
        self._proxy.notifiers.update()

    def vm_state_changed(self, running: bool) -> None:
        """Rule 7."""
        self._proxy.notifiers.update()

    def save(self) -> dict[str, object]:
        """Configuration space, vectors and queues."""
        proxy = self._proxy
        return {
            "config": bytes(proxy.config.data).hex(),
            "config_vector": proxy.config_vector,
            "status": proxy.device.status,
            "features": proxy.device.features,
            "queues": [{name: getattr(queue, name) for name in QUEUE_STATE} for queue in proxy.device.queues],
        }

    def load(self, state: dict[str, Any]) -> None:
        """What :meth:`save` returned, into a device of the same shape that is not serving."""
        proxy = self._proxy
        proxy.config.data[:] = bytes.fromhex(state["config"])
        proxy.device.status, proxy.device.features = state["status"], state["features"]
        for bar in proxy.bars:
            bar.update(proxy.config, proxy.machine.space)
        if proxy.msix is not None:
            proxy.msix.config_written()
            proxy.device.vdev.set_use_msix(proxy.msix.enabled)
        proxy.set_config_vector(state["config_vector"])
        for queue, saved in zip(proxy.device.queues, state["queues"], strict=True):
            for name in QUEUE_STATE:
                setattr(queue, name, saved[name])
            proxy.set_queue_vector(queue, queue.vector)
        proxy.notifiers.update()
