# SPDX-License-Identifier: Apache-2.0
"""The protocol's own commands (QEMU: qapi/control.json, qapi/introspect.json)."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from qdevpy import __version__
from qdevpy.monitor.command import Context, QmpError, Union, command

#: the QEMU whose interface this is
QEMU_VERSION = (7, 2, 0)


class VersionTriple(NamedTuple):
    """A version."""

    major: int
    minor: int
    micro: int


class VersionInfo(NamedTuple):
    """QEMU's version, and in ``package`` our own."""

    qemu: VersionTriple
    package: str


class CommandInfo(NamedTuple):
    """A command there is."""

    name: str


def version_info() -> VersionInfo:
    """Of the greeting and query-version."""
    return VersionInfo(VersionTriple(*QEMU_VERSION), f"qdevpy {__version__}")


@command("qmp_capabilities", negotiation=True, allow_preconfig=True)
def qmp_capabilities(ctx: Context, *, enable: list[Literal["oob"]] | None = None) -> None:
    """Leave negotiation mode."""
    if ctx.monitor is None or not ctx.monitor.negotiating:
        raise QmpError("Capabilities negotiation is already complete, command ignored", "CommandNotFound")
    ctx.monitor.enable(enable or ())


@command("query-version", allow_preconfig=True)
def query_version(ctx: Context) -> VersionInfo:
    """What this is."""
    return version_info()


@command("query-commands", allow_preconfig=True)
def query_commands(ctx: Context) -> list[CommandInfo]:
    """Every command's name."""
    return [CommandInfo(bound.name) for bound in ctx.table]


JsonType = Literal["string", "number", "int", "boolean", "null", "object", "array", "value"]


class EnumMember(NamedTuple):
    """A value of an enum."""

    name: str
    features: list[str] | None = None


class ObjectMember(NamedTuple):
    """A member of an object; ``default`` (always null) says that it is optional."""

    name: str
    type: str
    default: Any = None
    features: list[str] | None = None


class Variant(NamedTuple):
    """A branch of a union."""

    case: str
    type: str


class AlternateMember(NamedTuple):
    """One of the types of an alternate."""

    type: str


class SchemaBase(NamedTuple):
    """What all have."""

    name: str
    features: list[str] | None = None


class SchemaBuiltin(NamedTuple):
    """A type of the language's own."""

    json_type: JsonType


class SchemaEnum(NamedTuple):
    """An enum; ``values`` is for older clients."""

    members: list[EnumMember]
    values: list[str]


class SchemaArray(NamedTuple):
    """An array type."""

    element_type: str


class SchemaObject(NamedTuple):
    """A struct, a union, or a command's arguments."""

    members: list[ObjectMember]
    tag: str | None = None
    variants: list[Variant] | None = None


class SchemaAlternate(NamedTuple):
    """One of several types, told apart by JSON type."""

    members: list[AlternateMember]


class SchemaCommand(NamedTuple):
    """A command."""

    arg_type: str
    ret_type: str
    allow_oob: bool | None = None


class SchemaEvent(NamedTuple):
    """An event."""

    arg_type: str


SchemaInfo = Annotated[
    dict[str, Any],
    Union(
        "meta-type",
        {
            "builtin": SchemaBuiltin,
            "enum": SchemaEnum,
            "array": SchemaArray,
            "object": SchemaObject,
            "alternate": SchemaAlternate,
            "command": SchemaCommand,
            "event": SchemaEvent,
        },
        base=SchemaBase,
    ),
]


@command("query-qmp-schema", allow_preconfig=True)
def query_qmp_schema(ctx: Context) -> list[SchemaInfo]:
    """All commands, events and types."""
    from qdevpy.monitor.schema import make_schema

    return make_schema(ctx.table)


COMMANDS = (qmp_capabilities, query_version, query_commands, query_qmp_schema)
