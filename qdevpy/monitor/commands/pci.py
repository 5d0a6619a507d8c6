# SPDX-License-Identifier: Apache-2.0
"""Commands on PCI buses (QEMU: qapi/pci.json)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, NamedTuple

from qdevpy.monitor.command import Context, Name, command
from qdevpy.pci import config
from qdevpy.pci.bar import Bar
from qdevpy.pci.bus import PCIBus
from qdevpy.pci.device import CLASS_NAMES, PCIDevice
from qdevpy.vm.machine import Machine

HEADER_BRIDGE = 1
CLASS_BRIDGE = 0x0604
#: registers of a bridge's header (PCI-to-PCI bridge 1.2, 3.2)
PRIMARY_BUS, SECONDARY_BUS, SUBORDINATE_BUS = 0x18, 0x19, 0x1A
IO_BASE, IO_LIMIT, MEMORY_BASE, MEMORY_LIMIT = 0x1C, 0x1D, 0x20, 0x22
PREF_BASE, PREF_LIMIT, PREF_BASE_UPPER, PREF_LIMIT_UPPER = 0x24, 0x26, 0x28, 0x2C
IO_BASE_UPPER, IO_LIMIT_UPPER = 0x30, 0x32

#: QEMU's names, beside those that info qtree has
NAMES = {
    0x0001: "VGA controller",
    0x0101: "IDE controller",
    0x0180: "Storage controller",
    0x0300: "VGA controller",
    0x0604: "PCI bridge",
    0x0C03: "USB controller",
}


class PciMemoryRegion(NamedTuple):
    """A BAR; ``address`` is -1 where it is not decoded."""

    bar: int
    type: str
    address: int
    size: int
    prefetch: bool | None = None
    mem_type_64: Annotated[bool | None, Name("mem_type_64")] = None


class PciMemoryRange(NamedTuple):
    """What a bridge passes on."""

    base: int
    limit: int


class PciBusInfo(NamedTuple):
    """The bus below a bridge."""

    number: int
    secondary: int
    subordinate: int
    io_range: Annotated[PciMemoryRange, Name("io_range")]
    memory_range: Annotated[PciMemoryRange, Name("memory_range")]
    prefetchable_range: Annotated[PciMemoryRange, Name("prefetchable_range")]


class PciBridgeInfo(NamedTuple):
    """A bridge, and what is behind it."""

    bus: PciBusInfo
    devices: list[PciDeviceInfo] | None = None


class PciDeviceClass(NamedTuple):
    """Class code, and its name where there is one."""

    class_: int
    desc: str | None = None


class PciDeviceId(NamedTuple):
    """Identity."""

    device: int
    vendor: int
    subsystem: int | None = None
    subsystem_vendor: int | None = None


class PciDeviceInfo(NamedTuple):
    """A function."""

    bus: int
    slot: int
    function: int
    class_info: Annotated[PciDeviceClass, Name("class_info")]
    id: PciDeviceId
    irq_pin: Annotated[int, Name("irq_pin")]
    qdev_id: Annotated[str, Name("qdev_id")]
    regions: list[PciMemoryRegion]
    irq: int | None = None
    pci_bridge: Annotated[PciBridgeInfo | None, Name("pci_bridge")] = None


class PciInfo(NamedTuple):
    """A root bus."""

    bus: int
    devices: list[PciDeviceInfo]


def class_name(code: int) -> str | None:
    """QEMU's name of a class code of 16 bits; None: it has none."""
    return NAMES.get(code) or CLASS_NAMES.get(code)


@command("query-pci")
def query_pci(ctx: Context) -> list[PciInfo]:
    """All functions, by bus and address."""
    return list(pci_buses(ctx.machine))


def pci_buses(machine: Machine) -> Iterator[PciInfo]:
    """The root buses."""
    for bus in machine.buses():
        if isinstance(bus, PCIBus) and not isinstance(getattr(bus, "owner", None), PCIDevice):
            yield PciInfo(0, _functions(bus, 0))


def _functions(bus: PCIBus, number: int) -> list[PciDeviceInfo]:
    found = [child for child in bus.children if isinstance(child, PCIDevice)]
    return [_describe(function, number) for function in sorted(found, key=lambda function: function.devfn)]


def _describe(function: PCIDevice, number: int) -> PciDeviceInfo:
    space = function.config
    code = space.get(config.CLASS + 1, 2)
    pin = space.get(config.INTERRUPT_PIN, 1)
    bridge = space.get(config.HEADER_TYPE, 1) & 0x7F == HEADER_BRIDGE
    subsystem = (None, None) if bridge else (space.get(config.SUBSYSTEM_ID, 2), space.get(config.SUBSYSTEM_VENDOR_ID, 2))
    return PciDeviceInfo(
        bus=number,
        slot=function.devfn >> 3,
        function=function.devfn & 7,
        class_info=PciDeviceClass(code, class_name(code)),
        id=PciDeviceId(space.get(config.DEVICE_ID, 2), space.get(config.VENDOR_ID, 2), *subsystem),
        irq_pin=pin,
        qdev_id=function.id or "",
        regions=[_region(bar, function) for bar in sorted(function.bars, key=lambda bar: bar.index)],
        irq=space.get(config.INTERRUPT_LINE, 1) if pin else None,
        pci_bridge=_bridge(function, number) if bridge else None,
    )


def _region(bar: Bar, function: PCIDevice) -> PciMemoryRegion:
    address = -1 if bar.base is None else bar.base
    if bar.kind == "io":
        return PciMemoryRegion(bar.index, "io", address, bar.size)
    wide = bar.kind == "mem64"
    prefetch = bool(function.config.get(bar.offset, 1) & 8)
    return PciMemoryRegion(bar.index, "memory", address, bar.size, prefetch, wide)


def _bridge(function: PCIDevice, number: int) -> PciBridgeInfo:
    space = function.config
    io = (space.get(IO_BASE, 1) & 0xF0) << 8, (space.get(IO_LIMIT, 1) & 0xF0) << 8 | 0xFFF
    memory = (space.get(MEMORY_BASE, 2) & 0xFFF0) << 16, (space.get(MEMORY_LIMIT, 2) & 0xFFF0) << 16 | 0xFFFFF
    prefetch = (
        (space.get(PREF_BASE, 2) & 0xFFF0) << 16 | space.get(PREF_BASE_UPPER, 4) << 32,
        (space.get(PREF_LIMIT, 2) & 0xFFF0) << 16 | space.get(PREF_LIMIT_UPPER, 4) << 32 | 0xFFFFF,
    )
    secondary, subordinate = space.get(SECONDARY_BUS, 1), space.get(SUBORDINATE_BUS, 1)
    ranges = (PciMemoryRange(*io), PciMemoryRange(*memory), PciMemoryRange(*prefetch))
    behind = [child for bus in function.child_buses if isinstance(bus, PCIBus) for child in _functions(bus, secondary)]
    # QEMU looks for the bus by its number, and finds none before firmware has given it one
    return PciBridgeInfo(PciBusInfo(number, secondary, subordinate, *ranges), behind if secondary else None)


COMMANDS = (query_pci,)
