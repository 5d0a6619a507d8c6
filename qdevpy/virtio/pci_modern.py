# SPDX-License-Identifier: Apache-2.0
"""The modern register interface of virtio-pci (virtio 1.2, 4.1.4): common configuration and capabilities.

Knows nothing of BARs: offsets are relative to each structure. What a driver writes is kept only where the
specification lets it matter; the rest is ignored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qdevpy.virtio import defs

if TYPE_CHECKING:
    from qdevpy.virtio.pci import VirtIOPCI
    from qdevpy.virtio.queue import VirtQueue

# 4.1.4 cfg_type
CAP_COMMON = 1
CAP_NOTIFY = 2
CAP_ISR = 3
CAP_DEVICE = 4
CAP_PCI = 5

# 4.1.4.3 Common configuration structure layout
DEVICE_FEATURE_SELECT = 0x00
DEVICE_FEATURE = 0x04
DRIVER_FEATURE_SELECT = 0x08
DRIVER_FEATURE = 0x0C
CONFIG_VECTOR = 0x10
NUM_QUEUES = 0x12
DEVICE_STATUS = 0x14
CONFIG_GENERATION = 0x15
QUEUE_SELECT = 0x16
QUEUE_SIZE = 0x18
QUEUE_VECTOR = 0x1A
QUEUE_ENABLE = 0x1C
QUEUE_NOTIFY_OFF = 0x1E
QUEUE_DESC = 0x20
QUEUE_DRIVER = 0x28
QUEUE_DEVICE = 0x30
QUEUE_RESET = 0x3A  # behind queue_notify_data, for VIRTIO_F_NOTIF_CONFIG_DATA (39), which is not offered
COMMON_LENGTH = 0x3C

#: 64-bit addresses by register: the queue's attribute
ADDRESSES = {QUEUE_DESC: "desc", QUEUE_DRIVER: "avail", QUEUE_DEVICE: "used"}
#: feature bits that only the legacy interface has (6.3)
LEGACY_ONLY = 1 << defs.F_NOTIFY_ON_EMPTY | 1 << defs.F_ANY_LAYOUT
#: feature bits that a ring has with VERSION_1 only
MODERN_RINGS = 1 << defs.F_RING_PACKED | 1 << defs.F_IN_ORDER
#: what :meth:`CommonConfig.save` keeps
STATE = ("device_select", "driver_select", "driver_features", "queue_select")


class CommonConfig:
    """The common configuration structure of one device."""

    def __init__(self, transport: VirtIOPCI) -> None:
        self.transport = transport
        self.reset()

    def reset(self) -> None:
        """Selectors and what the driver said of features."""
        self.device_select = 0
        self.driver_select = 0
        self.driver_features = 0
        self.queue_select = 0

    def save(self) -> dict[str, object]:
        """The state that is here, as plain data."""
        return {name: getattr(self, name) for name in STATE}

    def load(self, state: dict[str, Any]) -> None:
        """What :meth:`save` returned."""
        for name in STATE:
            setattr(self, name, state[name])

    @property
    def offered(self) -> int:
        """Features that a modern driver may have."""
        return (self.transport.device.host_features() & ~LEGACY_ONLY) | 1 << defs.F_VERSION_1

    @property
    def queue(self) -> VirtQueue | None:
        """The selected queue, or None beyond the last."""
        queues = self.transport.device.queues
        return queues[self.queue_select] if self.queue_select < len(queues) else None

    def read(self, offset: int, size: int) -> int:
        """A driver's read; 64-bit fields also in halves."""
        for register in ADDRESSES:
            if register <= offset < register + 8:
                value = 0 if self.queue is None else getattr(self.queue, ADDRESSES[register])
                return int(value) >> 8 * (offset - register)
        return self._read(offset)

    def _read(self, offset: int) -> int:
        transport, queue = self.transport, self.queue
        match offset:
            case 0x00:  # DEVICE_FEATURE_SELECT
                return self.device_select
            case 0x04:  # DEVICE_FEATURE
                return self.offered >> 32 * self.device_select & 0xFFFFFFFF if self.device_select < 2 else 0
            case 0x08:  # DRIVER_FEATURE_SELECT
                return self.driver_select
            case 0x0C:  # DRIVER_FEATURE
                return self.driver_features >> 32 * self.driver_select & 0xFFFFFFFF if self.driver_select < 2 else 0
            case 0x10:  # CONFIG_VECTOR
                return transport.config_vector
            case 0x12:  # NUM_QUEUES
                return len(transport.device.queues)
            case 0x14:  # DEVICE_STATUS
                return transport.device.status
            case 0x15:  # CONFIG_GENERATION
                return transport.config_generation
            case 0x16:  # QUEUE_SELECT
                return self.queue_select
        if queue is None:
            return 0
        match offset:
            case 0x18:  # QUEUE_SIZE
                return queue.size
            case 0x1A:  # QUEUE_VECTOR
                return queue.vector
            case 0x1C:  # QUEUE_ENABLE
                return int(queue.enabled)
            case 0x1E:  # QUEUE_NOTIFY_OFF
                return queue.index
        return 0  # QUEUE_RESET too: a reset is done when its write returns (4.1.4.3.1)

    def write(self, offset: int, value: int, size: int) -> None:
        """A driver's write."""
        match offset:
            case 0x00:  # DEVICE_FEATURE_SELECT
                self.device_select = value & 0xFFFFFFFF
            case 0x08:  # DRIVER_FEATURE_SELECT
                self.driver_select = value & 0xFFFFFFFF
            case 0x0C:  # DRIVER_FEATURE
                self._set_driver_features(value & 0xFFFFFFFF)
            case 0x10:  # CONFIG_VECTOR
                self.transport.set_config_vector(value & 0xFFFF)
            case 0x14:  # DEVICE_STATUS
                self.set_status(value & 0xFF)
            case 0x16:  # QUEUE_SELECT
                self.queue_select = value & 0xFFFF
            case _ if self.queue is not None:
                self._write_queue(self.queue, offset, value, size)

    def _set_driver_features(self, value: int) -> None:
        # 3.1.1: fixed once FEATURES_OK is set
        if self.driver_select < 2 and not self.transport.device.status & defs.STATUS_FEATURES_OK:
            shift = 32 * self.driver_select
            self.driver_features = self.driver_features & ~(0xFFFFFFFF << shift) | value << shift

    def set_status(self, status: int) -> None:
        """2.1: zero resets; FEATURES_OK sticks only where the features can be had (2.2.2)."""
        device = self.transport.device
        if status == 0:
            self.transport.reset_device()
            return
        if status & defs.STATUS_FEATURES_OK and not device.status & defs.STATUS_FEATURES_OK:
            if self._acceptable():
                device.features = self.driver_features
                device.contain(lambda: device.features_acked(device.features), "features_acked")
            else:
                status &= ~defs.STATUS_FEATURES_OK
        device.write_status(status)

    def _acceptable(self) -> bool:
        """Whether the device works with what the driver chose (2.2.2); not while queues run under another choice."""
        transport, chosen = self.transport, self.driver_features
        if transport.device.status & defs.STATUS_DRIVER_OK or transport.kicked_early:
            return False
        # 6.1: without VERSION_1 only where a legacy driver would be welcome, too, and that knows split rings only
        modern = bool(chosen >> defs.F_VERSION_1 & 1)
        return not chosen & ~self.offered and (modern or (transport.has_legacy and not chosen & MODERN_RINGS))

    def _write_queue(self, queue: VirtQueue, offset: int, value: int, size: int) -> None:
        if offset == QUEUE_VECTOR:
            self.transport.set_queue_vector(queue, value & 0xFFFF)
        elif offset == QUEUE_ENABLE:
            # 4.1.4.3.2: 0 is not to be written; nothing happens then
            if value & 0xFFFF == 1 and not queue.enabled:
                queue.enabled = True
                self.transport.notifiers.queue_enabled(queue)
        elif offset == QUEUE_RESET:
            if value & 0xFFFF == 1 and self.transport.device.has_feature(defs.F_RING_RESET):
                self.transport.reset_queue(queue)
        elif queue.enabled:
            return  # 4.1.5.1.3: size and addresses are fixed by enabling
        elif offset == QUEUE_SIZE:
            self._set_size(queue, value & 0xFFFF)
        else:
            self._write_address(queue, offset, value, size)

    def _set_size(self, queue: VirtQueue, wanted: int) -> None:
        """4.1.4.3.2: a power of two, which a packed ring's size need not be (2.8.10.1)."""
        fits = wanted & (wanted - 1) == 0 or self.transport.device.has_feature(defs.F_RING_PACKED)
        if 0 < wanted <= queue.size_max and fits:
            queue.size = wanted

    def _write_address(self, queue: VirtQueue, offset: int, value: int, size: int) -> None:
        for register, attribute in ADDRESSES.items():
            if not register <= offset < register + 8:
                continue
            shift = 8 * (offset - register)
            mask = ((1 << 8 * size) - 1) << shift & 0xFFFFFFFFFFFFFFFF
            setattr(queue, attribute, getattr(queue, attribute) & ~mask | value << shift & mask)
