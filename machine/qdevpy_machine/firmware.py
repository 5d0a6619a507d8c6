# SPDX-License-Identifier: Apache-2.0
"""What firmware would have done before the kernel starts: addresses for BARs, interrupt routing, ACPI tables.

Works through config space, as firmware does, and knows no device but the chipset.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from qdevpy.pci import config
from qdevpy_machine import layout
from qdevpy_machine.chipset import ISA_BRIDGE, PIRQ_REGISTERS, PM_BASE_REGISTER, PM_ENABLE_REGISTER, POWER
from qdevpy_machine.dsdt import pirq_of

if TYPE_CHECKING:
    from qdevpy.pci.bus import PCIBus

log = logging.getLogger(__name__)

BAR_IO, BAR_TYPE, BAR_64 = 0x1, 0x6, 0x4
NO_DEVICE = 0xFFFF
MULTIFUNCTION = 0x80
#: where small machines' memory BARs go: the end of the PCI hole, as SeaBIOS puts them
TOP_OF_HOLE = 0xFE00_0000


class BarRequest(NamedTuple):
    """A BAR that wants an address; sorted, the largest of a sort is last."""

    size: int
    devfn: int
    register: int
    wide: bool


def functions(bus: PCIBus) -> Iterator[int]:
    """The devfns of all functions on the bus."""
    for slot in range(32):
        if bus.config_read(slot << 3, config.VENDOR_ID, 2) == NO_DEVICE:
            continue
        many = bus.config_read(slot << 3, config.HEADER_TYPE, 1) & MULTIFUNCTION
        for devfn in range(slot << 3, (slot << 3) + (8 if many else 1)):
            if bus.config_read(devfn, config.VENDOR_ID, 2) != NO_DEVICE:
                yield devfn


def size_bars(bus: PCIBus, devfn: int) -> Iterator[tuple[str, BarRequest]]:
    """The BARs of a function with decoding off: ``("io"|"mem", request)`` (PCI 3.0, 6.2.5.1)."""
    index = 0
    while index < 6:
        register = config.BAR0 + 4 * index
        index += 1
        flags = bus.config_read(devfn, register, 4)
        bus.config_write(devfn, register, 0xFFFF_FFFF, 4)
        mask = bus.config_read(devfn, register, 4)
        bus.config_write(devfn, register, flags, 4)
        if flags & BAR_IO:
            size = -(mask & ~0x3) & 0xFFFF
            if mask & ~0x3:
                yield "io", BarRequest(size or 0x1_0000, devfn, register, False)
            continue
        wide = flags & BAR_TYPE == BAR_64
        index += wide  # the next register is the upper half; a BAR of 4 GiB and more has no size here
        if mask & ~0xF:
            yield "mem", BarRequest(-(mask & ~0xF) & 0xFFFF_FFFF, devfn, register, wide)


def place(requests: list[BarRequest], first: int, last: int) -> list[tuple[BarRequest, int]] | None:
    """Addresses for all REQUESTS between FIRST and LAST, each a multiple of its size; None: they do not fit."""
    placed = []
    for request in sorted(requests, reverse=True):
        first += -first % request.size
        if first + request.size - 1 > last:
            return None
        placed.append((request, first))
        first += request.size
    return placed


def assign_bars(bus: PCIBus) -> None:
    """Give every BAR an address and turn decoding on; what does not fit stays off. Drivers turn on bus mastering."""
    wanted: dict[str, list[BarRequest]] = {"io": [], "mem": []}
    enable: dict[int, int] = {}
    for devfn in functions(bus):
        for sort, request in size_bars(bus, devfn):
            wanted[sort].append(request)
            enable[devfn] = enable.get(devfn, 0) | (config.COMMAND_IO if sort == "io" else config.COMMAND_MEMORY)
    hole_end = layout.PCI_HOLE[1]
    io = place(wanted["io"], *layout.PCI_IO)
    memory = place(wanted["mem"], TOP_OF_HOLE, hole_end) or place(wanted["mem"], *layout.PCI_HOLE)
    for name, placed, bit in (("I/O", io, config.COMMAND_IO), ("memory", memory, config.COMMAND_MEMORY)):
        if placed is None:
            log.warning("%s: the %s BARs of all devices do not fit; none is assigned", bus.name, name)
            enable = {devfn: bits & ~bit for devfn, bits in enable.items()}
        for request, address in placed or ():
            bus.config_write(request.devfn, request.register, address, 4)
            if request.wide:
                bus.config_write(request.devfn, request.register + 4, 0, 4)
    for devfn, bits in enable.items():
        bus.config_write(devfn, config.COMMAND, bus.config_read(devfn, config.COMMAND, 2) | bits, 2)


def route_interrupts(bus: PCIBus) -> None:
    """Set the PIRQ registers, and write in every interrupt line register where the function's pin leads."""
    for register, irq in zip(PIRQ_REGISTERS, layout.PIRQ_ROUTES, strict=True):
        bus.config_write(ISA_BRIDGE, register, irq, 1)
    for devfn in functions(bus):
        pin = bus.config_read(devfn, config.INTERRUPT_PIN, 1)
        if pin:
            line = layout.PIRQ_ROUTES[pirq_of(devfn >> 3, pin - 1)]
            bus.config_write(devfn, config.INTERRUPT_LINE, line, 1)


def enable_power_management(bus: PCIBus) -> None:
    """Map the PM registers where the FADT says they are."""
    bus.config_write(POWER, PM_BASE_REGISTER, layout.PM_BASE | 1, 4)
    bus.config_write(POWER, PM_ENABLE_REGISTER, 1, 1)
    bus.config_write(POWER, config.INTERRUPT_LINE, layout.SCI, 1)
