# SPDX-License-Identifier: Apache-2.0
"""The device tree as text, as QEMU's ``info qtree`` prints it (qdev-monitor.c, qdev_print): what came last comes first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from qdevpy.qdev import kinds
from qdevpy.qdev.device import Device
from qdevpy.qdev.property import properties_of

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
    for child in reversed(bus.children):
        yield from format_device(child, level + 1)


def format_device(device: Device, level: int = 0) -> Iterator[str]:
    """The lines of one device and all below it."""
    carrier = device.parent_bus.owner if device.parent_bus is not None else None
    # what a transport carries has the transport's id for messages, and none of its own in QEMU's tree
    identity = "" if carrier is not None and carrier.id == device.id else device.id
    yield f'{"  " * level}dev: {device.type_name}, id "{identity or ""}"'
    for direction, name, count in device.gpios:
        yield f'{"  " * (level + 1)}gpio-{direction} "{name}" {count}'
    yield from _format_properties(device, level + 1)
    yield from ("  " * (level + 1) + line for line in device.describe())
    yield from _format_children(device, level + 1)


def _format_children(device: Device, level: int) -> Iterator[str]:
    for bus in reversed(device.child_buses):
        yield from _format_bus(bus, level)


def _format_properties(owner: Object, level: int) -> Iterator[str]:
    """The class's own properties first, then those it inherits, as QEMU goes up the class hierarchy."""
    rank: dict[str, int] = {}
    for depth, cls in enumerate(type(owner).__mro__):
        for name in vars(cls).get("__annotations__", {}):
            rank.setdefault(name, depth)
    for found in sorted(properties_of(type(owner)).values(), key=lambda p: rank[p.attribute]):
        if not found.dynamic and not isinstance(found.kind, kinds.Link):  # QEMU knows no text for links
            yield f"{'  ' * level}{found.name} = {found.kind.show(getattr(owner, found.attribute))}"
