# SPDX-License-Identifier: Apache-2.0
"""The driver's side of virtio-pci, in Python: what a guest's driver does, through the same registers.

::

    driver = ModernDriver(machine, proxy)        # or LegacyDriver
    driver.start(features=...)                   # reset ... DRIVER_OK
    queue = driver.queues[0]
    head = queue.add(readable=[b"..."], writable=[512])
    queue.kick()
    written = queue.wait(head)
    data = queue.read(head)

Rings are in ``rings.py`` and, where VIRTIO_F_RING_PACKED is among the features, ``packed.py``.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from qdevpy.accel.base import MsiMessage
from qdevpy.pci import config
from qdevpy.testing.packed import PackedQueue
from qdevpy.testing.rings import PAGE, DriverQueue, SplitQueue
from qdevpy.virtio import defs, pci_legacy, pci_modern

if TYPE_CHECKING:
    from qdevpy.pci.device import PCIDevice
    from qdevpy.testing.machine import FakeMachine

#: where messages go, and how their data is made from devfn and vector
MSI_ADDRESS = 0xFEE0_0000
MSIX_ENABLE, MSIX_FUNCTION_MASK = 0x8000, 0x4000


class PCIDriver:
    """What both register interfaces share: finding BARs, MSI-X, interrupts.

    :param proxy: the function; it is brought into I/O, memory and bus master mode
    """

    def __init__(self, machine: FakeMachine, proxy: PCIDevice) -> None:
        self.machine = machine
        self.proxy = proxy
        self.bus = machine.pci
        self.devfn = proxy.devfn
        self.allocator = machine.ram
        self.queues: list[DriverQueue] = []
        self.features = 0
        self.bars = self._place_bars()
        self.set_command(config.COMMAND_IO | config.COMMAND_MEMORY | config.COMMAND_MASTER)

    # -- configuration space

    def config_read(self, offset: int, size: int) -> int:
        """A configuration cycle."""
        with self.machine.lock:
            return self.bus.config_read(self.devfn, offset, size)

    def config_write(self, offset: int, value: int, size: int) -> None:
        """A configuration cycle."""
        with self.machine.lock:
            self.bus.config_write(self.devfn, offset, value, size)

    def set_command(self, command: int) -> None:
        """Write the command register."""
        self.config_write(config.COMMAND, command, 2)

    def _place_bars(self) -> dict[int, tuple[str, int]]:
        """Size (PCI 3.0, 6.2.5.1) and place every BAR: ``{index: (bus, base)}``."""
        placed: dict[int, tuple[str, int]] = {}
        index = 0
        while index < 6:
            offset = config.BAR0 + 4 * index
            self.config_write(offset, 0xFFFFFFFF, 4)
            sized = self.config_read(offset, 4)
            is_io, is_64bit = bool(sized & 1), sized & 7 == 4
            if sized:
                size = (~(sized & (~3 if is_io else ~15)) & 0xFFFFFFFF) + 1
                base = (self.machine.ports if is_io else self.machine.mmio).take(size, size)
                placed[index] = ("pio" if is_io else "mmio", base)
                self.move_bar(index, base)
            index += 2 if is_64bit else 1
        return placed

    def move_bar(self, index: int, base: int) -> None:
        """Write the address of a BAR; :attr:`bars` is left as it is."""
        offset = config.BAR0 + 4 * index
        is_64bit = self.config_read(offset, 4) & 7 == 4
        self.config_write(offset, base & 0xFFFFFFFF, 4)
        if is_64bit:
            self.config_write(offset + 4, base >> 32, 4)

    def capabilities(self, identifier: int) -> list[int]:
        """Offsets of the capabilities of that id, in the order of the list."""
        found, offset = [], self.config_read(config.CAPABILITIES, 1)
        while offset:
            if self.config_read(offset, 1) == identifier:
                found.append(offset)
            offset = self.config_read(offset + 1, 1)
        return found

    def bar_read(self, bar: int, offset: int, size: int) -> int:
        """A register, relative to its BAR."""
        bus, base = self.bars[bar]
        return self.machine.space.read(bus, base + offset, size)

    def bar_write(self, bar: int, offset: int, value: int, size: int) -> None:
        """A register, relative to its BAR."""
        bus, base = self.bars[bar]
        self.machine.space.write(bus, base + offset, value, size)

    # -- interrupts

    @property
    def _msix(self) -> int:
        (capability,) = self.capabilities(0x11)
        return capability

    def enable_msix(self, *, function_mask: bool = False) -> None:
        """Switch MSI-X on, every vector unmasked with a message of its own."""
        for vector in range((self.config_read(self._msix + 2, 2) & 0x7FF) + 1):
            message = self.message(vector)
            for offset, value in ((0, message.address), (4, 0), (8, message.data)):
                self.write_vector(vector, offset, value)
            self.mask_vector(vector, False)
        self.config_write(self._msix + 2, MSIX_ENABLE | MSIX_FUNCTION_MASK * function_mask, 2)

    def disable_msix(self) -> None:
        """Back to INTx."""
        self.config_write(self._msix + 2, 0, 2)

    def message(self, vector: int) -> MsiMessage:
        """What :meth:`enable_msix` writes into the table; no other vector in the machine has the same."""
        return MsiMessage(MSI_ADDRESS, self.devfn << 16 | vector)

    def write_vector(self, vector: int, offset: int, value: int) -> None:
        """Four bytes of a table entry."""
        table = self.config_read(self._msix + 4, 4)
        self.bar_write(table & 7, (table & ~7) + 16 * vector + offset, value, 4)

    def mask_vector(self, vector: int, masked: bool) -> None:
        """The vector's mask bit."""
        self.write_vector(vector, 12, int(masked))

    def is_pending(self, vector: int) -> bool:
        """The vector's bit in the pending bit array."""
        pending = self.config_read(self._msix + 8, 4)
        word = self.bar_read(pending & 7, (pending & ~7) + vector // 32 * 4, 4)
        return bool(word >> vector % 32 & 1)

    def interrupts(self, vector: int) -> int:
        """How often VECTOR fired since last asked, as the accelerator would deliver it now."""
        for fd, message in self.machine.accelerator.irqfds.values():
            if message == self.message(vector):
                with suppress(BlockingIOError):
                    return os.eventfd_read(fd)
        return 0

    def wait_interrupt(self, vector: int, timeout: float = 10.0) -> None:
        """Run the main loop until VECTOR fires.

        :raises TimeoutError: it does not
        """
        self.machine.wait_for(lambda: self.interrupts(vector), f"interrupt of vector {vector}", timeout)

    @property
    def intx_level(self) -> bool:
        """Level of the function's interrupt line; other functions may share it."""
        gsi = self.bus.intx_router(self.devfn >> 3, 1)
        return self.machine.accelerator.gsi_levels.get(gsi, False)

    def has_feature(self, number: int) -> bool:
        """Whether feature bit NUMBER was negotiated."""
        return bool(self.features >> number & 1)

    # -- what the two interfaces differ in

    def notify(self, index: int) -> None:
        """Kick queue INDEX."""
        raise NotImplementedError

    def start(self, features: int = 0, *, msix: bool = False, queues: int | None = None) -> None:
        """Reset, negotiate FEATURES, set up all queues (or the first QUEUES), DRIVER_OK."""
        raise NotImplementedError


class LegacyDriver(PCIDriver):
    """Through BAR 0 (4.1.4.10)."""

    def read(self, register: int, size: int) -> int:
        """A register of the header."""
        return self.bar_read(0, register, size)

    def write(self, register: int, value: int, size: int) -> None:
        """A register of the header."""
        self.bar_write(0, register, value, size)

    @property
    def offered(self) -> int:
        """Features that the device offers."""
        return self.read(pci_legacy.HOST_FEATURES, 4)

    @property
    def status(self) -> int:
        """Device status."""
        return self.read(pci_legacy.STATUS, 1)

    def set_status(self, status: int) -> None:
        """Device status; 0 resets."""
        self.write(pci_legacy.STATUS, status, 1)

    def read_isr(self) -> int:
        """Interrupt status; clears it."""
        return self.read(pci_legacy.ISR, 1)

    def read_config(self, offset: int, size: int) -> int:
        """The device's configuration space."""
        start = 24 if self.proxy.msix is not None and self.proxy.msix.enabled else 20
        return self.read(start + offset, size)

    def write_config(self, offset: int, value: int, size: int) -> None:
        """The device's configuration space."""
        start = 24 if self.proxy.msix is not None and self.proxy.msix.enabled else 20
        self.write(start + offset, value, size)

    def notify(self, index: int) -> None:
        """A word to the notify register."""
        self.write(pci_legacy.QUEUE_NOTIFY, index, 2)

    def setup_queue(self, index: int) -> DriverQueue:
        """Select, size, PFN."""
        self.write(pci_legacy.QUEUE_SEL, index, 2)
        queue = SplitQueue(self, index, self.read(pci_legacy.QUEUE_NUM, 2))
        self.write(pci_legacy.QUEUE_PFN, queue.desc // PAGE, 4)
        return queue

    def start(self, features: int = 0, *, msix: bool = False, queues: int | None = None) -> None:
        """As :meth:`PCIDriver.start`; queue N has vector N + 1, config vector 0."""
        self.set_status(0)
        self.set_status(defs.STATUS_ACKNOWLEDGE | defs.STATUS_DRIVER)
        self.write(pci_legacy.GUEST_FEATURES, features, 4)
        self.features = features
        if msix:
            self.enable_msix()
            self.write(pci_legacy.CONFIG_VECTOR, 0, 2)
        self.queues = []
        while queues is None or len(self.queues) < queues:
            self.write(pci_legacy.QUEUE_SEL, len(self.queues), 2)
            if not self.read(pci_legacy.QUEUE_NUM, 2):
                break
            self.queues.append(self.setup_queue(len(self.queues)))
            if msix:
                self.write(pci_legacy.QUEUE_VECTOR, len(self.queues), 2)
        self.set_status(defs.STATUS_ACKNOWLEDGE | defs.STATUS_DRIVER | defs.STATUS_DRIVER_OK)


class ModernDriver(PCIDriver):
    """Through the structures that capabilities point at (4.1.4)."""

    def __init__(self, machine: FakeMachine, proxy: PCIDevice) -> None:
        super().__init__(machine, proxy)
        self.structures: dict[int, tuple[int, int]] = {}
        for at in self.capabilities(9):
            kind, bar = self.config_read(at + 3, 1), self.config_read(at + 4, 1)
            self.structures.setdefault(kind, (bar, self.config_read(at + 8, 4)))
            if kind == pci_modern.CAP_NOTIFY and self.structures[kind][0] == bar:
                self.multiplier = self.config_read(at + 16, 4)

    def read(self, register: int, size: int, structure: int = pci_modern.CAP_COMMON) -> int:
        """A register of a structure."""
        bar, offset = self.structures[structure]
        return self.bar_read(bar, offset + register, size)

    def write(self, register: int, value: int, size: int, structure: int = pci_modern.CAP_COMMON) -> None:
        """A register of a structure."""
        bar, offset = self.structures[structure]
        self.bar_write(bar, offset + register, value, size)

    @property
    def offered(self) -> int:
        """Features that the device offers."""
        value = 0
        for half in (0, 1):
            self.write(pci_modern.DEVICE_FEATURE_SELECT, half, 4)
            value |= self.read(pci_modern.DEVICE_FEATURE, 4) << 32 * half
        return value

    @property
    def status(self) -> int:
        """Device status."""
        return self.read(pci_modern.DEVICE_STATUS, 1)

    def set_status(self, status: int) -> None:
        """Device status; 0 resets."""
        self.write(pci_modern.DEVICE_STATUS, status, 1)

    def read_isr(self) -> int:
        """Interrupt status; clears it."""
        return self.read(0, 1, pci_modern.CAP_ISR)

    def read_config(self, offset: int, size: int) -> int:
        """The device's configuration space."""
        return self.read(offset, size, pci_modern.CAP_DEVICE)

    def write_config(self, offset: int, value: int, size: int) -> None:
        """The device's configuration space."""
        self.write(offset, value, size, pci_modern.CAP_DEVICE)

    def notify(self, index: int) -> None:
        """Write the queue's notify register: its index, and with NOTIFICATION_DATA where its next chain will be (4.1.5.2)."""
        if self.has_feature(defs.F_NOTIFICATION_DATA):
            queue = next((queue for queue in self.queues if queue.index == index), None)
            position = 0 if queue is None else queue.next_position
            self.write(index * self.multiplier, position << 16 | index, 4, pci_modern.CAP_NOTIFY)
        else:
            self.write(index * self.multiplier, index, 2, pci_modern.CAP_NOTIFY)

    def setup_queue(self, index: int, size: int | None = None) -> DriverQueue:
        """Select, size, addresses, enable."""
        self.write(pci_modern.QUEUE_SELECT, index, 2)
        if size is not None:
            self.write(pci_modern.QUEUE_SIZE, size, 2)
        kind = PackedQueue if self.has_feature(defs.F_RING_PACKED) else SplitQueue
        queue = kind(self, index, self.read(pci_modern.QUEUE_SIZE, 2))
        for register, address in (
            (pci_modern.QUEUE_DESC, queue.desc), (pci_modern.QUEUE_DRIVER, queue.avail), (pci_modern.QUEUE_DEVICE, queue.used),
        ):  # fmt: skip
            self.write(register, address & 0xFFFFFFFF, 4)
            self.write(register + 4, address >> 32, 4)
        self.write(pci_modern.QUEUE_ENABLE, 1, 2)
        return queue

    def negotiate(self, features: int) -> bool:
        """Reset and go as far as FEATURES_OK; whether the device agrees."""
        self.set_status(0)
        self.set_status(defs.STATUS_ACKNOWLEDGE | defs.STATUS_DRIVER)
        self.features = features
        for half in (0, 1):
            self.write(pci_modern.DRIVER_FEATURE_SELECT, half, 4)
            self.write(pci_modern.DRIVER_FEATURE, features >> 32 * half & 0xFFFFFFFF, 4)
        self.set_status(self.status | defs.STATUS_FEATURES_OK)
        return bool(self.status & defs.STATUS_FEATURES_OK)

    def start(self, features: int = 0, *, msix: bool = False, queues: int | None = None) -> None:
        """As :meth:`PCIDriver.start`, with VERSION_1; queue N has vector N + 1, config vector 0."""
        assert self.negotiate(features | 1 << defs.F_VERSION_1), "FEATURES_OK refused"
        if msix:
            self.enable_msix()
            self.write(pci_modern.CONFIG_VECTOR, 0, 2)
        count = self.read(pci_modern.NUM_QUEUES, 2) if queues is None else queues
        self.queues = []
        for index in range(count):
            self.write(pci_modern.QUEUE_SELECT, index, 2)
            if msix:
                self.write(pci_modern.QUEUE_VECTOR, index + 1, 2)
            self.queues.append(self.setup_queue(index))
        self.set_status(self.status | defs.STATUS_DRIVER_OK)
