# SPDX-License-Identifier: Apache-2.0
"""Commands on objects, their types and properties (QEMU: qapi/qom.json, qapi/qdev.json)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from qdevpy.errors import PathError, PropertyError, QdevpyError
from qdevpy.monitor.command import Context, QmpError, command
from qdevpy.qdev import qom
from qdevpy.qdev.device import Device
from qdevpy.qdev.help import settable
from qdevpy.qdev.property import properties_of
from qdevpy.qdev.type_table import TypeInfo, TypeTable


class ObjectPropertyInfo(NamedTuple):
    """A property."""

    name: str
    type: str
    description: str | None = None
    default_value: Any = None


def found(work: Any) -> Any:
    """What WORK() returns.

    :raises QmpError: DeviceNotFound where a path leads nowhere, GenericError for all else
    """
    try:
        return work()
    except PathError as error:
        raise QmpError(str(error), "GenericError" if error.ambiguous else "DeviceNotFound") from None
    except (QdevpyError, ValueError) as error:
        raise QmpError(error.message if isinstance(error, PropertyError) else str(error)) from None


@command("qom-list", allow_preconfig=True)
def qom_list(ctx: Context, *, path: str) -> list[ObjectPropertyInfo]:
    """The properties of an object, its children and links among them."""
    tree = qom.Tree(ctx.machine)
    obj = found(lambda: tree.resolve(path))
    return [ObjectPropertyInfo(each.name, each.type) for each in tree.properties(obj).values()]


@command("qom-get", allow_preconfig=True)
def qom_get(ctx: Context, *, path: str, property: str) -> Any:  # noqa: A002 - QMP's name
    """The value of an object's property."""
    return found(lambda: qom.get(ctx.machine, path, property))


@command("qom-set", allow_preconfig=True)
def qom_set(ctx: Context, *, path: str, property: str, value: Any) -> None:  # noqa: A002 - QMP's name
    """Set an object's property."""
    found(lambda: qom.set_(ctx.machine, path, property, value))


class ObjectTypeInfo(NamedTuple):
    """A type."""

    name: str
    abstract: bool | None = None
    parent: str | None = None


def type_table(ctx: Context) -> TypeTable:
    """All types there are."""
    registry = ctx.machine.registry
    if registry is None:
        from qdevpy.plugin.manager import load_plugins

        registry = load_plugins()
    return TypeTable(registry)


def find_type(ctx: Context, table: TypeTable, typename: str, what: str) -> TypeInfo:
    """The type called TYPENAME.

    :raises QmpError: there is none
    """
    info = table.types.get(typename)
    if info is None:
        raise QmpError(f"{what} '{typename}' not found", "DeviceNotFound")
    return info


@command("qom-list-types", allow_preconfig=True)
def qom_list_types(ctx: Context, *, implements: str | None = None, abstract: bool = False) -> list[ObjectTypeInfo]:
    """The types there are; those that derive from one, or have an interface."""
    found = type_table(ctx).select(implements, abstract=abstract)
    return [ObjectTypeInfo(info.name, True if info.abstract else None, info.parent) for info in found]


@command("device-list-properties")
def device_list_properties(ctx: Context, *, typename: str) -> list[ObjectPropertyInfo]:
    """What may be set of a device of a type; without what every device has."""
    table = type_table(ctx)
    info = find_type(ctx, table, typename, "Device")
    if info.abstract or not table.implements(typename, "device"):
        raise QmpError("Parameter 'typename' expects a non-abstract device type")
    found = settable(info.cls()) if info.cls is not None else []
    return [ObjectPropertyInfo(each.name, each.type, each.description, each.default) for each in found]


@command("qom-list-properties", allow_preconfig=True)
def qom_list_properties(ctx: Context, *, typename: str) -> list[ObjectPropertyInfo]:
    """The properties of objects of a type."""
    table = type_table(ctx)
    find_type(ctx, table, typename, "Class")
    if not table.implements(typename, "object"):
        raise QmpError("Parameter 'typename' expects a QOM type")
    return [ObjectPropertyInfo(name, kind, description) for name, kind, description in type_properties(table, typename)]


def type_properties(table: TypeTable, typename: str) -> Iterator[tuple[str, str, str | None]]:
    """Name, type and description of each property."""
    yield "type", "string", None
    info = table.types[typename]
    if table.implements(typename, "device"):
        generic = qom.generic_properties(Device())
        yield from ((each.name, each.type, each.description) for each in generic)
    if info.cls is not None and not info.abstract:
        found = [*qom.declared_properties(info.cls()), *qom.part_properties(info.cls())]
        yield from ((each.name, each.type, each.description) for each in found)
    elif info.cls is not None:
        for declared in properties_of(info.cls).values():
            yield declared.name, declared.kind.type_name, declared.kind.description
    elif table.implements(typename, "bus") and not info.abstract:
        yield "realized", "bool", None


COMMANDS = (qom_list, qom_get, qom_set, qom_list_types, device_list_properties, qom_list_properties)
