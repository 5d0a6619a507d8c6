# SPDX-License-Identifier: Apache-2.0
"""Definitions for tests of QEMU's command line: to compare them, and to have one of everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qdevpy.definition.model import MachineDefinition, Value
from qdevpy.plugin.registry import Registry
from qdevpy.qdev import kinds
from qdevpy.qdev.property import Property, properties_of
from qdevpy.virtio.vq_mapping import IOThreadVqMapping

#: back ends that devices of every sort need
PREAMBLE = """\
machine: pc
objects: {io: {type: iothread}}
chardevs: {c: {type: "null"}}
netdevs: {n: {type: hubport, hubid: 0}}
drives: {d: {driver: null-co}}
"""
#: options of back ends that say what would be so without them, too
SAID_ANYWAY = {("driver", "raw"), ("format", "raw"), ("host", "localhost")}
REFERENCES = {"drive": "d", "netdev": "n", "chardev": "c", "iothread": "io"}
#: what must be there before a device, by the sort of its bus
BEFORE = {"virtio-serial-bus": "  - virtio-serial-pci: {id: vs}\n"}


def normal(definition: MachineDefinition, registry: Registry) -> MachineDefinition:
    """DEFINITION without positions and without options of back ends that say the default, values in one spelling."""
    sections = {}
    for section in ("drives", "netdevs", "chardevs", "objects"):
        sections[section] = {
            name: entry._replace(
                options=_normal(entry.options, properties_of(registry.backend_type(section, entry.type)), defaults=False),
                position=None,
            )
            for name, entry in getattr(definition, section).items()
        }
    devices = tuple(
        entry._replace(options=_normal(entry.options, registry.device_type(entry.type).properties), position=None)
        for entry in definition.devices
    )
    plain = {name: _plain(value) for name, value in definition._asdict().items() if name not in (*sections, "devices")}
    return MachineDefinition(**{**plain, **sections, "devices": devices, "path": None})


def _normal(options: Mapping[str, Value], declared: Mapping[str, Property], defaults: bool = True) -> dict[str, Any]:
    found = {}
    for name, value in options.items():
        parsed = declared[name].kind.parse(value.given) if name in declared else value.given
        if not defaults and (name, parsed) in SAID_ANYWAY:
            continue
        if defaults or name not in declared or parsed != declared[name].default:
            found[name] = parsed
    if str(found.get("file", "")).endswith("://"):  # the short form of a driver
        found["driver"] = found.pop("file").removesuffix("://")
    return found


def _plain(value: Any) -> Any:
    """Without positions."""
    if isinstance(value, Value):
        return value.given
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return tuple(_plain(item) for item in value)
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return value


def other_value(declared: Property) -> str | None:
    """A value that is not the default, as a user writes it; None where there is no other."""
    kind = declared.kind
    default = declared.default_text()
    match kind:
        case kinds.BackendRef():
            return REFERENCES.get(kind.reference)
        case kinds.Bool():
            return "off" if default == "on" else "on"
        case kinds.OnOffAuto():
            return "on"
        case kinds.Enum():
            return next((word for word in kind.choices if word != default), None)
        case kinds.Integer():
            return str(kind.minimum if default != str(kind.minimum) else kind.maximum)
        case kinds.Size():
            return "2K"
        case kinds.MacAddr():
            return "52:54:00:00:00:7f"
        case kinds.PciDevfn():
            return "1e.0"
        case kinds.Str():
            return "a,b=c d"
        case IOThreadVqMapping():
            return '[{"iothread": "io", "vqs": [1, 0]}]'
        case _:
            return None
