# SPDX-License-Identifier: Apache-2.0
"""virtio-pci: a PCI function that carries a virtio device (virtio 1.2, 4.1; QEMU ``hw/virtio/virtio-pci.c``).

============  =====================================================================
BAR 0 (I/O)   legacy registers, unless ``disable-legacy=on``
BAR 1         MSI-X table and pending bits
BAR 2 (I/O)   modern notify register, with ``modern-pio-notify=on``
BAR 4         modern structures, unless ``disable-modern=on``: common 0x0000, ISR 0x1000, device 0x2000, notify 0x3000
============  =====================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from qdevpy.accel.base import IoEvent
from qdevpy.errors import PropertyError, RealizeError
from qdevpy.pci import config
from qdevpy.pci.device import PCIDevice
from qdevpy.qdev import property as prop
from qdevpy.qdev.device import Notification
from qdevpy.virtio import defs, pci_legacy, pci_modern
from qdevpy.virtio.bus import VirtIOBus
from qdevpy.virtio.host_notifiers import HostNotifiers
from qdevpy.virtio.pci_bindings import PCIBindings
from qdevpy.virtio.pci_legacy import LegacyRegisters
from qdevpy.virtio.pci_modern import CommonConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qdevpy.accel.base import Accelerator
    from qdevpy.native.space import AddressSpace
    from qdevpy.pci.bar import Bar, Mapped
    from qdevpy.qdev.bus import Bus
    from qdevpy.qdev.object import Object
    from qdevpy.qdev.property import Property
    from qdevpy.virtio.device import VirtIODevice
    from qdevpy.virtio.queue import VirtQueue

MSIX_BAR = 1
MODERN_IO_BAR = 2
MODERN_BAR = 4
COMMON, ISR, DEVICE, NOTIFY = 0x0000, 0x1000, 0x2000, 0x3000
NOTIFY_MULTIPLIER = 4
VENDOR_CAPABILITY = 0x09
#: why ``ioeventfd`` cannot be set on a device whose class forbids it
FORBIDDEN = (
    "property 'ioeventfd' is not available: this device's driver waits for a kick to have been served, so kicks are "
    "synchronous by design; remove the property"
)


class VirtIOPCI(PCIDevice):
    """Base class of all virtio-pci types; :mod:`qdevpy.virtio.pci_types` derives one for each device class and variant.

    :cvar device_class: what it carries
    :ivar device: the device behind it
    :ivar notifiers: its host notifiers
    :ivar bus_master_workaround: rule 8; cleared by a reset
    """

    type_name: ClassVar[str] = "virtio-pci"
    vendor_id: ClassVar[int] = defs.PCI_VENDOR
    device_class: ClassVar[type[VirtIODevice]]
    user_creatable: ClassVar[bool] = True

    vectors: int | None = prop.uint32(None, maximum=2048, help="MSI-X vectors; default: one a queue and one for config changes")
    disable_legacy: str = prop.on_off_auto("auto", help="leave out the legacy registers")
    disable_modern: bool = prop.boolean(False, help="leave out the modern registers")
    page_per_vq: bool = prop.boolean(False, help="give each queue's notify register a page of its own")
    modern_pio_notify: bool = prop.boolean(False, help="offer the modern notify register in I/O space, too")

    device: VirtIODevice = attrs.field(default=None, init=False)
    notifiers: HostNotifiers = attrs.field(default=None, init=False)
    bus_master_workaround: bool = attrs.field(default=False, init=False)
    config_vector: int = attrs.field(default=defs.NO_VECTOR, init=False)
    config_generation: int = attrs.field(default=0, init=False)
    legacy: LegacyRegisters | None = attrs.field(default=None, init=False)
    common: CommonConfig | None = attrs.field(default=None, init=False)
    _device_bar: Bar | None = attrs.field(default=None, init=False)
    _bases: list[int | None] = attrs.field(factory=list, init=False)
    _pci_access: int | None = attrs.field(default=None, init=False)

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.device = self.device_class()

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
        """Identity first: it depends on the register interfaces that are offered."""
        if not self.has_legacy and self.disable_modern:
            raise RealizeError("disable-legacy and disable-modern are both on; leave one interface", device=self.label)
        super().realize()

    def do_realize(self) -> None:
        """The device behind, then BARs and capabilities for what it turned out to need."""
        device = self.device
        device.id = self.id
        device.machine = self.machine
        device.bindings = PCIBindings(self)
        self.notifiers = HostNotifiers(device, self)
        bus = self.add_bus(VirtIOBus("virtio-bus", self))
        self.cleanup.callback(self._unplug_device, bus)
        bus.plug(device)
        self._set_identity()
        device.vdev.set_intx(self.intx.native)
        if self.vectors is None:
            self.vectors = device.vectors_wanted
        if self.vectors:
            self.init_msix(self.vectors, MSIX_BAR)
        if self.has_legacy:
            self.legacy = LegacyRegisters(self)
            length = 24 + len(device.get_config())
            self.register_bar(0, "io", 1 << (length - 1).bit_length(), on_map=self._map_legacy, on_unmap=self.notifiers.deassign)
        if not self.disable_modern:
            self._offer_modern()

    def unrealize(self) -> None:
        """Nothing is served any more when the device behind, which goes first, gives up its queues."""
        self.notifiers.stop()
        super().unrealize()

    def _unplug_device(self, bus: Bus) -> None:
        for device in list(bus.children):
            bus.unplug(device)

    def _set_identity(self) -> None:
        """4.1.2.1, 4.1.2.3: transitional devices have the old ids and revision 0."""
        device, space = self.device, self.config
        transitional = device.transitional_id if self.has_legacy else None
        space.set(config.DEVICE_ID, transitional or defs.PCI_MODERN_BASE + device.device_id, 2)
        space.set(config.REVISION, 0 if transitional else 1, 1)
        space.set(config.CLASS, device.pci_class, 3)
        space.set(config.SUBSYSTEM_VENDOR_ID, defs.PCI_VENDOR, 2)
        space.set(config.SUBSYSTEM_ID, device.device_id if transitional else 0x1100, 2)

    def _offer_modern(self) -> None:
        self.common = CommonConfig(self)
        queues = max(1, len(self.device.queues))
        notify_length = queues * self.notify_multiplier
        size = 1 << (NOTIFY + notify_length - 1).bit_length()
        self._device_bar = self.register_bar(
            MODERN_BAR, "mem64", max(0x4000, size), on_map=self._map_modern, on_unmap=self.notifiers.deassign
        )
        self._add_capability(pci_modern.CAP_COMMON, MODERN_BAR, COMMON, 0x38)
        self._add_capability(pci_modern.CAP_ISR, MODERN_BAR, ISR, 1)
        self._add_capability(pci_modern.CAP_DEVICE, MODERN_BAR, DEVICE, max(4, len(self.device.get_config())))
        offset = self._add_capability(pci_modern.CAP_NOTIFY, MODERN_BAR, NOTIFY, notify_length, extra=4)
        self.config.set(offset + 16, self.notify_multiplier, 4)
        if self.modern_pio_notify:
            self.register_bar(MODERN_IO_BAR, "io", 4, on_map=self._map_modern_io, on_unmap=self.notifiers.deassign)
            offset = self._add_capability(pci_modern.CAP_NOTIFY, MODERN_IO_BAR, 0, 4, extra=4)
            self.config.set(offset + 16, 0, 4)
        self._pci_access = self._add_capability(pci_modern.CAP_PCI, 0, 0, 0, extra=4)
        self.config.writable[self._pci_access + 4] = 0xFF
        self.config.writable[self._pci_access + 8 : self._pci_access + 20] = b"\xff" * 12

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
        return 0x1000 if self.page_per_vq else NOTIFY_MULTIPLIER

    # -- BARs

    def _map_legacy(self, space: AddressSpace, bus: str, base: int) -> list[Mapped]:
        assert self.legacy is not None
        size = self.bars_by_index[0].size
        whole = space.map(bus, base, size, self.legacy.read, self.legacy.write)
        notify = space.map_notify(
            bus, base + pci_legacy.QUEUE_NOTIFY, 2, self.device.vdev, multiplier=None,
            read=lambda offset, size: 0, write=lambda offset, value, size: self.kicked(value & 0xFFFF),
        )  # fmt: skip
        return [whole, notify]

    def _map_modern(self, space: AddressSpace, bus: str, base: int) -> list[Mapped]:
        assert self.common is not None
        device = self.device
        step = self.notify_multiplier
        return [
            space.map(bus, base + COMMON, 0x1000, self.common.read, self.common.write),
            space.map(bus, base + ISR, 0x1000, self._read_isr, lambda offset, value, size: None),
            space.map(bus, base + DEVICE, 0x1000, self.read_device_config, self.write_device_config),
            space.map_notify(
                bus, base + NOTIFY, max(1, len(device.queues)) * step, device.vdev, multiplier=step,
                read=lambda offset, size: 0, write=lambda offset, value, size: self.kicked(offset // step),
            ),
        ]  # fmt: skip

    def _map_modern_io(self, space: AddressSpace, bus: str, base: int) -> list[Mapped]:
        return [
            space.map_notify(
                bus, base, 4, self.device.vdev, multiplier=None,
                read=lambda offset, size: 0, write=lambda offset, value, size: self.kicked(value & 0xFFFF),
            )
        ]  # fmt: skip

    def _read_isr(self, offset: int, size: int) -> int:
        return self.device.vdev.read_isr() if offset == 0 else 0

    @property
    def bars_by_index(self) -> dict[int, Bar]:
        """The BARs that are there."""
        return {bar.index: bar for bar in self.bars}

    # -- what register interfaces call

    def kicked(self, index: int) -> None:
        """A synchronous kick that C did not serve: a Python queue, or none."""
        queues = self.device.queues
        if index < len(queues):
            queues[index].kick()

    def read_device_config(self, offset: int, size: int) -> int:
        """The device's configuration space; beyond it reads as zero."""
        part = self.device.get_config()[offset : offset + size]
        return int.from_bytes(part, "little")

    def write_device_config(self, offset: int, value: int, size: int) -> None:
        """A write inside the device's configuration space; any other is dropped."""
        if offset + size <= len(self.device.get_config()):
            self.device.set_config(offset, value.to_bytes(size, "little"))

    def set_config_vector(self, vector: int) -> None:
        """4.1.5.1.2.1: a vector that is not there reads back as NO_VECTOR."""
        self.config_vector = vector if self._has_vector(vector) else defs.NO_VECTOR

    def set_queue_vector(self, queue: VirtQueue, vector: int) -> None:
        """As :meth:`set_config_vector`, for a queue."""
        queue.vector = vector if self._has_vector(vector) else defs.NO_VECTOR
        queue.set_irq_fd(-1 if self.msix is None else self.msix.fd(queue.vector))

    def _has_vector(self, vector: int) -> bool:
        return self.msix is not None and vector < self.msix.vectors

    def reset_device(self) -> None:
        """Status 0 or PFN 0: device, then host notifiers, then vectors (4)."""
        self.device.reset()
        self._forget_driver()

    def _forget_driver(self) -> None:
        self.bus_master_workaround = False
        self.config_vector = defs.NO_VECTOR
        for queue in self.device.queues:
            queue.set_irq_fd(-1)
        self.device.vdev.read_isr()
        for registers in (self.legacy, self.common):
            if registers is not None:
                registers.reset()

    def do_reset(self) -> None:
        """System reset: the device behind has been reset before us."""
        self._forget_driver()
        self.device.vdev.set_use_msix(False)

    # -- host notifiers: NotifierTransport

    @property
    def dma_allowed(self) -> bool:
        """Bus mastering, or the workaround."""
        return self.bus_master or self.bus_master_workaround

    @property
    def ioeventfd_wanted(self) -> bool:
        """The user's choice; never where the class forbids it."""
        return self.device_class.ioeventfd is Notification.ALLOWED and bool(getattr(self, "use_ioeventfd", False))

    @property
    def accelerator(self) -> Accelerator:
        """The machine's."""
        return self.machine.accel

    def io_events(self, queue: VirtQueue, fd: int) -> list[IoEvent]:
        """4.1.4.4, 4.1.4.10: each register whose write kicks this queue, on every BAR that is decoded."""
        found = []
        for bar in self.bars:
            if bar.base is None:
                continue
            if bar.index == 0:
                found.append(IoEvent("pio", bar.base + pci_legacy.QUEUE_NOTIFY, 2, queue.index, fd))
            elif bar.index == MODERN_IO_BAR:
                found.append(IoEvent("pio", bar.base, 2, queue.index, fd))
            elif bar.index == MODERN_BAR:
                # every queue has an address of its own, so the value need not match; 2 bytes is what drivers write
                found.append(IoEvent("mmio", bar.base + NOTIFY + queue.index * self.notify_multiplier, 2, None, fd))
        return found

    # -- configuration space

    def command_changed(self, old: int, new: int) -> None:
        """Bus mastering (3), and BARs that have moved: their ioeventfds went with the old place."""
        super().command_changed(old, new)
        self.notifiers.update()

    def config_written(self, offset: int, size: int) -> None:
        """MSI-X may have been switched; BARs may be somewhere else; the access window may have been used."""
        if self.msix is not None:
            self.device.vdev.set_use_msix(self.msix.enabled)
        if [bar.base for bar in self.bars] != self._bases:
            self._bases = [bar.base for bar in self.bars]
            self.notifiers.deassign()
            self.notifiers.assign()
        at = self._pci_access
        if at is not None and offset < at + 20 and offset + size > at + 16:
            self._window(write=True)

    def config_read(self, offset: int, size: int) -> int:
        """A read of the access window's data reads the structure behind it first (4.1.4.9)."""
        at = self._pci_access
        if at is not None and offset < at + 20 and offset + size > at + 16:
            self._window(write=False)
        return super().config_read(offset, size)

    def _window(self, *, write: bool) -> None:
        at = self._pci_access
        assert at is not None
        bar = self.bars_by_index.get(self.config.get(at + 4, 1))
        offset, length = self.config.get(at + 8, 4), self.config.get(at + 12, 4)
        if bar is None or bar.base is None or length not in (1, 2, 4) or offset % length or offset + length > bar.size:
            return
        if write:
            self.machine.space.write(bar.bus, bar.base + offset, self.config.get(at + 16, length), length)
        else:
            self.config.set(at + 16, self.machine.space.read(bar.bus, bar.base + offset, length), length)

    def save(self) -> dict[str, Any]:
        """See :class:`PCIBindings`."""
        return self.device.bindings.save()
