# SPDX-License-Identifier: Apache-2.0
"""What the monitor's users write as on the command line: ``null,id=c0``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from qdevpy.cli.qemu.draft import Draft
from qdevpy.definition.nodes import Map, Text
from qdevpy.vm.backends import create_backend

if TYPE_CHECKING:
    from qdevpy.backend.base import Backend
    from qdevpy.vm.machine import Machine


class Entry(NamedTuple):
    """What an option makes: an entry of a section.

    :ivar type: the back end's; ``drive`` in ``drives``
    """

    section: str
    name: str
    type: str
    options: Mapping[str, str]


def entries(machine: Machine, option: Callable[[Draft, str], None], text: str) -> list[Entry]:
    """What the command line's OPTION makes of TEXT.

    :raises QdevpyError: it is none
    """
    assert machine.registry is not None
    draft = Draft(machine.registry)
    option(draft, text)
    found = []
    for section in ("objects", "drives", "netdevs", "chardevs"):
        node = draft.root.get(section)
        if isinstance(node, Map):
            found += [_entry(section, name, item) for name, (_, item) in node.entries.items() if isinstance(item, Map)]
    return found


def _entry(section: str, name: str, item: Map) -> Entry:
    options = {key: value.text for key, (_, value) in item.entries.items() if isinstance(value, Text)}
    kind = "drive" if section == "drives" else options.pop("type", "")
    return Entry(section, name, kind, options)


def create(machine: Machine, entry: Entry) -> Backend:
    """Make it.

    :raises QdevpyError: it cannot be
    """
    return create_backend(machine, entry.section, entry.type, entry.name, entry.options)
