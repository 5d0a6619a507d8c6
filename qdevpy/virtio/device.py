# SPDX-License-Identifier: Apache-2.0
"""The contract of a virtio device: queues, features, config space. Knows no transport.

Device status (virtio 1.2, 2.1), as the transport moves it::

        0 --ACKNOWLEDGE--> --DRIVER--> --FEATURES_OK--> --DRIVER_OK--> serving
        ^                                                      |
        |                                        NEEDS_RESET <-+- mark_broken()
        +------------------------ reset ----------------------+
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from qdevpy.errors import RealizeError
from qdevpy.qdev import kinds
from qdevpy.qdev import property as prop
from qdevpy.qdev.device import Device, Notification
from qdevpy.virtio import defs

if TYPE_CHECKING:
    from qdevpy.faults.target import FaultTarget
    from qdevpy.native.iothread import IOThread
    from qdevpy.native.vdev import VDev
    from qdevpy.virtio.bindings import TransportBindings
    from qdevpy.virtio.config_space import ConfigSpace
    from qdevpy.virtio.queue import NativeHandler, VirtQueue

log = logging.getLogger(__name__)

#: as QEMU's VIRTIO_QUEUE_MAX and QD_VDEV_QUEUES
MAX_QUEUES = 1024
#: warnings about what one device's driver did wrong; a guest that goes on resetting it must not fill our log
MAX_COMPLAINTS = 10
NO_MIGRATION = "there is no migration from and to other versions"


class VirtIODevice(Device):
    """Base class of virtio devices.

    A subclass sets the class variables, declares properties, adds its queues in :meth:`do_realize` with
    :meth:`add_queue`, and overrides ``handle_output`` (Python) or gives ``native=`` (C) for each.

    :cvar base_name: ``virtio-blk``; transports derive ``virtio-blk-pci`` and its siblings
    :cvar device_id: virtio 1.2, section 5
    :cvar pci_class: class code of the PCI function, 24 bits (``0x010000``)
    :cvar transitional_id: PCI device id of the transitional device, or None where there is none
    :cvar ioeventfd: the notification policy; every device declares it
    :cvar pci_properties: those of ``class``, ``ioeventfd`` and ``vectors`` that its PCI types offer, in QEMU's order
    :cvar pci_romfile: option ROM by which firmware drives it, where the user names none
    :cvar pci_vectors: default of ``vectors``; 0xFFFFFFFF: what :attr:`vectors_wanted` says
    :cvar pci_class_choices: the only class codes that ``class`` may choose, any other means ``pci_class``; empty: any
    :cvar config_type: the config space, where it is a class with fields (:mod:`.config_space`); None: get_config says
    :ivar config_space: the device's own, from realize on
    :ivar status: the device status register
    :ivar features: negotiated features
    :ivar queues: all queues, by index
    :ivar bindings: the transport's callbacks; set before realize
    :ivar vdev: the device as the C core sees it, from realize to unrealize: ISR, INTx, events of I/O threads
    """

    type_name: ClassVar[str] = "virtio-device"
    abstract: ClassVar[bool] = True
    base_name: ClassVar[str] = ""
    device_id: ClassVar[int] = 0
    pci_class: ClassVar[int] = 0xFF0000
    transitional_id: ClassVar[int | None] = None
    bus_type: ClassVar[str | None] = "virtio-bus"
    ioeventfd: ClassVar[Notification | None] = Notification.ALLOWED
    pci_properties: ClassVar[Sequence[str]] = ("ioeventfd", "vectors")
    pci_vectors: ClassVar[int] = 0xFFFFFFFF
    pci_romfile: ClassVar[str | None] = None
    pci_class_choices: ClassVar[Sequence[int]] = ()
    config_type: ClassVar[type[ConfigSpace] | None] = None

    indirect_desc: bool = prop.bit(
        "features", defs.F_RING_INDIRECT_DESC, True, name="indirect_desc", help="offer VIRTIO_F_INDIRECT_DESC"
    )
    event_idx: bool = prop.bit("features", defs.F_RING_EVENT_IDX, True, name="event_idx", help="offer VIRTIO_F_EVENT_IDX")
    notify_on_empty: bool = prop.bit(
        "features", defs.F_NOTIFY_ON_EMPTY, True, name="notify_on_empty", help="offer VIRTIO_F_NOTIFY_ON_EMPTY (legacy)"
    )
    any_layout: bool = prop.bit("features", defs.F_ANY_LAYOUT, True, name="any_layout", help="offer VIRTIO_F_ANY_LAYOUT (legacy)")
    iommu_platform: bool = prop.only(
        kinds.Bit(), False, name="iommu_platform", why="the board has no IOMMU", help="offer VIRTIO_F_ACCESS_PLATFORM"
    )
    packed: bool = prop.bit("features", defs.F_RING_PACKED, False, help="offer VIRTIO_F_RING_PACKED")
    in_order: bool = prop.bit("features", defs.F_IN_ORDER, False, name="in_order", help="offer VIRTIO_F_IN_ORDER")
    notification_data: bool = prop.bit(
        "features", defs.F_NOTIFICATION_DATA, False, help="offer VIRTIO_F_NOTIFICATION_DATA: kicks carry positions"
    )
    queue_reset: bool = prop.bit("features", defs.F_RING_RESET, True, name="queue_reset", help="offer VIRTIO_F_RING_RESET")
    use_started: bool = prop.only(kinds.Bool(), True, why=NO_MIGRATION, help="migrate whether the device is started")
    use_disabled_flag: bool = prop.only(kinds.Bool(), True, why=NO_MIGRATION, help="migrate whether the device is disabled")
    disable_legacy_check: bool = prop.only(
        kinds.Bool(),
        False,
        name="x-disable-legacy-check",
        why=NO_MIGRATION,
        help="let any device have legacy registers",
    )

    config_space: Any = attrs.field(default=None, init=False)
    status: int = attrs.field(default=0, init=False)
    features: int = attrs.field(default=0, init=False)
    queues: list[VirtQueue] = attrs.field(factory=list, init=False)
    bindings: TransportBindings = attrs.field(default=None, init=False)
    broken: str | None = attrs.field(default=None, init=False)
    vdev: VDev = attrs.field(default=None, init=False)
    _complaints: int = attrs.field(default=0, init=False)

    def __init_subclass__(cls, **options: Any) -> None:
        """Name the device itself ``BASE-device``, as QEMU does, where the class gives no ``type_name``."""
        super().__init_subclass__(**options)
        if "base_name" in cls.__dict__ and "type_name" not in cls.__dict__:
            cls.type_name = f"{cls.base_name}-device"

    # -- for subclasses to override

    @property
    def vectors_wanted(self) -> int:
        """MSI-X vectors a transport offers by default: one a queue and one for config changes."""
        return len(self.queues) + 1

    def host_features(self) -> int:
        """Features offered, without the transport's; default: the bit properties of word ``features``."""
        return prop.word_of(self, "features")

    @classmethod
    def feature_names(cls) -> Mapping[int, str]:
        """Override: the device's own feature bits, ``VIRTIO_BLK_F_FLUSH`` and so on, for who looks at it from outside.

        :func:`qdevpy.virtio.defs.feature_names` makes it of a module's constants.
        """
        return {}

    def features_acked(self, features: int) -> None:
        """The driver settled on FEATURES (FEATURES_OK, or DRIVER_OK of a legacy driver)."""

    def get_config(self) -> bytes:
        """The device-specific config space; its length is its size."""
        return b"" if self.config_space is None else bytes(self.config_space.pack())

    def set_config(self, offset: int, data: bytes) -> None:
        """The driver wrote DATA at OFFSET of the config space; inside the bounds of :meth:`get_config`."""
        if self.config_space is not None:
            names = self.config_space.written(offset, data)
            if names:
                self.contain(lambda: self.config_fields_written(names), f"write of config space field {', '.join(names)}")

    def config_fields_written(self, names: Sequence[str]) -> None:
        """The driver set fields NAMES of ``config_space``."""

    def status_set(self, old: int, new: int) -> None:
        """The driver wrote the status; called before the transport's ``status_changed``."""

    def handle_output(self, queue: VirtQueue) -> None:
        """Serve QUEUE: called for a kick where the queue has no native handler, with the VM lock held."""
        raise NotImplementedError(f"{type(self).__name__} has queue {queue.index} and no handle_output")

    def before_serving(self) -> None:
        """Queues are about to be served, or one more of them; a device whose queues somebody else serves (vhost) hands
        them over here, with ``bindings.set_host_notifier``.
        """

    def after_serving(self) -> None:
        """No queue is served any more: what was handed over is taken back here."""

    def forget_queue(self, queue: VirtQueue) -> None:
        """The driver resets QUEUE alone, which stands still: drop chains of it that are kept. Called before it is reset."""

    def bytes_moved(self) -> tuple[int, int] | None:
        """Override where it is counted: bytes of payload to the guest and from it, ever; for who looks from outside."""
        return None

    def fault_target(self) -> FaultTarget:
        """Override: the device as faults see it (docs/faults.md), with kinds of requests and effects of its own. Any time,
        also before it is realized.
        """
        from qdevpy.faults.target import FaultTarget

        return FaultTarget(self)

    def native_event(self, bits: int) -> None:
        """A native handler called ``api->event(vdev, bits)``; on the main loop, with the VM lock held."""

    # -- for subclasses to use

    def add_queue(self, size: int, *, native: NativeHandler | None = None, name: str = "") -> VirtQueue:
        """Add the next queue, in do_realize. SIZE: entries offered, a power of two up to 1024.

        :param native: the C handler; None: :meth:`handle_output` serves it
        :raises RealizeError: the device would have more than :data:`MAX_QUEUES`
        """
        from qdevpy.virtio.queue import VirtQueue

        if len(self.queues) == MAX_QUEUES:
            raise RealizeError(f"has more than {MAX_QUEUES} queues; ask for fewer", device=self.label)
        queue = VirtQueue(self, len(self.queues), size, native=native, name=name)
        self.queues.append(queue)
        return queue

    def change_config(self, **values: Any) -> None:
        """Set fields of ``config_space`` and tell the driver, which sees a new generation (2.5.1). With the VM lock held.

        :raises ValueError: one does not fit; nothing is changed
        """
        self.config_space = self.config_space.changed(**values)
        self.bindings.notify_config()

    def move_queues(self, iothread: IOThread) -> None:
        """Let IOTHREAD serve all queues that C serves, from now on and while the driver uses them. With the VM lock held.

        :raises OSError: the host refuses; some may have moved
        """
        for queue in self.queues:
            if queue.iothread is not None:
                queue.move_to(iothread)

    def mark_broken(self, why: str) -> None:
        """The driver broke a rule: set NEEDS_RESET, tell it, and serve nothing until it resets (2.1.1). The VM goes on."""
        if self.broken is not None:
            return
        self.broken = why
        self.vdev.set_error(True)
        self.blame_driver(f"{why}; the device needs a reset by its driver")
        self.status |= defs.STATUS_NEEDS_RESET
        if self.features & (1 << defs.F_VERSION_1) and self.status & defs.STATUS_DRIVER_OK:
            self.bindings.notify_config()

    def callback_failed(self, error: Exception, what: str) -> None:
        """The device asks its driver for a reset, and says why."""
        log.error("%s: in %s", self.label, what, exc_info=error)
        self.mark_broken(f"{what}: {type(error).__name__}: {error}")

    def blame_driver(self, message: str) -> None:
        """Warn of what the driver did wrong; after :data:`MAX_COMPLAINTS` times it is for debugging only."""
        self._complaints += 1
        last = "; no more of this from now on" if self._complaints == MAX_COMPLAINTS else ""
        level = logging.WARNING if self._complaints <= MAX_COMPLAINTS else logging.DEBUG
        log.log(level, "%s: %s%s", self.label, message, last)

    # -- life cycle

    def realize(self) -> None:
        """As :meth:`Device.realize`; ``vdev`` is there before do_realize, and goes after everything else."""
        from qdevpy.native.vdev import VDev

        if self.config_type is not None:
            self.config_space = self.config_type()
        self.vdev = VDev(self.machine.memory)
        self.cleanup.callback(self._free_vdev)
        self.machine.loop.add_reader(self.vdev.event_fd, self._take_events)
        super().realize()

    def _free_vdev(self) -> None:
        for queue in self.queues:
            queue.close()
        self.queues.clear()
        self.machine.loop.remove_reader(self.vdev.event_fd)
        self.vdev.close()

    def _take_events(self) -> None:
        """An I/O thread reported something; on the main loop."""
        from qdevpy.native.vdev import EVENT_ERROR

        bits = self.vdev.take_events()
        error = self.vdev.error
        if bits & EVENT_ERROR and error is not None:
            self.mark_broken(error)
        if bits & ~EVENT_ERROR:
            self.native_event(bits & ~EVENT_ERROR)

    # -- for transports

    def write_status(self, new: int) -> None:
        """The driver writes the status register with a nonzero value: device first, then the transport."""
        old = self.status
        self.status = new | (old & defs.STATUS_NEEDS_RESET)
        self.contain(lambda: self.status_set(old, self.status), f"status_set to {self.status:#x}")
        self.bindings.status_changed(old, self.status)

    def has_feature(self, number: int) -> bool:
        """Whether feature bit NUMBER was negotiated."""
        return bool(self.features >> number & 1)

    def reset(self) -> None:
        """Status 0: the device cleans up first, then the transport (rule 4), then queues and features are cleared."""
        old = self.status
        super().reset()
        self.status = 0
        if self.bindings is not None:
            self.bindings.status_changed(old, 0)
        for queue in self.queues:
            queue.reset()
        self.features = 0
        self.broken = None
        self.vdev.take_events()
        self.vdev.set_error(False)

    def state_summary(self) -> dict[str, Any]:
        """Per queue: entries, kicks by way, requests, interrupts."""
        return {queue.name or str(queue.index): queue.counters() for queue in self.queues}
