# SPDX-License-Identifier: Apache-2.0
"""``devices``, ``device``, ``machines``, ``backends``, ``version``: what definitions may name."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from qdevpy import __version__
from qdevpy.cli.machines import warn_of_broken
from qdevpy.errors import PluginError, UnknownNameError
from qdevpy.plugin.manager import load_plugins
from qdevpy.qdev.property import Property, properties_of

if TYPE_CHECKING:
    from qdevpy.qdev.types import DeviceType

SECTIONS = ("drives", "netdevs", "chardevs", "objects")


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns, never wrapped, so that the output can be cut and searched."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def describe_property(declared: Property) -> dict[str, Any]:
    """A property as ``--json`` prints it."""
    return {
        "name": declared.name,
        "type": declared.kind.type_name,
        "default": declared.default_text(),
        "help": declared.help,
    }


def describe_device(kind: DeviceType) -> dict[str, Any]:
    """A device type as ``--json`` prints it."""
    return {
        "name": kind.name,
        "bus": kind.bus,
        "description": kind.description,
        "ioeventfd": kind.ioeventfd.value if kind.ioeventfd else None,
        "properties": [describe_property(declared) for declared in kind.properties.values()],
    }


def describe_devices(kinds: Iterable[DeviceType]) -> Iterator[dict[str, Any]]:
    """Those of KINDS that can be described; a plugin's broken class is a warning and no more."""
    for kind in kinds:
        try:
            yield describe_device(kind)
        except PluginError as error:
            print(f"qdevpy: warning: {error}", file=sys.stderr)


def print_properties(properties: Mapping[str, Property], indent: str = "") -> None:
    """A table of properties, as users write them."""
    rows = [
        (f"{indent}{p.name}", p.kind.type_name, p.default_text() or "", f"{p.help} ({p.kind.accepts})")
        for p in sorted(properties.values(), key=lambda p: p.name)
    ]
    print_table((f"{indent}property", "type", "default", "help"), rows)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def devices(as_json: bool) -> None:
    """List the device types that definitions may name."""
    registry = load_plugins()
    warn_of_broken(registry)
    kinds = [kind for _, kind in sorted(registry.device_types.items()) if kind.user_creatable]
    if as_json:
        print(json.dumps(list(describe_devices(kinds)), indent=2))
        return
    rows = [(k.name, k.bus or "-", k.ioeventfd.value if k.ioeventfd else "-", k.provider, k.description) for k in kinds]
    print_table(("name", "bus", "ioeventfd", "from", "description"), rows)


@click.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def device(name: str, as_json: bool) -> None:
    """Print what is known about one device type: its bus, its ioeventfd policy, its properties."""
    kind = load_plugins().device_type(name)
    if as_json:
        print(json.dumps(describe_device(kind), indent=2))
        return
    print(f"{kind.name}: {kind.description}")
    print(f"bus: {kind.bus or 'none'}")
    print(f"ioeventfd: {kind.ioeventfd.value if kind.ioeventfd else 'none (no queues of its own)'}")
    print(f"from: {kind.provider}")
    if not kind.user_creatable:
        print("part of a board; definitions cannot add it")
    if kind.properties:
        print()
        print_properties(kind.properties)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def machines(as_json: bool) -> None:
    """List machine types (for 'machine:') and packaged definitions (for 'qdevpy boot')."""
    registry = load_plugins()
    warn_of_broken(registry)
    boards = {
        name: {"description": board.description, "alias_of": None if board.type_name == name else board.type_name}
        for name, board in sorted(registry.boards.items())
    }
    definitions = dict(sorted(registry.definitions.items()))
    if as_json:
        print(json.dumps({"machines": boards, "definitions": definitions}, indent=2))
        return
    print_table(
        ("machine type", "description"),
        [
            (name, f"alias of {board['alias_of']}" if board["alias_of"] else str(board["description"]))
            for name, board in boards.items()
        ],
    )
    print()
    print_table(("definition", "file"), list(definitions.items()))


@click.command()
@click.argument("section", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def backends(section: str | None, as_json: bool) -> None:
    """List back ends and their options; SECTION is drives, netdevs, chardevs or objects."""
    if section is not None and section not in SECTIONS:
        raise UnknownNameError(f"there is no section '{section}'; expected one of {', '.join(SECTIONS)}")
    registry = load_plugins()
    found = {name: registry.backends(name) for name in ([section] if section else SECTIONS)}
    if as_json:
        listing = {
            name: {
                key: {"description": cls.description, "options": [describe_property(p) for p in properties_of(cls).values()]}
                for key, cls in types.items()
            }
            for name, types in found.items()
        }
        print(json.dumps(listing, indent=2))
        return
    for name, types in found.items():
        for key, cls in types.items():
            print(f"{name}: {'' if name == 'drives' else f'type: {key}  '}{cls.description}")
            if properties_of(cls):
                print_properties(properties_of(cls), "  ")
            print()


@click.command()
def version() -> None:
    """Print qdevpy's version."""
    print(f"qdevpy {__version__}")
