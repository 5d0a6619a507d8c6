# SPDX-License-Identifier: Apache-2.0
"""Commands on objects, their types and properties (QEMU: qapi/qom.json, qapi/qdev.json)."""

from __future__ import annotations

from typing import Any, NamedTuple

from qdevpy.errors import PathError, PropertyError, QdevpyError
from qdevpy.monitor.command import Context, QmpError, command
from qdevpy.qdev import qom


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


COMMANDS = (qom_list, qom_get, qom_set)
