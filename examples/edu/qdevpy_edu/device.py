"""A PCI device to learn drivers with; its registers are those of QEMU's edu device (docs/specs/edu.txt there)."""

import logging
import math
from typing import ClassVar

import attrs
from qdevpy.errors import DMAError
from qdevpy.pci.endpoint import ONES, Access, MemoryBar, Narrow, PCIEndpoint
from qdevpy.qdev import property as prop

log = logging.getLogger(__name__)

MASK32 = 0xFFFFFFFF
# status
COMPUTING, IRQ_WHEN_COMPUTED = 0x01, 0x80
# interrupt status, beside what drivers raise themselves
FACTORIAL_IRQ, DMA_IRQ = 0x001, 0x100
# DMA command
DMA_RUN, DMA_TO_RAM, DMA_INTERRUPTS = 1, 2, 4
DMA_SECONDS = 0.1
#: where the device's own buffer is, as DMA addresses see it
BUFFER, BUFFER_SIZE = 0x40000, 4096


def factorial(n: int) -> int:
    """N! modulo 2**32. From 34! on it is 0: there are 32 factors of 2."""
    return math.factorial(min(n, 34)) & MASK32


class Edu(PCIEndpoint):
    """The device. Registers below 0x80 take accesses of 4 bytes, the others of 4 and of 8."""

    type_name: ClassVar[str] = "edu"
    description: ClassVar[str] = "educational device: factorials, interrupts, DMA"
    vendor_id: ClassVar[int] = 0x1234
    device_id: ClassVar[int] = 0x11E8
    revision: ClassVar[int] = 0x10
    class_code: ClassVar[int] = 0x00FF00
    msi_vectors: ClassVar[int] = 1

    dma_mask: int = prop.uint64((1 << 28) - 1, name="dma_mask", help="bits that a DMA address may have")

    mmio = MemoryBar(0, 1 << 20, access_sizes=(4, 8), undeclared=ONES)
    identification = mmio.register(0x00, 4, Access.RO, reset=0x010000ED, access_sizes=(4,), help="0xRRrr00ed: version")
    liveness = mmio.register(0x04, 4, access_sizes=(4,), help="reads as the complement of what was written")
    factorial = mmio.register(0x08, 4, access_sizes=(4,), help="write n, read n! once status says so")
    status = mmio.register(0x20, 4, writable=IRQ_WHEN_COMPUTED, access_sizes=(4,), help="1: computing, 0x80: interrupt")
    irq_status = mmio.register(0x24, 4, Access.RO, access_sizes=(4,), help="why it interrupts")
    irq_raise = mmio.register(0x60, 4, Access.WO, access_sizes=(4,), help="add to irq_status")
    irq_ack = mmio.register(0x64, 4, Access.WO, access_sizes=(4,), help="take from irq_status")
    dma_source = mmio.register(0x80, 8, access_sizes=(4, 8), narrow=Narrow.CLEAR)
    dma_target = mmio.register(0x88, 8, access_sizes=(4, 8), narrow=Narrow.CLEAR)
    dma_count = mmio.register(0x90, 8, access_sizes=(4, 8), narrow=Narrow.CLEAR, help="bytes")
    dma_command = mmio.register(
        0x98, 8, access_sizes=(4, 8), narrow=Narrow.CLEAR, help="1: run, 2: to RAM, 4: interrupt"
    )

    buffer: bytearray = attrs.field(factory=lambda: bytearray(BUFFER_SIZE), init=False)

    def do_realize(self) -> None:
        """Nothing but the timer that ends a transfer."""
        self.transfer_timer = self.timer(self.transfer)

    @liveness.on_write
    def invert(self, value: int) -> None:
        """The card lives."""
        self.liveness = ~value & MASK32

    @factorial.on_write
    def compute(self, value: int) -> None:
        """On another thread, so that drivers have to wait for the status."""
        if not self.status & COMPUTING:
            self.factorial = value
            self.status |= COMPUTING
            self.background(factorial, value, then=self.computed)

    def computed(self, result: int) -> None:
        """The factorial is there."""
        self.factorial = result
        self.status &= ~COMPUTING
        if self.status & IRQ_WHEN_COMPUTED:
            self.raise_irq(FACTORIAL_IRQ)

    @irq_raise.on_write
    def raise_irq(self, bits: int) -> None:
        """Interrupt for BITS and for what is there already."""
        self.irq_status |= bits
        if self.irq_status:
            self.interrupt.raise_()

    @irq_ack.on_write
    def acknowledge(self, bits: int) -> None:
        """The driver has seen BITS."""
        self.irq_status &= ~bits
        if not self.irq_status:
            self.interrupt.lower()

    # -- DMA: registers stand still while a transfer runs

    @dma_source.on_write
    def set_source(self, value: int) -> None:
        """Where from."""
        if not self.dma_command & DMA_RUN:
            self.dma_source = value

    @dma_target.on_write
    def set_target(self, value: int) -> None:
        """Where to."""
        if not self.dma_command & DMA_RUN:
            self.dma_target = value

    @dma_count.on_write
    def set_count(self, value: int) -> None:
        """How much."""
        if not self.dma_command & DMA_RUN:
            self.dma_count = value

    @dma_command.on_write
    def start_transfer(self, value: int) -> None:
        """A command without RUN is none."""
        if value & DMA_RUN and not self.dma_command & DMA_RUN:
            self.dma_command = value
            self.transfer_timer.start(DMA_SECONDS)

    def transfer(self) -> None:
        """The time has come; a transfer that cannot be is logged and moves nothing."""
        to_ram = bool(self.dma_command & DMA_TO_RAM)
        inside, outside = (self.dma_source, self.dma_target) if to_ram else (self.dma_target, self.dma_source)
        start, count = inside - BUFFER, self.dma_count
        if 0 <= start <= BUFFER_SIZE and count <= BUFFER_SIZE - start:
            self.move(start, count, outside & self.dma_mask, to_ram=to_ram)
        else:
            log.warning("%s: DMA of %d bytes at %#x: outside the device's buffer", self.label, count, inside)
        self.dma_command &= ~DMA_RUN
        if self.dma_command & DMA_INTERRUPTS:
            self.raise_irq(DMA_IRQ)

    def move(self, start: int, count: int, address: int, *, to_ram: bool) -> None:
        """COUNT bytes between START of the buffer and guest memory."""
        try:
            if to_ram:
                self.dma.write(address, self.buffer[start : start + count])
            else:
                self.buffer[start : start + count] = self.dma.read(address, count)
        except DMAError as error:
            log.warning("%s", error)
