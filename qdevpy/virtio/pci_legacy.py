# SPDX-License-Identifier: Apache-2.0
"""The legacy register interface of virtio-pci (virtio 1.2, 4.1.4.10; virtio 0.9.5): a header in I/O BAR 0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qdevpy.virtio import defs

if TYPE_CHECKING:
    from qdevpy.virtio.pci import VirtIOPCI
    from qdevpy.virtio.queue import VirtQueue

HOST_FEATURES = 0
GUEST_FEATURES = 4
QUEUE_PFN = 8
QUEUE_NUM = 12
QUEUE_SEL = 14
QUEUE_NOTIFY = 16
STATUS = 18
ISR = 19
CONFIG_VECTOR = 20
QUEUE_VECTOR = 22

#: bytes of a page of the queue's address, and the alignment of its used ring (2.7.2)
PAGE = 4096


class LegacyRegisters:
    """The legacy header of one device, and the device's configuration space behind it."""

    def __init__(self, transport: VirtIOPCI) -> None:
        self.transport = transport
        self.reset()

    def reset(self) -> None:
        """What a reset of the device clears."""
        self.queue_select = 0
        self.features_said = False

    def save(self) -> dict[str, object]:
        """The state that is here, as plain data."""
        return {"queue_select": self.queue_select, "features_said": self.features_said}

    def load(self, state: dict[str, Any]) -> None:
        """What :meth:`save` returned."""
        self.queue_select, self.features_said = state["queue_select"], state["features_said"]

    @property
    def offered(self) -> int:
        """Features that a legacy driver may have: the low 32 bits."""
        return self.transport.device.host_features() & 0xFFFFFFFF

    @property
    def queue(self) -> VirtQueue | None:
        """The selected queue, or None beyond the last."""
        queues = self.transport.device.queues
        return queues[self.queue_select] if self.queue_select < len(queues) else None

    @property
    def config_offset(self) -> int:
        """Where the device's configuration starts: vectors are there only while MSI-X is enabled."""
        msix = self.transport.msix
        return 24 if msix is not None and msix.enabled else 20

    def read(self, offset: int, size: int) -> int:
        """A driver's read."""
        transport, queue = self.transport, self.queue
        if offset >= self.config_offset:
            return transport.read_device_config(offset - self.config_offset, size)
        match offset:
            case 0:  # HOST_FEATURES
                return self.offered
            case 4:  # GUEST_FEATURES
                return transport.device.features & 0xFFFFFFFF
            case 8:  # QUEUE_PFN
                return queue.desc // PAGE if queue is not None and queue.enabled else 0
            case 12:  # QUEUE_NUM
                return queue.size_max if queue is not None else 0
            case 14:  # QUEUE_SEL
                return self.queue_select
            case 18:  # STATUS
                return transport.device.status
            case 19:  # ISR
                return transport.device.vdev.read_isr()
            case 20:  # CONFIG_VECTOR
                return transport.config_vector
            case 22:  # QUEUE_VECTOR
                return queue.vector if queue is not None else defs.NO_VECTOR
        return 0

    def write(self, offset: int, value: int, size: int) -> None:
        """A driver's write."""
        transport, queue = self.transport, self.queue
        if offset >= self.config_offset:
            transport.write_device_config(offset - self.config_offset, value, size)
            return
        match offset:
            case 4:  # GUEST_FEATURES
                self._set_features(value & 0xFFFFFFFF)
            case 8:  # QUEUE_PFN
                self._set_pfn(queue, value & 0xFFFFFFFF)
            case 14:  # QUEUE_SEL
                self.queue_select = value & 0xFFFF
            case 16:  # QUEUE_NOTIFY
                self.kicked(value & 0xFFFF)
            case 18:  # STATUS
                self._set_status(value & 0xFF)
            case 20:  # CONFIG_VECTOR
                transport.set_config_vector(value & 0xFFFF)
            case 22 if queue is not None:  # QUEUE_VECTOR
                transport.set_queue_vector(queue, value & 0xFFFF)

    def _set_features(self, value: int) -> None:
        device = self.transport.device
        # in use once the queues are; a modern driver's are not this interface's business
        if not device.status & (defs.STATUS_DRIVER_OK | defs.STATUS_FEATURES_OK) and not self.transport.kicked_early:
            device.features = value & self.offered

    def _settle_features(self) -> None:
        """A legacy driver has no FEATURES_OK: its features hold from its first use of the device (3.1.2).

        Nor has a modern one that skipped it: with DRIVER_OK set its queues run, and devices are told of features before.
        """
        device = self.transport.device
        if not self.features_said and not device.status & (defs.STATUS_FEATURES_OK | defs.STATUS_DRIVER_OK):
            self.features_said = True
            device.contain(lambda: device.features_acked(device.features), "features_acked")

    def _set_pfn(self, queue: VirtQueue | None, page: int) -> None:
        """2.7.2: layout in one piece; page 0 resets the device (rule 4)."""
        if page == 0:
            self.transport.reset_device()
            return
        if queue is None or queue.enabled:
            return
        queue.size = queue.size_max
        queue.desc = page * PAGE
        queue.avail = queue.desc + 16 * queue.size
        queue.used = (queue.avail + 6 + 2 * queue.size + PAGE - 1) & ~(PAGE - 1)
        queue.enabled = True
        self.transport.notifiers.queue_enabled(queue)

    def kicked(self, index: int) -> None:
        """A kick that no ioeventfd and no native queue took.

        Linux before 3.18 reads the partition table before it sets DRIVER_OK, and waits for the answer (QEMU's
        virtio-blk starts its data plane for it, too).
        """
        transport = self.transport
        device = transport.device
        if device.status & defs.STATUS_DRIVER and not device.status & (defs.STATUS_DRIVER_OK | defs.STATUS_FEATURES_OK):
            self._settle_features()
            transport.kicked_early = True
            transport.excuse_missing_bus_master()
            transport.notifiers.update()
        transport.kicked(index)

    def _set_status(self, status: int) -> None:
        if status == 0:
            self.transport.reset_device()
            return
        if status & defs.STATUS_DRIVER_OK:
            self._settle_features()
            self.transport.excuse_missing_bus_master()
        self.transport.device.write_status(status)
