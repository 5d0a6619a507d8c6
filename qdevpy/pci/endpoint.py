# SPDX-License-Identifier: Apache-2.0
"""The base class of PCI devices that are written in Python: registers, BARs and interrupts declared, the rest wired.

::

    class Doorbell(PCIEndpoint):
        type_name = "doorbell"
        description = "interrupts when it is rung"
        vendor_id, device_id = 0x1234, 0xBE11
        msi_vectors = 1

        mmio = MemoryBar(0, 4096)
        rung = mmio.register(0x00, 4, Access.RO, help="how often")
        ring = mmio.register(0x04, 4, Access.WO, help="any value rings")

        @ring.on_write
        def do_ring(self, value: int) -> None:
            self.rung = (self.rung + 1) & 0xFFFFFFFF
            self.interrupt.raise_()

An exception in any callback is logged once, with its traceback, the device's id and the access; the device is broken then: its
registers read as ones and take no writes until it is reset, and the machine goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar

import attrs

from qdevpy.pci.declarations import PAGE_SHIFT, Declared, collect
from qdevpy.pci.declared_bar import ONES, ZEROS, DeclaredBar, IoBar, MemoryBar, MemoryBar64
from qdevpy.pci.device import PCIDevice
from qdevpy.pci.dma import Dma
from qdevpy.pci.interrupt import Interrupt
from qdevpy.pci.registers import Access, Described, Narrow, Register

__all__ = ["ONES", "ZEROS", "Access", "IoBar", "MemoryBar", "MemoryBar64", "Narrow", "PCIEndpoint", "Register"]

log = logging.getLogger(__name__)


class PCIEndpoint(PCIDevice):
    """A PCI function with declared registers.

    :cvar msi_vectors: MSI vectors offered, a power of two up to 32; 0: no MSI
    :cvar msi_masking: MSI vectors can be masked one by one
    :cvar msix_vectors: MSI-X vectors offered, up to 2048; 0: no MSI-X
    :cvar msix_bar: the BAR of the MSI-X table, one that the class does not declare
    :cvar declared: BARs and registers
    :ivar register_values: of registers that are no longer at their reset value
    :ivar interrupt: interrupts; dma: guest memory
    :ivar broken: why it serves nothing until it is reset; None: it serves
    """

    type_name: ClassVar[str] = "pci-endpoint"
    abstract: ClassVar[bool] = True
    category: ClassVar[str] = "Misc"
    msi_vectors: ClassVar[int] = 0
    msi_masking: ClassVar[bool] = False
    msix_vectors: ClassVar[int] = 0
    msix_bar: ClassVar[int] = 4
    declared: ClassVar[Declared] = Declared({}, (), {})

    register_values: dict[str, int] = attrs.field(factory=dict, init=False)
    interrupt: Interrupt = attrs.field(default=None, init=False)
    dma: Dma = attrs.field(default=None, init=False)
    broken: str | None = attrs.field(default=None, init=False)

    def __init_subclass__(cls, **options: Any) -> None:
        """Check what the class declares.

        :raises PluginError: registers or BARs that do not go together; names both
        """
        super().__init_subclass__(**options)
        cls.declared = collect(cls)

    @classmethod
    def describe_registers(cls) -> Iterator[Described]:
        """All registers, by BAR and offset."""
        return (register.describe() for register in cls.declared.registers)

    # -- life cycle

    def add_declared(self) -> None:
        """BARs, MSI and MSI-X of the class."""
        self.dma, self.interrupt = Dma(self), Interrupt(self)
        for bar in self.declared.bars.values():
            self.register_bar(bar.index, bar.kind, bar.size, read=partial(self._read, bar), write=partial(self._write, bar))
        if self.msi_vectors:
            self.init_msi(self.msi_vectors, masking=self.msi_masking)
        if self.msix_vectors:
            self.init_msix(self.msix_vectors, self.msix_bar)
        self.interrupt.reset()

    def reset(self) -> None:
        """As :meth:`PCIDevice.reset`: registers have their reset values before do_reset, and a broken device serves again."""
        self.broken = None
        self.register_values.clear()
        self.contain(super().reset, "reset")
        self.interrupt.reset()

    # -- accesses

    def _read(self, bar: DeclaredBar, offset: int, size: int) -> int:
        if self.broken is not None:
            return ONES
        watchdog = self.machine.watchdog
        before = watchdog.enter((self, self._name, ("read of", bar, offset, size)))
        try:
            return bar.read(self, self._near(bar, offset, size), offset, size)
        except Exception as error:  # somebody's device: it fails alone
            self.callback_failed(error, self._name("read of", bar, offset, size))
            return ONES
        finally:
            watchdog.leave(before)

    def _write(self, bar: DeclaredBar, offset: int, value: int, size: int) -> None:
        if self.broken is not None:
            return
        watchdog = self.machine.watchdog
        before = watchdog.enter((self, self._name, ("write of", bar, offset, size, value)))
        try:
            bar.write(self, self._near(bar, offset, size), offset, value, size)
        except Exception as error:  # as above
            self.callback_failed(error, self._name("write of", bar, offset, size, value))
        finally:
            watchdog.leave(before)

    def _near(self, bar: DeclaredBar, offset: int, size: int) -> list[Register]:
        """The registers that an access may touch."""
        pages = self.declared.pages
        first, last = offset >> PAGE_SHIFT, (offset + size - 1) >> PAGE_SHIFT
        found = [*pages.get((bar.index, first), ())]
        return found if first == last else [*found, *pages.get((bar.index, last), ())]

    def _name(self, verb: str, bar: DeclaredBar, offset: int, size: int, value: int | None = None) -> str:
        names = [r.name for r in self._near(bar, offset, size) if r.offset < offset + size and offset < r.end]
        what = verb if value is None else f"{verb} {value:#x} to"
        return f"{what} {', '.join(names) or 'no register'} ({bar.name} offset {offset:#x}, {size} bytes)"

    def config_write(self, offset: int, value: int, size: int) -> None:
        """As :meth:`PCIDevice.config_write`; what it makes the device do may fail."""
        try:
            super().config_write(offset, value, size)
        except Exception as error:  # as above
            self.callback_failed(error, f"write of {value:#x} to the configuration space (offset {offset:#x}, {size} bytes)")

    # -- failures

    def contain(self, callback: Callable[[], object], what: str) -> None:
        """As :meth:`Device.contain`; a broken device's timers and results are dropped."""
        if self.broken is None:
            super().contain(callback, what)

    def callback_failed(self, error: Exception, what: str) -> None:
        """The device serves nothing until it is reset."""
        if self.broken is None:
            self.broken = f"{what}: {type(error).__name__}: {error}"
            log.error("%s: in %s; its registers read as ones until it is reset", self.label, what, exc_info=error)
        else:
            log.debug("%s: broken already: in %s", self.label, what, exc_info=error)
