# SPDX-License-Identifier: Apache-2.0
"""What a command line has said so far: the tree that a YAML file would be, and what can only be decided at its end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from qdevpy.cli.qemu.opts import CommandLineError
from qdevpy.definition.model import Position
from qdevpy.definition.nodes import List, Map, Text

if TYPE_CHECKING:
    from qdevpy.plugin.registry import Registry


class Host(NamedTuple):
    """What is about the process and not about the machine.

    :ivar process: its name (``-name process=``)
    :ivar daemonize, pid_file: go into the background; where the process id is written
    :ivar log_file: where messages go instead of stderr
    :ivar log_items: what is wanted there (``-d``)
    :ivar timestamps: in front of messages (``-msg``)
    :ivar trace: a file that gets a trace (``-trace file=``)
    """

    process: str | None = None
    daemonize: bool = False
    pid_file: str | None = None
    log_file: str | None = None
    log_items: tuple[str, ...] = ()
    timestamps: bool = False
    trace: str | None = None


class Draft:
    """Options are carried out on this, first to last.

    :ivar root: keys of a definition
    :ivar at: the option that is being carried out
    :ivar host: see :class:`Host`
    :ivar notes: what the options say and the definition cannot, for people
    :ivar board_devices: devices that QEMU's board makes, before those of ``-device``
    :ivar late_devices: devices that come of ``-drive if=virtio``, after them
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.at = Position("command line")
        self.root = Map({}, self.at)
        self.host = Host()
        self.notes: list[str] = []
        self.board_devices: list[Map] = []
        self.late_devices: list[Map] = []
        self.accelerators: list[tuple[str, Position]] = []
        self.serials: list[tuple[str, Position]] = []
        self.debugcons: list[tuple[str, Position]] = []
        self.block_nodes: dict[str, tuple[Mapping[str, str], Position]] = {}
        self.shared_memory: dict[str, str] = {}  # object -> size; see shared_memory.py
        self.device_options: dict[str, dict[str, str]] = {}  # drive -> options for the device that has it
        self.monitor_count = 0
        self.nic_count = 0
        self.drive_counts: dict[str, int] = {}
        self.defaults = True
        self.default_serial = True
        self.default_monitor = True
        self.nographic = False
        self.display: str | None = None
        self._options = 0

    # -- where we are

    def enter(self, option: str) -> None:
        """From now on OPTION is carried out; two equal ones are told apart by their number."""
        self._options += 1
        self.at = Position(option, 0, self._options)

    def note(self, text: str) -> None:
        """Say what the definition does not."""
        self.notes.append(f"{self.at}: {text}")

    # -- writing

    def text(self, value: str) -> Text:
        """VALUE, given here."""
        return Text(value, self.at)

    def map(self, options: Iterable[tuple[str, str]] | Mapping[str, str]) -> Map:
        """OPTIONS, given here."""
        pairs = options.items() if isinstance(options, Mapping) else options
        return Map({name: (self.text(name), self.text(value)) for name, value in pairs}, self.at)

    def put(self, value: str, *way: str) -> None:
        """Write VALUE at the end of the WAY of keys; the last wins."""
        node = self.root
        for key in way[:-1]:
            node = node.entries.setdefault(key, (self.text(key), Map({}, self.at)))[1]
        node.entries[way[-1]] = (self.text(way[-1]), self.text(value))

    def append(self, key: str, item: Map | Text) -> None:
        """Put ITEM at the end of the list at KEY."""
        _, items = self.root.entries.setdefault(key, (self.text(key), List([], self.at)))
        items.items.append(item)

    def entry(self, section: str, name: str, options: Mapping[str, str]) -> None:
        """A back end.

        :raises CommandLineError: its name is taken
        """
        _, entries = self.root.entries.setdefault(section, (self.text(section), Map({}, self.at)))
        if name in entries.entries:
            raise CommandLineError(f"Duplicate ID '{name}' for {section.removesuffix('s')}")
        entries.entries[name] = (self.text(name), self.map(options))

    def has_entry(self, section: str, name: str) -> bool:
        """Whether there is such a back end by now."""
        found = self.root.get(section)
        return isinstance(found, Map) and name in found.entries

    def device(self, type_name: str, options: Mapping[str, str]) -> Map:
        """An item of ``devices:``, not yet in the list."""
        return Map({type_name: (self.text(type_name), self.map(options))}, self.at)

    def devices(self) -> list[Map]:
        """The items of ``devices:`` by now."""
        found = self.root.get("devices")
        return found.items if isinstance(found, List) else []
