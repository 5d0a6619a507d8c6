# SPDX-License-Identifier: Apache-2.0
"""virtio-pci: a PCI function that carries a virtio device (virtio 1.2, 4.1; QEMU ``hw/virtio/virtio-pci.c``).

============  =====================================================================
BAR 0 (I/O)   legacy registers, unless ``disable-legacy=on``
BAR 1         MSI-X table and pending bits
BAR 2 (I/O)   modern notify register, with ``modern-pio-notify=on``
BAR 4         modern structures, unless ``disable-modern=on``: common 0x0000, ISR 0x1000, device 0x2000, notify 0x3000
============  =====================================================================

Registers are in ``pci_legacy.py``, ``pci_modern.py`` and ``pci_window.py``, what the device may call in
``pci_bindings.py``, when queues are served in ``host_notifiers.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from qdevpy.accel.base import IoEvent
from qdevpy.errors import PropertyError, RealizeError
from qdevpy.pci import config
from qdevpy.pci.device import PCIDevice, express_bit
from qdevpy.pci.msix import MAX_VECTORS
from qdevpy.qdev import kinds
from qdevpy.qdev import property as prop
from qdevpy.qdev.device import Notification
from qdevpy.virtio import defs, pci_legacy, pci_modern
from qdevpy.virtio.bus import VirtIOBus
from qdevpy.virtio.device import NO_MIGRATION
from qdevpy.virtio.host_notifiers import HostNotifiers
from qdevpy.virtio.pci_bindings import PCIBindings
from qdevpy.virtio.pci_legacy import LegacyRegisters
from qdevpy.virtio.pci_modern import CommonConfig
from qdevpy.virtio.pci_window import ConfigWindow, Reachable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qdevpy.accel.base import Accelerator
    from qdevpy.native.space import AddressSpace, Mapping
    from qdevpy.qdev.bus import Bus
    from qdevpy.qdev.object import Object
    from qdevpy.qdev.property import Property
    from qdevpy.virtio.device import VirtIODevice
    from qdevpy.virtio.queue import VirtQueue

LEGACY_BAR = 0
MSIX_BAR = 1
MODERN_IO_BAR = 2
MODERN_BAR = 4
COMMON, ISR, DEVICE, NOTIFY = 0x0000, 0x1000, 0x2000, 0x3000
NOTIFY_MULTIPLIER = 4
PAGE = 0x1000
VENDOR_CAPABILITY = 0x09
UNSPECIFIED = 0xFFFFFFFF  #: ``vectors``: as many as the device wants
DISABLE_LEGACY = "leave out the legacy registers; auto: where the device never had any"
#: why ``ioeventfd`` cannot be set on a device whose class forbids it
FORBIDDEN = (
    "property 'ioeventfd' is not available: this device's driver waits for a kick to have been served, so kicks are "
    "synchronous by design; remove the property"
)


class VirtIOPCI(PCIDevice):
    """Base class of all virtio-pci types; :mod:`qdevpy.virtio.pci_types` derives one for each device class and variant.

    :cvar device_class: what it carries
    :ivar device: the device behind it
    :ivar bindings: what it may call
    :ivar notifiers: its host notifiers
    :ivar bus_master_excused: rule 8: the driver may do without bus mastering; cleared by a reset
    :ivar kicked_early: a legacy driver kicked before DRIVER_OK; cleared by DRIVER_OK and by a reset
    """

    type_name: ClassVar[str] = "virtio-pci"
    abstract: ClassVar[bool] = True
    vendor_id: ClassVar[int] = defs.PCI_VENDOR
    device_class: ClassVar[type[VirtIODevice]]

    bus_master_bug_migration: bool = prop.bit(
        "flags",
        0,
        False,
        name="virtio-pci-bus-master-bug-migration",
        help="enable bus mastering of a driver that was saved without it",
    )
    migrate_extra: bool = prop.only(kinds.Bit(), True, why=NO_MIGRATION, help="migrate the modern registers, too")
    modern_pio_notify: bool = prop.bit("flags", 4, False, help="offer the modern notify register in I/O space, too")
    disable_pcie: bool = prop.bit(
        "flags", 5, False, name="x-disable-pcie", help="never a PCI Express function; it is none on any bus there is"
    )
    page_per_vq: bool = prop.bit("flags", 6, False, help="give each queue's notify register a page of its own")
    ignore_backend_features: bool = prop.only(
        kinds.Bool(),
        False,
        name="x-ignore-backend-features",
        why="every device has the modern interface",
        help="offer the modern interface without VERSION_1",
    )
    ats: bool = express_bit("ats", False, "address translation service")
    ats_page_aligned: bool = express_bit("x-ats-page-aligned", True, "its requests are page aligned")
    deverr_init: bool = express_bit("x-pcie-deverr-init", True, "device errors can be reported")
    lnkctl_init: bool = express_bit("x-pcie-lnkctl-init", True, "link control can be written")
    pm_init: bool = express_bit("x-pcie-pm-init", True, "power management can be written")
    flr_init: bool = express_bit("x-pcie-flr-init", True, "function level reset")
    aer: bool = express_bit("aer", False, "advanced error reporting")
    bus_master_workaround: bool = prop.boolean(
        True,
        name="x-bus-master-workaround",
        dynamic=True,
        help="serve legacy drivers that start the device before they enable bus mastering",
    )

    vectors: int = attrs.field(default=UNSPECIFIED, init=False)
    device_class_code: int = attrs.field(default=0, init=False)
    disable_legacy: str = attrs.field(default="auto", init=False)
    disable_modern: bool = attrs.field(default=False, init=False)
    device: VirtIODevice = attrs.field(default=None, init=False)
    bindings: PCIBindings = attrs.field(default=None, init=False)
    notifiers: HostNotifiers = attrs.field(default=None, init=False)
    bus_master_excused: bool = attrs.field(default=False, init=False)
    kicked_early: bool = attrs.field(default=False, init=False)
    config_vector: int = attrs.field(default=defs.NO_VECTOR, init=False)
    config_generation: int = attrs.field(default=0, init=False)
    legacy: LegacyRegisters | None = attrs.field(default=None, init=False)
    common: CommonConfig | None = attrs.field(default=None, init=False)
    window: ConfigWindow | None = attrs.field(default=None, init=False)

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.device = self.device_class()
        self.add_part("virtio-backend", self.device)

    # -- properties

    def property_owners(self) -> Iterator[Object]:
        """The transport, then the device behind it."""
        yield self
        yield self.device

    def find_property(self, name: str) -> tuple[Object, Property]:
        """As :meth:`Object.find_property`; says why ``ioeventfd`` is not there where it is forbidden."""
        if name == "ioeventfd" and self.device_class.ioeventfd is Notification.FORBIDDEN:
            raise PropertyError(FORBIDDEN, device=self.label, name=name)
        return super().find_property(name)

    @property
    def has_legacy(self) -> bool:
        """Whether the legacy registers are there."""
        return self.disable_legacy != "on" and self.device_class.transitional_id is not None

    # -- life cycle

    def realize(self) -> None:
        """As :meth:`PCIDevice.realize`.

        :raises RealizeError: no register interface is left, or one is asked for that the device cannot have
        """
        if self.disable_legacy == "off" and self.device_class.transitional_id is None:
            raise RealizeError(
                "disable-legacy=off: the device never had legacy registers; remove the property", device=self.label
            )
        if not self.has_legacy and self.disable_modern:
            raise RealizeError("disable-legacy and disable-modern are both on; leave one interface", device=self.label)
        self.disable_legacy = "off" if self.has_legacy else "on"
        choices = self.device_class.pci_class_choices
        if choices and self.device_class_code not in choices:
            self.device_class_code = self.device_class.pci_class >> 8
        super().realize()

    def do_realize(self) -> None:
        """The device behind, then BARs and capabilities for what it turned out to need."""
        device = self.device
        device.id = self.id
        device.machine = self.machine
        device.bindings = self.bindings = PCIBindings(self)
        self.notifiers = HostNotifiers(device, self)
        bus = self.add_bus(VirtIOBus("virtio-bus", self))
        self.cleanup.callback(self._unplug_device, bus)
        bus.plug(device)
        self._set_identity()
        device.vdev.set_intx(self.intx.native)
        if self.vectors == UNSPECIFIED:
            self.vectors = min(device.vectors_wanted, MAX_VECTORS)
        if self.vectors:
            self.init_msix(self.vectors, MSIX_BAR)
        reachable: dict[int, Reachable] = {}
        if self.has_legacy:
            reachable |= self._offer_legacy()
        if not self.disable_modern:
            self._offer_modern(reachable)

    def _unplug_device(self, bus: Bus) -> None:
        for device in list(bus.children):
            bus.unplug(device)

    def unrealize(self) -> None:
        """As :meth:`PCIDevice.unrealize`; nobody reaches the device any more once it goes."""
        for bar in self.bars:
            bar.unmap()
        self.notifiers.close()
        self.bindings.set_guest_notifiers(False)
        super().unrealize()

    def _set_identity(self) -> None:
        """4.1.2.1, 4.1.2.3: transitional devices have the old ids and revision 0."""
        device, space = self.device, self.config
        transitional = device.transitional_id if self.has_legacy else None
        space.set(config.DEVICE_ID, transitional or defs.PCI_MODERN_BASE + device.device_id, 2)
        space.set(config.REVISION, 0 if transitional else 1, 1)
        space.set(config.CLASS, self.device_class_code << 8 or device.pci_class, 3)
        space.set(config.SUBSYSTEM_VENDOR_ID, defs.PCI_VENDOR, 2)
        space.set(config.SUBSYSTEM_ID, device.device_id if transitional else 0x1100, 2)

    def _offer_legacy(self) -> dict[int, Reachable]:
        self.legacy = LegacyRegisters(self)
        length = 24 + len(self.device.get_config())
        bar = self.register_bar(LEGACY_BAR, "io", 1 << (length - 1).bit_length(), on_map=self._map_legacy)
        return {LEGACY_BAR: Reachable(bar.size, self.legacy.read, self.legacy.write)}

    def _offer_modern(self, reachable: dict[int, Reachable]) -> None:
        self.common = CommonConfig(self)
        notify_length = max(1, len(self.device.queues)) * self.notify_multiplier
        size = 1 << (NOTIFY + notify_length - 1).bit_length()
        bar = self.register_bar(MODERN_BAR, "mem64", size, on_map=self._map_modern)
        reachable[MODERN_BAR] = Reachable(bar.size, self._read_modern, self._write_modern)
        self._add_capability(pci_modern.CAP_COMMON, MODERN_BAR, COMMON, pci_modern.COMMON_LENGTH)
        self._add_capability(pci_modern.CAP_ISR, MODERN_BAR, ISR, 1)
        self._add_capability(pci_modern.CAP_DEVICE, MODERN_BAR, DEVICE, max(4, len(self.device.get_config())))
        offset = self._add_capability(pci_modern.CAP_NOTIFY, MODERN_BAR, NOTIFY, notify_length, extra=4)
        self.config.set(offset + 16, self.notify_multiplier, 4)
        if self.modern_pio_notify:
            bar = self.register_bar(MODERN_IO_BAR, "io", 4, on_map=self._map_modern_io)
            reachable[MODERN_IO_BAR] = Reachable(bar.size, lambda offset, size: 0, self._kicked_by_value)
            # later capabilities come first in the list: this is the one that drivers find
            offset = self._add_capability(pci_modern.CAP_NOTIFY, MODERN_IO_BAR, 0, 4, extra=4)
            self.config.set(offset + 16, 0, 4)
        at = self._add_capability(pci_modern.CAP_PCI, 0, 0, 0, extra=4)
        self.window = ConfigWindow(self.config, at, reachable)

    def _add_capability(self, kind: int, bar: int, offset: int, length: int, extra: int = 0) -> int:
        """4.1.4: a vendor capability that says where a structure is."""
        at = self.config.add_capability(VENDOR_CAPABILITY, 16 + extra)
        self.config.set(at + 2, 16 + extra, 1)
        self.config.set(at + 3, kind, 1)
        self.config.set(at + 4, bar, 1)
        self.config.set(at + 8, offset, 4)
        self.config.set(at + 12, length, 4)
        return at

    @property
    def notify_multiplier(self) -> int:
        """4.1.4.4: bytes between the notify registers of two queues."""
        return PAGE if self.page_per_vq else NOTIFY_MULTIPLIER

    # -- BARs

    def _map_legacy(self, space: AddressSpace, bus: str, base: int) -> Iterator[Mapping]:
        assert self.legacy is not None
        legacy = self.legacy
        yield space.map(bus, base, self.bar_at(LEGACY_BAR).size, legacy.read, legacy.write)
        yield space.map_notify(
            bus,
            base + pci_legacy.QUEUE_NOTIFY,
            2,
            self.device.vdev,
            multiplier=None,
            read=lambda offset, size: 0,
            write=lambda offset, value, size: legacy.kicked(value & 0xFFFF),
        )

    def _map_modern(self, space: AddressSpace, bus: str, base: int) -> Iterator[Mapping]:
        size = self.bar_at(MODERN_BAR).size
        yield space.map(bus, base, size, self._read_modern, self._write_modern)
        yield space.map_notify(
            bus,
            base + NOTIFY,
            size - NOTIFY,
            self.device.vdev,
            multiplier=self.notify_multiplier,
            read=lambda offset, size: 0,
            write=lambda offset, value, size: self._write_modern(NOTIFY + offset, value, size),
        )

    def _map_modern_io(self, space: AddressSpace, bus: str, base: int) -> Iterator[Mapping]:
        yield space.map_notify(
            bus, base, 4, self.device.vdev, multiplier=None, read=lambda offset, size: 0, write=self._kicked_by_value
        )

    def _read_modern(self, offset: int, size: int) -> int:
        assert self.common is not None
        if offset >= NOTIFY:
            return 0
        if offset >= DEVICE:
            return self.read_device_config(offset - DEVICE, size)
        if offset >= ISR:
            return self.device.vdev.read_isr() if offset == ISR else 0
        return self.common.read(offset, size)

    def _write_modern(self, offset: int, value: int, size: int) -> None:
        assert self.common is not None
        if offset >= NOTIFY:
            self.kicked((offset - NOTIFY) // self.notify_multiplier)
        elif offset >= DEVICE:
            self.write_device_config(offset - DEVICE, value, size)
        elif offset < ISR:
            self.common.write(offset, value, size)

    def _kicked_by_value(self, offset: int, value: int, size: int) -> None:
        self.kicked(value & 0xFFFF)

    # -- what register interfaces call

    def kicked(self, index: int) -> None:
        """A kick that neither an ioeventfd nor a native queue took: a queue in Python, one that is not started, or none."""
        queues = self.device.queues
        if index < len(queues):
            self.notifiers.kick(queues[index])

    def read_device_config(self, offset: int, size: int) -> int:
        """The device's configuration space; beyond it reads as zero, and as ones where the device fails."""
        found = bytearray(b"\xff" * size)

        def read() -> None:
            found[:] = self.device.get_config()[offset : offset + size]

        self.device.contain(read, f"read of config space (offset {offset:#x}, {size} bytes)")
        return int.from_bytes(found, "little")

    def write_device_config(self, offset: int, value: int, size: int) -> None:
        """A write inside the device's configuration space; any other is dropped."""

        def write() -> None:
            if offset + size <= len(self.device.get_config()):
                self.device.set_config(offset, value.to_bytes(size, "little"))

        self.device.contain(write, f"write of {value:#x} to config space (offset {offset:#x}, {size} bytes)")

    def set_config_vector(self, vector: int) -> None:
        """4.1.5.1.2.1: a vector that is not there reads back as NO_VECTOR."""
        self.config_vector = self._exchange_vector(self.config_vector, vector)

    def set_queue_vector(self, queue: VirtQueue, vector: int) -> None:
        """As :meth:`set_config_vector`, for a queue."""
        fd = -1 if self.msix is None else self.msix.fd(vector)
        queue.set_irq_fd(fd)  # first: what is pending of the old vector goes with it
        queue.vector = self._exchange_vector(queue.vector, vector)
        self.bindings.vectors_changed()

    def _exchange_vector(self, old: int, new: int) -> int:
        if self.msix is None:
            return defs.NO_VECTOR
        self.msix.use(new)
        self.msix.unuse(old)
        return new if new < self.msix.vectors else defs.NO_VECTOR

    def excuse_missing_bus_master(self) -> None:
        """Rule 8: a legacy driver starts the device and has not enabled bus mastering; Linux before 2.6.34 never does."""
        if self.bus_master_workaround and not self.bus_master:
            self.bus_master_excused = True

    def reset_device(self) -> None:
        """Status 0 or PFN 0: the device first; its ``status_changed`` does the rest (4)."""
        self.device.reset()

    def reset_queue(self, queue: VirtQueue) -> None:
        """The driver resets one queue (2.6.1): nothing of it is in flight on return; it may be set up again."""
        self.notifiers.give_back(queue)
        self.set_queue_vector(queue, defs.NO_VECTOR)
        queue.stop()
        self.device.forget_queue(queue)
        queue.reset()

    def status_changed(self, old: int, new: int) -> None:
        """Rules 1, 2 and 4; the device has handled it already."""
        if new & defs.STATUS_DRIVER_OK:
            self.kicked_early = False
        if new:
            self.notifiers.update()
        else:
            self._forget_driver()

    def _forget_driver(self) -> None:
        """Rule 4: host notifiers, then vectors; rule 8: and the excuse."""
        self.bus_master_excused = self.kicked_early = False
        self.notifiers.reset()
        for queue in self.device.queues:
            queue.set_irq_fd(-1)
        self.config_vector = defs.NO_VECTOR
        if self.msix is not None:
            self.msix.unuse_all()
        self.device.vdev.read_isr()
        for registers in (self.legacy, self.common):
            if registers is not None:
                registers.reset()

    # -- host notifiers: NotifierTransport

    @property
    def dma_allowed(self) -> bool:
        """Bus mastering, or the driver is excused from it (8)."""
        return self.bus_master or self.bus_master_excused

    @property
    def ioeventfd_wanted(self) -> bool:
        """The user's choice, yes where the class leaves none (vhost-user); never where the class forbids it."""
        return self.device_class.ioeventfd is Notification.ALLOWED and bool(getattr(self, "use_ioeventfd", True))

    @property
    def accelerator(self) -> Accelerator:
        """The machine's."""
        return self.machine.accel

    def io_events(self, queue: VirtQueue, fd: int) -> list[IoEvent]:
        """4.1.4.4, 4.1.4.10: the registers whose write kicks this queue, on the interface that the driver uses.

        A kick through another one is synchronous, and works.
        """
        is_modern = self.common is not None and (self.legacy is None or self.device.has_feature(defs.F_VERSION_1))
        found = []
        for bar in self.bars:
            if bar.base is None:
                continue
            if bar.index == LEGACY_BAR and not is_modern:
                found.append(IoEvent("pio", bar.base + pci_legacy.QUEUE_NOTIFY, 2, queue.index, fd))
            elif bar.index == MODERN_IO_BAR and is_modern and not self.device.has_feature(defs.F_NOTIFICATION_DATA):
                # With that feature the register, one for all queues, is written with positions above the index
                # (4.1.5.2): no value to match. Such kicks are synchronous.
                found.append(IoEvent("pio", bar.base, 2, queue.index, fd))
            elif bar.index == MODERN_BAR and is_modern:
                # Each queue has an address of its own, so neither value nor size need match; KVM serves this sort
                # (KVM_FAST_MMIO_BUS) without decoding the instruction.
                found.append(IoEvent("mmio", bar.base + NOTIFY + queue.index * self.notify_multiplier, 0, None, fd))
        return found

    # -- configuration space

    def command_changed(self, old: int, new: int) -> None:
        """Rule 3: bus mastering."""
        if (old ^ new) & config.COMMAND_MASTER:
            self.notifiers.update()

    def bars_moved(self) -> None:
        """The ioeventfds go where the registers went."""
        self.notifiers.update()

    def config_read(self, offset: int, size: int) -> int:
        """As :meth:`PCIDevice.config_read`, with the window."""
        if self.window is not None:
            self.window.before_read(offset, size)
        return super().config_read(offset, size)

    def config_written(self, offset: int, size: int) -> None:
        """MSI-X may have been switched; the window may have been used."""
        if self.msix is not None:
            self.device.vdev.set_use_msix(self.msix.enabled)
            self.bindings.vectors_changed()
        if self.window is not None:
            self.window.after_write(offset, size)

    def config_loaded(self, msix: dict[str, object] | None) -> None:
        """As :meth:`PCIDevice.config_loaded`; a driver that was saved without bus mastering may be given it."""
        if self.bus_master_bug_migration and self.device.status & defs.STATUS_DRIVER:
            self.config.set(config.COMMAND, self.config.get(config.COMMAND, 2) | config.COMMAND_MASTER, 2)
        super().config_loaded(msix)
        if self.msix is not None:
            self.device.vdev.set_use_msix(self.msix.enabled)

    def do_reset(self) -> None:
        """System reset; the device behind has been reset before us."""
        self.device.vdev.set_use_msix(False)
        self.config_generation = 0

    def vm_state_changed(self, running: bool) -> None:
        """Rule 7; the device behind has heard of it before us."""
        self.device.bindings.vm_state_changed(running)
