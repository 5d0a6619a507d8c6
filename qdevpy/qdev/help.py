# SPDX-License-Identifier: Apache-2.0
"""``-device help`` and ``-device NAME,help`` as QEMU prints them (softmmu/qdev-monitor.c, qom/object_interfaces.c)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from qdevpy.qdev import qom
from qdevpy.qdev.qom import QomProperty

if TYPE_CHECKING:
    from qdevpy.plugin.registry import Registry
    from qdevpy.qdev.device import Device
    from qdevpy.qdev.types import DeviceType

#: in the order of the listing
CATEGORIES = (
    "Controller/Bridge/Hub",
    "USB",
    "Storage",
    "Network",
    "Input",
    "Display",
    "Sound",
    "Misc",
    "CPU",
    "Watchdog",
    "Uncategorized",
)
COLUMN = 24


def list_devices(registry: Registry, *, all_types: bool = False) -> Iterator[str]:
    """The lines of ``-device help``: the types that users may add, by category.

    :param all_types: those of plugins that users may not add, too (``info qdm``)
    """
    groups: dict[str, list[str]] = {category: [] for category in CATEGORIES}
    for _, kind in sorted(registry.device_types.items()):
        if kind.user_creatable or all_types:
            category = getattr(kind.create, "category", "")
            groups[category if category in groups else "Uncategorized"].append(describe_type(kind))
    separator = False
    for category, lines in groups.items():
        if lines:
            if separator:
                yield ""
            separator = True
            yield f"{category} devices:"
            yield from lines


def describe_type(kind: DeviceType) -> str:
    """A device type's line."""
    parts = [f'name "{kind.name}"']
    if kind.bus is not None:
        parts.append(f"bus {kind.bus}")
    if kind.alias is not None:
        parts.append(f'alias "{kind.alias}"')
    description = getattr(kind.create, "qemu_description", None)
    description = kind.description if description is None else description
    if description:
        parts.append(f'desc "{description}"')
    if not kind.user_creatable:
        parts.append("no-user")
    return ", ".join(parts)


def list_properties(registry: Registry, name: str) -> Iterator[str]:
    """The lines of ``-device NAME,help``.

    :raises UnknownNameError: there is no such type
    """
    kind = registry.device_type(name)
    found = settable(kind.create())
    if not found:
        yield f"There are no options for {kind.name}."
        return
    yield f"{kind.name} options:"
    yield from sorted(map(describe_property, found))


def settable(device: Device) -> list[QomProperty]:
    """The properties of a device's type, its parts among them, without those that every device has."""
    found = [*qom.declared_properties(device), *qom.part_properties(device)]
    return [each for each in found if not each.name.startswith("legacy-")]


def describe_property(found: QomProperty) -> str:
    """A property's line."""
    line = f"  {found.name}=<{found.type}>"
    if found.description is None and found.default is None:
        return line
    line = f"{line:{COLUMN}} - {found.description or ''}"
    return line if found.default is None else f"{line} (default: {json.dumps(found.default)})"


def device_help(registry: Registry, options: str) -> list[str]:
    """What ``-device OPTIONS`` prints where it asks for help; nothing where it does not.

    :param options: ``help``, or ``NAME,help`` (``?`` is help, too)
    :raises UnknownNameError: there is no such type
    """
    name, *rest = [part.strip() for part in options.split(",")]
    if name in ("help", "?"):
        return list(list_devices(registry))
    if not any(part in ("help", "?") for part in rest):
        return []
    return list(list_properties(registry, name.removeprefix("driver=")))
