# SPDX-License-Identifier: Apache-2.0
"""The device tree as text, as QEMU's ``info qtree`` prints it (qdev-monitor.c, qdev_print)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from qdevpy.qdev import kinds
from qdevpy.qdev.device import Device
from qdevpy.qdev.property import Property, properties_of

if TYPE_CHECKING:
    from qdevpy.qdev.bus import Bus
    from qdevpy.qdev.object import Object


def format_tree(buses: Iterable[Bus]) -> Iterator[str]:
    """The lines of the tree below BUSES, parents before children, two spaces a level."""
    for bus in buses:
        yield from _format_bus(bus, 0)


def _format_bus(bus: Bus, level: int) -> Iterator[str]:
    indent = "  " * level
    yield f"{indent}bus: {bus.name}"
    yield f"{indent}  type {bus.type_name or bus.bus_type}"
    for child in bus.children:
        yield from format_device(child, level + 1)


def format_device(device: Device, level: int = 0) -> Iterator[str]:
    """The lines of one device and all below it."""
    carrier = device.parent_bus.owner if device.parent_bus is not None else None
    # what a transport carries has the transport's id for messages, and none of its own in QEMU's tree
    identity = "" if carrier is not None and carrier.id == device.id else device.id
    yield f'{"  " * level}dev: {device.type_name}, id "{identity or ""}"'
    yield from _format_properties(device, level + 1)
    yield from ("  " * (level + 1) + line for line in device.describe())
    yield from _format_children(device, level + 1)


def _format_children(device: Device, level: int) -> Iterator[str]:
    for bus in device.child_buses:
        yield from _format_bus(bus, level)


def _format_properties(owner: Object, level: int) -> Iterator[str]:
    """The class's own properties first, then those it inherits, as QEMU goes up the class hierarchy."""
    rank: dict[str, int] = {}
    for depth, cls in enumerate(type(owner).__mro__):
        for name in vars(cls).get("__annotations__", {}):
            rank.setdefault(name, depth)
    for found in sorted(properties_of(type(owner)).values(), key=lambda p: rank[p.attribute]):
        yield f"{'  ' * level}{found.name} = {format_value(found, getattr(owner, found.attribute))}"


def format_value(declared: Property, value: Any) -> str:
    """A property's value as QEMU's string output visitor prints it: ``on`` is ``true``, ``4`` is ``4 (0x4)``."""
    match declared.kind:
        case kinds.Bool():
            return "true" if value else "false"
        case kinds.PciDevfn():
            return declared.kind.legacy(value)
        case kinds.Size():
            return f"{value} ({_human_size(value)})"
        case kinds.Integer():
            return f"{value} ({value & ((1 << 64) - 1):#x})"
        case _:
            return f'"{"" if value is None else declared.kind.format(value)}"'


def _human_size(size: int) -> str:
    """Three digits and a binary unit (QEMU: size_to_str)."""
    power = min(max(size, 1).bit_length() - 1, 63) // 10
    return f"{size / (1 << 10 * power):.3g} {['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei'][power]}B"
