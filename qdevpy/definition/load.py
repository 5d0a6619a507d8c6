# SPDX-License-Identifier: Apache-2.0
"""Machine definitions: text in, a checked :class:`MachineDefinition` out, or every problem at once.

The way: files and ``--set`` to one tree (:mod:`.source`), the tree to typed entries (here), each option
against its property (:mod:`.options`), the entries against each other (:mod:`.check`).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from os import PathLike
from typing import TYPE_CHECKING, TypeVar

from qdevpy.definition import problems as q
from qdevpy.definition.check import check_entries
from qdevpy.definition.keys import ACCEL, BOOT, BOOT_SETTINGS, KEYS, MIN_MEMORY, NAME, PAGE
from qdevpy.definition.model import (
    BackendDefinition,
    BootDefinition,
    DeviceDefinition,
    GlobalDefinition,
    MachineDefinition,
    Position,
    Problem,
    Value,
)
from qdevpy.definition.nodes import List, Map, Node, Text, describe
from qdevpy.definition.options import Option, Target, check_file_exists, check_option, read_options
from qdevpy.definition.problems import Problems
from qdevpy.definition.source import NAMED_SECTIONS, Override, Parse, apply_overrides, read_tree, resolve_path
from qdevpy.errors import UnknownNameError, did_you_mean
from qdevpy.qdev.kinds import Integer, Size
from qdevpy.qdev.property import properties_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from qdevpy.plugin.registry import Registry
    from qdevpy.qdev.types import DeviceType
    from qdevpy.vm.board import Board

#: those of :data:`.keys.KEYS` that few machines have; :mod:`.settings` reads them, and is imported only then
SETTINGS = (
    *("name", "uuid", "machine-options", "cpu", "topology", "rtc", "run"),
    *("monitors", "qtest", "fw_cfg", "smbios", "data-dirs", "faults"),
)
ACCELS = ACCEL.choices

T = TypeVar("T")


def load_definition(
    path: str | PathLike[str],
    registry: Registry,
    *,
    text: str | None = None,
    overrides: Sequence[Override] = (),
    parse: Parse | None = None,
) -> MachineDefinition:
    """Read, merge and check a machine definition.

    :param path: its file; with TEXT, only a name for messages and the place that relative paths start from
    :param text: the definition itself
    :param overrides: values from the command line, in order
    :param parse: instead of :func:`.syntax.parse_yaml` (:func:`.cache.parse_cached` starts faster)
    :raises DefinitionError: with every problem of the definition
    """
    problems = Problems()
    definition = _load(os.fspath(path), registry, text, overrides, problems, parse)
    problems.check()
    return definition


def check_file(path: str | PathLike[str], registry: Registry, overrides: Sequence[Override] = ()) -> list[Problem]:
    """Every problem of a definition, in the order of its lines; none: it is sound."""
    problems = Problems()
    _load(os.fspath(path), registry, None, overrides, problems, None)
    return problems.in_order()


def load_tree(root: Map, registry: Registry, problems: Problems) -> MachineDefinition:
    """A definition from a tree that was made of something else than YAML (QEMU's command line).

    :param problems: gets what is wrong; the definition is then not complete
    """
    return Reader(registry, problems).machine(root, None)


def _load(
    path: str, registry: Registry, text: str | None, overrides: Sequence[Override], problems: Problems, parse: Parse | None
) -> MachineDefinition:
    root = apply_overrides(read_tree(path, problems, text, parse=parse), overrides, problems)
    return Reader(registry, problems).machine(root, None if text is not None else os.path.abspath(path))


class Reader:
    """Nodes to typed entries; what does not fit is a problem and left out."""

    def __init__(self, registry: Registry, problems: Problems) -> None:
        self.registry = registry
        self.problems = problems

    def machine(self, root: Map, path: str | None) -> MachineDefinition:
        """The whole definition."""
        self.check_keys(root, KEYS, "definition")
        machine = self.scalar(root, "machine", "") or Value("pc", root.position)
        board = self.lookup(q.UNKNOWN_MACHINE, machine.position, self.registry.board, machine.given)
        sections = {section: self.section(root, section) for section in NAMED_SECTIONS}
        definition = MachineDefinition(
            machine=machine.given,
            accel=self.accel(root),
            memory=self.memory(root, board),
            cpus=self.cpus(root, board),
            boot=self.boot(root),
            drives=sections["drives"],
            netdevs=sections["netdevs"],
            chardevs=sections["chardevs"],
            objects=sections["objects"],
            devices=tuple(self.devices(root)),
            globals=tuple(self.globals(root)),
            path=path,
        )
        if not root.entries.keys().isdisjoint(SETTINGS):
            from qdevpy.definition.settings import read_settings

            definition = read_settings(self, root, board, definition)
        check_entries(definition, board, self.registry, self.problems)
        return definition

    # -- pieces that appear everywhere

    def lookup(self, code: str, position: Position, find: Callable[..., T], *names: str) -> T | None:
        """What FIND returns; None, and a problem, where there is nothing of that name."""
        try:
            return find(*names)
        except UnknownNameError as error:
            self.problems.add(code, str(error), position)
            return None

    def check_keys(self, node: Map, known: Collection[str], what: str) -> None:
        """A problem for each key that is not KNOWN."""
        for name, (key, _) in node.entries.items():
            if name not in known:
                hint = did_you_mean(name, known) or f"; expected one of {', '.join(known)}"
                self.problems.add(q.UNKNOWN_KEY, f"{what}: unknown key '{name}'{hint}", key.position)

    def scalar(self, node: Map, name: str, prefix: str) -> Value | None:
        """The text at a key; None where there is none, or something else (a problem)."""
        found = node.get(name)
        if found is None:
            return None
        if isinstance(found, Text) and not found.is_null:
            return Value(found.text, found.position)
        self.problems.add(q.WRONG_TYPE, f"{prefix}{name}: expected a value, found {describe(found)}", found.position)
        return None

    def map_at(self, node: Map, name: str) -> Map:
        """The map at a key; an empty one where there is nothing, or something else (a problem)."""
        found = node.get(name)
        return Map({}, node.position) if found is None else self.as_map(found, name)

    def as_map(self, node: Node, what: str) -> Map:
        """NODE as a map; nothing counts as an empty one, anything else is a problem."""
        if isinstance(node, Map):
            return node
        if not (isinstance(node, Text) and node.is_null):
            self.problems.add(q.WRONG_TYPE, f"{what}: expected a map, found {describe(node)}", node.position)
        return Map({}, node.position)

    def check_name(self, name: str, what: str, position: Position) -> None:
        """A problem where NAME could not be an id."""
        try:
            NAME.parse(name)
        except ValueError as error:
            self.problems.add(q.BAD_VALUE, f"{what}: '{name}': {error}", position)

    # -- top-level keys

    def accel(self, root: Map) -> str:
        """``accel:``."""
        value = self.scalar(root, "accel", "")
        if value is None:
            return ACCELS[0]
        if value.given not in ACCELS:
            expected = f"accel: '{value.given}': expected one of {', '.join(ACCELS)}"
            self.problems.add(q.UNKNOWN_ACCEL, expected + did_you_mean(value.given, ACCELS), value.position)
        return value.given

    def memory(self, root: Map, board: type[Board] | None) -> int:
        """``memory:`` in bytes; 0 where it is not given."""
        value = self.scalar(root, "memory", "")
        if value is None:
            return 0
        try:
            memory: int = Size().parse(value.given)
        except ValueError as error:
            self.problems.add(q.WRONG_TYPE, f"memory: '{value.given}': {error}", value.position)
            return 0
        most = board.max_memory if board else 1 << 64
        if memory % PAGE or not MIN_MEMORY <= memory <= most:
            hint = f"; did you mean {value.given}M?" if value.given.isdecimal() and MIN_MEMORY <= memory << 20 <= most else ""
            expected = f"expected whole pages of 4K, from 1M to {Size().format(most)}"
            self.problems.add(q.OUT_OF_RANGE, f"memory: '{value.given}' ({memory} bytes): {expected}{hint}", value.position)
        return memory

    def cpus(self, root: Map, board: type[Board] | None) -> int:
        """``cpus:``; 1 where it is not given."""
        value = self.scalar(root, "cpus", "")
        if value is None:
            return 1
        most = board.max_cpus if board else 255
        try:
            count: int = Integer("uint16", -(1 << 63), 1 << 63).parse(value.given)
        except ValueError:
            self.problems.add(q.WRONG_TYPE, f"cpus: '{value.given}': expected a whole number from 1 to {most}", value.position)
            return 1
        if not 1 <= count <= most:
            self.problems.add(q.OUT_OF_RANGE, f"cpus: {count}: expected a whole number from 1 to {most}", value.position)
        return count

    def boot(self, root: Map) -> BootDefinition:
        """``boot:``."""
        node = self.map_at(root, "boot")
        self.check_keys(node, BOOT, "boot")
        boot = BootDefinition(
            kernel=self.file(node, "kernel"), initrd=self.file(node, "initrd"), cmdline=self.scalar(node, "cmdline", "boot: ")
        )
        if not node.entries.keys().isdisjoint(BOOT_SETTINGS):
            from qdevpy.definition.settings import read_boot_settings

            boot = read_boot_settings(self, node, boot)
        return boot

    def file(self, node: Map, name: str) -> Value | None:
        """A file that must be there, its path resolved."""
        value = self.scalar(node, name, "boot: ")
        if value is None or not value.given:
            return None
        value = value._replace(given=resolve_path(value.given, value.position))
        check_file_exists(value, f"boot: {name}", self.problems)
        return value

    # -- back ends

    def section(self, root: Map, section: str) -> dict[str, BackendDefinition]:
        """``drives:``, ``netdevs:``, ``chardevs:`` or ``objects:``."""
        found = {}
        for name, (key, node) in self.map_at(root, section).entries.items():
            self.check_name(name, section, key.position)
            what = f"{section}: {name}"
            if not isinstance(node, Map):
                self.problems.add(q.WRONG_TYPE, f"{what}: expected a map of options, found {describe(node)}", node.position)
                continue
            backend = self.backend(section, name, key.position, node)
            if backend is not None:
                found[name] = backend
        return found

    def backend(self, section: str, name: str, position: Position, node: Map) -> BackendDefinition | None:
        """One entry; None where its type is not known."""
        what = f"{section}: {name}"
        options = node
        type_name = Value("drive", position)
        if section != "drives":
            given = self.scalar(node, "type", f"{what}: ")
            if given is None:
                if "type" not in node.entries:
                    expected = ", ".join(self.registry.backend_names(section))
                    self.problems.add(q.MISSING_KEY, f"{what}: key 'type' is missing; expected one of {expected}", position)
                return BackendDefinition(name, "", {}, position)
            type_name = given
            options = Map({key: pair for key, pair in node.entries.items() if key != "type"}, node.position)
        cls = self.lookup(q.UNKNOWN_BACKEND, type_name.position, self.registry.backend_type, section, type_name.given)
        if cls is None:
            return BackendDefinition(name, type_name.given, {}, position)
        properties = properties_of(cls)
        listing = f"there are: {', '.join(sorted(properties))}" if properties else "it has none"
        target = Target(what, properties, listing, known=() if section == "drives" else ("type",))
        checked = self.options(read_options(options, what, self.problems), target)
        for wanted in cls.required:
            alternatives = wanted.split("|")
            if not {*checked, *node.entries}.intersection(alternatives):
                keys = " or ".join(f"'{key}'" for key in alternatives)
                self.problems.add(q.MISSING_KEY, f"{what}: key {keys} is missing", position)
        return BackendDefinition(name, type_name.given, checked, position)

    def options(self, options: Sequence[Option], target: Target) -> dict[str, Value]:
        """Those options that are what TARGET takes."""
        checked = {option.name: check_option(option, target, self.problems) for option in options}
        return {name: value for name, value in checked.items() if value is not None}

    # -- devices

    def devices(self, root: Map) -> Iterator[DeviceDefinition]:
        """``devices:``, a list of ``TYPE: {PROPERTY: VALUE}``."""
        node = root.get("devices")
        if node is None or (isinstance(node, Text) and node.is_null):
            return
        if not isinstance(node, List):
            self.problems.add(q.WRONG_TYPE, f"devices: expected a list, found {describe(node)}", node.position)
            return
        for item in node.items:
            match item:
                case Text(is_null=False):
                    yield self.device(item, Map({}, item.position))
                case Map() if len(item.entries) == 1:
                    ((key, options),) = item.entries.values()
                    yield self.device(key, self.as_map(options, f"devices: {key.text}"))
                case Map() if item.entries:
                    first = next(iter(item.entries))
                    message = f"devices: one device an item, and here are {len(item.entries)} keys"
                    hint = f"; indent the properties deeper than '{first}:', or start another item with '-'"
                    self.problems.add(q.WRONG_TYPE, message + hint, item.position)
                case _:
                    message = f"devices: expected TYPE: {{PROPERTY: VALUE}}, found {describe(item)}"
                    self.problems.add(q.WRONG_TYPE, message, item.position)

    def device(self, key: Text, node: Map) -> DeviceDefinition:
        """One device; its properties are checked where the type is known."""
        kind = self.device_type(key)
        lists = [name for name, declared in kind.properties.items() if declared.kind.is_list] if kind is not None else []
        options = read_options(node, key.text, self.problems, lists)
        found = {option.name: option.value for option in options if option.name in ("id", "bus")}
        label = key.text
        if "id" in found:
            label = f"{found['id'].given} ({key.text})"
            self.check_name(found["id"].given, f"{key.text}: id", found["id"].position)
        if kind is not None:
            listing = f"'qdevpy device {key.text}' lists them"
            target = Target(label, kind.properties, listing, known=("id", "bus"), ioeventfd=kind.ioeventfd)
            found.update(self.options([option for option in options if option.name not in found], target))
        return DeviceDefinition(key.text, found, key.position)

    def device_type(self, key: Text) -> DeviceType | None:
        """The type that KEY names, where it is one that users can create."""
        kind = self.lookup(q.UNKNOWN_DEVICE, key.position, self.registry.device_type, key.text)
        if kind is not None and not kind.user_creatable:
            self.problems.add(
                q.UNKNOWN_DEVICE, f"device type '{key.text}' is part of the board and cannot be added", key.position
            )
            return None
        return kind

    # -- defaults

    def globals(self, root: Map) -> Iterator[GlobalDefinition]:
        """``global:``, a map of ``TYPE.PROPERTY: VALUE``; ``TYPE: {PROPERTY: VALUE}`` is the same."""
        for option in read_options(self.map_at(root, "global"), "global", self.problems):
            type_name, dot, name = option.name.partition(".")
            if not (type_name and dot and name):
                message = f"global: '{option.name}': expected TYPE.PROPERTY, as in virtio-blk-pci.ioeventfd"
                self.problems.add(q.UNKNOWN_KEY, message, option.key)
                continue
            target = self.global_target(type_name, option)
            if target is None:
                continue
            value = check_option(option._replace(name=name), target, self.problems)
            if value is not None:
                yield GlobalDefinition(type_name, name, value)

    def global_target(self, type_name: str, option: Option) -> Target | None:
        """What the default is for: a device type, or what some are derived from (``virtio-pci``)."""
        label, listing = f"global: {type_name}", f"'qdevpy device {type_name}' lists them"
        try:
            kind = self.registry.device_type(type_name)
            return Target(label, kind.properties, listing, ioeventfd=kind.ioeventfd)
        except UnknownNameError as error:
            base = self.registry.base_properties().get(type_name)
            if base is not None:
                return Target(label, base, f"there are: {', '.join(sorted(base))}")
            self.problems.add(q.UNKNOWN_DEVICE, f"global: {error}", option.key)
            return None
