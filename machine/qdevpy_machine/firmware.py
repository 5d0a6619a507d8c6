# SPDX-License-Identifier: Apache-2.0
"""What firmware would have done before the kernel starts: addresses for BARs, interrupt routing, ACPI tables.

Works through config space, as firmware does, and knows no device but the chipset.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from qdevpy.pci import bridge, config
from qdevpy_machine import layout
from qdevpy_machine.chipset import ISA_BRIDGE, PIRQ_REGISTERS, PM_BASE_REGISTER, PM_ENABLE_REGISTER, POWER
from qdevpy_machine.dsdt import pirq_of

if TYPE_CHECKING:
    from qdevpy.pci.bus import PCIBus

log = logging.getLogger(__name__)

BAR_IO, BAR_TYPE, BAR_64 = 0x1, 0x6, 0x4
NO_DEVICE = 0xFFFF
MULTIFUNCTION = 0x80
#: of a bridge's windows: what they are multiples of, and how large they are at least
GRAINS = {"io": (0x1000, 0x1000), "mem": (0x10_0000, 0x20_0000)}
#: where small machines' memory BARs go: the end of the PCI hole, as SeaBIOS puts them
TOP_OF_HOLE = 0xFE00_0000


class Request(NamedTuple):
    """Something that wants addresses: a BAR, or the window of a bridge.

    :ivar size: bytes; alignment: what its address is a multiple of
    :ivar write: puts the address where it belongs
    """

    size: int
    alignment: int
    write: Callable[[int], None]


def functions(bus: PCIBus) -> Iterator[int]:
    """The devfns of all functions on the bus."""
    for slot in range(32):
        if bus.config_read(slot << 3, config.VENDOR_ID, 2) == NO_DEVICE:
            continue
        many = bus.config_read(slot << 3, config.HEADER_TYPE, 1) & MULTIFUNCTION
        for devfn in range(slot << 3, (slot << 3) + (8 if many else 1)):
            if bus.config_read(devfn, config.VENDOR_ID, 2) != NO_DEVICE:
                yield devfn


def write_bar(bus: PCIBus, devfn: int, register: int, address: int, wide: bool, enable: int) -> None:
    """Give a BAR its address and turn decoding on."""
    bus.config_write(devfn, register, address, 4)
    if wide:
        bus.config_write(devfn, register + 4, 0, 4)
    bus.config_write(devfn, config.COMMAND, bus.config_read(devfn, config.COMMAND, 2) | enable, 2)


def bar_requests(bus: PCIBus, devfn: int) -> Iterator[tuple[str, Request]]:
    """The BARs of a function with decoding off: ``("io"|"mem", request)`` (PCI 3.0, 6.2.5.1)."""
    index, registers = 0, 2 if is_bridge(bus, devfn) else 6
    while index < registers:
        register = config.BAR0 + 4 * index
        index += 1
        flags = bus.config_read(devfn, register, 4)
        bus.config_write(devfn, register, 0xFFFF_FFFF, 4)
        mask = bus.config_read(devfn, register, 4)
        bus.config_write(devfn, register, flags, 4)
        if flags & BAR_IO:
            size = -(mask & ~0x3) & 0xFFFF
            if mask & ~0x3:
                write = partial(write_bar, bus, devfn, register, wide=False, enable=config.COMMAND_IO)
                yield "io", Request(size or 0x1_0000, size or 0x1_0000, write)
            continue
        wide = flags & BAR_TYPE == BAR_64
        index += wide  # the next register is the upper half; a BAR of 4 GiB and more has no size here
        if mask & ~0xF:
            size = -(mask & ~0xF) & 0xFFFF_FFFF
            yield "mem", Request(size, size, partial(write_bar, bus, devfn, register, wide=wide, enable=config.COMMAND_MEMORY))


def is_bridge(bus: PCIBus, devfn: int) -> bool:
    """Whether the function has a bus behind it."""
    return bus.config_read(devfn, config.HEADER_TYPE, 1) & 0x7F == bridge.HEADER_BRIDGE


def place(requests: list[Request], first: int, last: int) -> list[tuple[Request, int]] | None:
    """Addresses for all REQUESTS between FIRST and LAST, the largest first; None: they do not fit."""
    placed = []
    for request in sorted(requests, key=lambda request: request.alignment, reverse=True):
        first += -first % request.alignment
        if first + request.size - 1 > last:
            return None
        placed.append((request, first))
        first += request.size
    return placed


def requests_of(bus: PCIBus) -> dict[str, list[Request]]:
    """What everything on BUS wants; a bridge wants a window for all that is behind it."""
    wanted: dict[str, list[Request]] = {"io": [], "mem": []}
    for devfn in functions(bus):
        for sort, request in bar_requests(bus, devfn):
            wanted[sort].append(request)
        if is_bridge(bus, devfn):
            behind = bus.bus_behind(bus.config_read(devfn, bridge.SECONDARY, 1))
            inner = requests_of(behind) if behind is not None else {}
            for sort, requests in inner.items():
                wanted[sort].append(window(bus, devfn, sort, requests))
    return wanted


def window(bus: PCIBus, devfn: int, sort: str, requests: list[Request]) -> Request:
    """The request of a bridge for its I/O or memory window, with room for what comes later."""
    grain, least = GRAINS[sort]
    alignment = max([grain, *(request.alignment for request in requests)])
    inside = place(requests, 0, 1 << 32) or []
    used = max([least, *(offset + request.size for request, offset in inside)])
    size = used + -used % grain

    def write(base: int) -> None:
        last = base + size - 1
        if sort == "io":
            bus.config_write(devfn, bridge.IO_BASE, (last >> 8 & 0xF0) << 8 | (base >> 8 & 0xF0), 2)
        else:
            bus.config_write(devfn, bridge.MEMORY_BASE, (last >> 16 & 0xFFF0) << 16 | (base >> 16 & 0xFFF0), 4)
        bus.config_write(devfn, config.COMMAND, config.COMMAND_IO | config.COMMAND_MEMORY | config.COMMAND_MASTER, 2)
        for request, offset in inside:
            request.write(base + offset)

    return Request(size, alignment, write)


def number_buses(bus: PCIBus, number: int = 0) -> int:
    """Give every bus behind a bridge its number, depth first; the last that was given."""
    last = number
    for devfn in functions(bus):
        if not is_bridge(bus, devfn):
            continue
        first = last + 1
        bus.config_write(devfn, bridge.PRIMARY, number, 1)
        bus.config_write(devfn, bridge.SECONDARY, first, 1)
        bus.config_write(devfn, bridge.SUBORDINATE, 0xFF, 1)
        behind = bus.bus_behind(first)
        last = number_buses(behind, first) if behind is not None else first
        bus.config_write(devfn, bridge.SUBORDINATE, last, 1)
    return last


def assign_bars(bus: PCIBus) -> None:
    """Number the buses, give every BAR an address and turn decoding on; what does not fit stays off. Drivers turn on bus
    mastering.
    """
    number_buses(bus)
    wanted = requests_of(bus)
    hole_end = layout.PCI_HOLE[1]
    io = place(wanted["io"], *layout.PCI_IO)
    memory = place(wanted["mem"], TOP_OF_HOLE, hole_end) or place(wanted["mem"], *layout.PCI_HOLE)
    for name, placed in (("I/O", io), ("memory", memory)):
        if placed is None:
            log.warning("%s: the %s BARs of all devices do not fit; none is assigned", bus.name, name)
        for request, address in placed or ():
            request.write(address)


def route_interrupts(bus: PCIBus) -> None:
    """Set the PIRQ registers, and write in every interrupt line register where the function's pin leads."""
    for register, irq in zip(PIRQ_REGISTERS, layout.PIRQ_ROUTES, strict=True):
        bus.config_write(ISA_BRIDGE, register, irq, 1)
    write_lines(bus, lambda slot, pin: layout.PIRQ_ROUTES[pirq_of(slot, pin - 1)])


def write_lines(bus: PCIBus, line_of: Callable[[int, int], int]) -> None:
    """Interrupt line registers of a bus, and of those behind its bridges, whose pins turn by the slot."""
    for devfn in functions(bus):
        pin = bus.config_read(devfn, config.INTERRUPT_PIN, 1)
        if pin:
            bus.config_write(devfn, config.INTERRUPT_LINE, line_of(devfn >> 3, pin), 1)
        behind = bus.bus_behind(bus.config_read(devfn, bridge.SECONDARY, 1)) if is_bridge(bus, devfn) else None
        if behind is not None:
            write_lines(behind, lambda slot, pin, at=devfn >> 3: line_of(at, (pin - 1 + slot) % 4 + 1))  # type: ignore[misc]


def enable_power_management(bus: PCIBus) -> None:
    """Map the PM registers where the FADT says they are."""
    bus.config_write(POWER, PM_BASE_REGISTER, layout.PM_BASE | 1, 4)
    bus.config_write(POWER, PM_ENABLE_REGISTER, 1, 1)
    bus.config_write(POWER, config.INTERRUPT_LINE, layout.SCI, 1)
