# SPDX-License-Identifier: Apache-2.0
"""From files and command-line options to one tree of nodes: ``include:``, then ``--set`` on top.

A node's position says which file it stands in, and so what a relative path in it is relative to.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

from qdevpy.definition import problems as q
from qdevpy.definition.model import Position
from qdevpy.definition.nodes import List, Map, Node, Text, describe
from qdevpy.definition.problems import Problems
from qdevpy.errors import did_you_mean

#: longest file that is taken for a definition, in bytes
MAX_FILE = 1 << 20

#: sections whose entries have names, ``SECTION.NAME.OPTION`` for ``--set``
NAMED_SECTIONS = ("drives", "netdevs", "chardevs", "objects")
SCALAR_KEYS = ("machine", "accel", "memory", "cpus", "cpu", "name", "uuid")
#: keys of maps, ``KEY.OPTION`` for ``--set``
MAP_KEYS = ("boot", "run", "rtc", "topology", "machine-options", "qtest", "faults")


#: text, file name for positions, problems -> the root node
Parse: TypeAlias = Callable[[str, str, Problems], Node | None]


class Override(NamedTuple):
    """A value from the command line.

    :ivar option: as the user wrote it, for messages
    :ivar path: ``memory``, ``boot.cmdline``, ``devices.ID.PROPERTY``, ``drives.NAME.OPTION``, ``global.TYPE.PROPERTY``
    :ivar value: None where the ``=`` was left out
    :ivar append: put the text behind what is there, with a space
    """

    option: str
    path: str
    value: str | None
    append: bool = False

    @classmethod
    def parse(cls, text: str) -> Override:
        """For ``--set PATH=VALUE``."""
        path, equals, value = text.partition("=")
        return cls(f"--set {text}", path.strip(), value if equals else None)

    @property
    def position(self) -> Position:
        """For problems: the option itself."""
        return Position(self.option)


def resolve_path(text: str, position: Position) -> str:
    """A path as the process can open it: relative ones belong to the file they are written in."""
    folder = os.path.dirname(position.file) if position.line else ""
    return os.path.normpath(os.path.join(folder, text))


def read_text(path: str, position: Position, problems: Problems) -> str | None:
    """A definition's text; None, and a problem at POSITION, where it cannot be read."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        problems.add(q.MISSING_FILE, f"'{path}': {reason}", position)
        return None
    if len(data) > MAX_FILE:
        problems.add(q.MISSING_FILE, f"'{path}': more than {MAX_FILE >> 20} MiB; this is no machine definition", position)
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        problems.add(q.SYNTAX, "not UTF-8 text", Position(path, line, column))
        return None


def read_tree(path: str, problems: Problems, text: str | None = None, *, parse: Parse | None = None) -> Map:
    """The file's tree, with what it includes merged in.

    :param text: the content, where it does not come from the file
    :param parse: instead of :func:`.syntax.parse_yaml`
    """
    if text is None:
        text = read_text(path, Position(path), problems)
    if parse is None:
        from qdevpy.definition.syntax import parse_yaml

        parse = parse_yaml
    return _tree(path, text, (os.path.realpath(path),), problems, parse)


def _tree(path: str, text: str | None, chain: tuple[str, ...], problems: Problems, parse: Parse) -> Map:
    root = parse(text, path, problems) if text is not None else None
    empty = Map({}, Position(path, 1, 1))
    if root is None or (isinstance(root, Text) and root.is_null):
        return empty
    if not isinstance(root, Map):
        problems.add(q.WRONG_TYPE, f"expected a map with keys such as machine and devices, found {describe(root)}", root.position)
        return empty
    merged = empty
    for entry in _include_entries(root, problems):
        merged = merge(merged, _included(entry, chain, problems, parse))
    without = {name: pair for name, pair in root.entries.items() if name != "include"}
    return merge(merged, Map(without, root.position))


def _include_entries(root: Map, problems: Problems) -> Iterable[Text]:
    node = root.get("include")
    if node is None:
        return
    for item in node.items if isinstance(node, List) else [node]:
        if isinstance(item, Text) and not item.is_null:
            yield item
        else:
            problems.add(q.WRONG_TYPE, f"include: expected a file or a list of files, found {describe(item)}", item.position)


def _included(entry: Text, chain: tuple[str, ...], problems: Problems, parse: Parse) -> Map:
    path = resolve_path(entry.text, entry.position)
    real = os.path.realpath(path) if "\0" not in path else path
    if real in chain:
        way = " -> ".join(os.path.basename(link) for link in (*chain[chain.index(real) :], real))
        problems.add(q.INCLUDE_CYCLE, f"include goes round in a circle: {way}", entry.position)
        return Map({}, entry.position)
    return _tree(path, read_text(path, entry.position, problems), (*chain, real), problems, parse)


def merge(below: Map, above: Map, top: bool = True) -> Map:
    """Both maps in one: ABOVE wins, maps in maps are merged, and the lists of ``devices:`` are joined."""
    entries = dict(below.entries)
    for name, (key, value) in above.entries.items():
        before = below.get(name)
        if isinstance(before, Map) and isinstance(value, Map):
            value = merge(before, value, top=False)
        elif top and name == "devices" and isinstance(before, List) and isinstance(value, List):
            value = List([*before.items, *value.items], value.position)
        entries[name] = (key, value)
    return Map(entries, above.position)


# -- command line on top of it


def apply_overrides(root: Map, overrides: Sequence[Override], problems: Problems) -> Map:
    """The tree with the command line's values in it; the file's own nodes are left as they are."""
    for override in overrides:
        if override.value is None:
            problems.add(q.BAD_SET, "expected PATH=VALUE, as in memory=512M", override.position)
            continue
        way = _locate(root, override, problems)
        if way is not None:
            root = _store_in_map(root, way, override)
    return root


def _locate(root: Map, override: Override, problems: Problems) -> tuple[str | int, ...] | None:
    """The way from the root to the value: keys, and an index in ``devices:``. The last key may be new."""
    head, _, rest = override.path.partition(".")
    if head in SCALAR_KEYS and not rest:
        return (head,)
    if head in MAP_KEYS and rest and "." not in rest:
        return (head, rest)
    if head == "global" and "." in rest:
        return ("global", rest)
    if head in NAMED_SECTIONS:
        name, dot, option = _split_name(rest, root.get(head))
        if dot and name and option:
            return (head, name, option)
    if head == "devices":
        return _locate_device(root, rest, override, problems)
    heads = (*SCALAR_KEYS, *MAP_KEYS, "global", *NAMED_SECTIONS, "devices")
    hint = did_you_mean(head, heads) if head not in heads else ""
    expected = "memory, cpus, machine, accel, cpu, name, uuid, boot.KEY (run, rtc, topology, machine-options, faults alike), "
    expected += "drives.NAME.OPTION (netdevs, chardevs, objects alike), "
    expected += "devices.ID.PROPERTY, global.TYPE.PROPERTY"
    problems.add(
        q.BAD_SET, f"'{override.path}' names nothing that can be set{hint or f'; expected one of {expected}'}", override.position
    )
    return None


def _split_name(path: str, section: Node | None) -> tuple[str, str, str]:
    """NAME, dot, OPTION; a name that exists may have dots in it."""
    names = section.entries if isinstance(section, Map) else {}
    for name in sorted(names, key=len, reverse=True):
        if path.startswith(f"{name}."):
            return name, ".", path[len(name) + 1 :]
    name, dot, option = path.partition(".")
    return name, dot, option


def _locate_device(root: Map, rest: str, override: Override, problems: Problems) -> tuple[str | int, ...] | None:
    devices = root.get("devices")
    ids: dict[str, tuple[int, str]] = {}
    for index, item in enumerate(devices.items if isinstance(devices, List) else ()):
        if isinstance(item, Map) and len(item.entries) == 1:
            ((type_name, (_, options)),) = item.entries.items()
            identity = options.get("id") if isinstance(options, Map) else None
            if isinstance(identity, Text):
                ids[identity.text] = (index, type_name)
    for name in sorted(ids, key=len, reverse=True):
        if rest.startswith(f"{name}.") and len(rest) > len(name) + 1:
            return ("devices", *ids[name], rest[len(name) + 1 :])
    wanted = rest.partition(".")[0]
    if wanted in ids:
        message = f"'{override.path}': which property? Expected devices.{wanted}.PROPERTY=VALUE"
    else:
        known = f"; ids are: {', '.join(ids)}" if ids else "; no device in the definition has an id"
        message = f"'{override.path}': no device has the id '{wanted}'{did_you_mean(wanted, ids) or known}"
    problems.add(q.BAD_SET, message, override.position)
    return None


def _store(node: Node | None, way: tuple[str | int, ...], override: Override) -> Node:
    """A copy of NODE with the value at the end of the WAY replaced."""
    if not way:
        return _value(node, override)
    if isinstance(node, List) and isinstance(way[0], int):
        items = list(node.items)
        items[way[0]] = _store(items[way[0]], way[1:], override)
        return List(items, node.position)
    return _store_in_map(node if isinstance(node, Map) else Map({}, override.position), way, override)


def _store_in_map(node: Map, way: tuple[str | int, ...], override: Override) -> Map:
    name = str(way[0])
    key, before = node.entries.get(name, (Text(name, override.position), None))
    if len(way) == 1:
        key = key._replace(position=override.position)
    entries = _without(node.entries, name)
    entries[name] = (key, _store(before, way[1:], override))
    return Map(entries, node.position)


def _without(entries: dict[str, tuple[Text, Node]], option: str) -> dict[str, tuple[Text, Node]]:
    """Entries without a dotted option that is written nested (``cache: {direct: on}``)."""
    head, dot, rest = option.partition(".")
    key, inner = entries.get(head, (None, None))
    if not dot or key is None or not isinstance(inner, Map):
        return dict(entries)
    left = _without({n: p for n, p in inner.entries.items() if n != rest}, rest)
    return {n: p for n, p in entries.items() if n != head} | ({head: (key, Map(left, inner.position))} if left else {})


def _value(before: Node | None, override: Override) -> Text:
    text = override.value or ""
    if override.append and isinstance(before, Text) and not before.is_null:
        text = f"{before.text} {text}"
    return Text(text, override.position)
