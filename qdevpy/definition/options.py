# SPDX-License-Identifier: Apache-2.0
"""Options of devices and back ends against the properties that their types declare."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from qdevpy.definition import problems as q
from qdevpy.definition.model import Position, Value
from qdevpy.definition.nodes import List, Map, Node, Text, describe
from qdevpy.definition.problems import Problems
from qdevpy.definition.source import resolve_path
from qdevpy.errors import did_you_mean
from qdevpy.qdev.device import Notification
from qdevpy.qdev.kinds import Path
from qdevpy.qdev.property import Property


class Option(NamedTuple):
    """An option as written.

    :ivar name: nested ones joined by dots
    :ivar key: where the name stands
    """

    name: str
    key: Position
    value: Value


class Target(NamedTuple):
    """What options are for.

    :ivar label: for messages: the id and type
    :ivar listing: the end of a message about an unknown property that is like no other
    :ivar known: other names that are taken there (``id``), for suggestions
    :ivar ioeventfd: the notification policy, which decides what a missing ``ioeventfd`` property means
    """

    label: str
    properties: Mapping[str, Property]
    listing: str
    known: tuple[str, ...] = ()
    ioeventfd: Notification | None = None


def read_options(options: Map, what: str, problems: Problems, lists: Collection[str] = ()) -> list[Option]:
    """The options of a map, flat; what is neither text nor a map, or stands there twice, is a problem and left out.

    :param lists: names of options that may be lists; their value is JSON
    """
    found: dict[str, Option] = {}
    for option in _flatten(options, what, problems, "", lists):
        before = found.setdefault(option.name, option)
        if before is not option:
            message = f"{what}: '{option.name}' again; it stands in line {before.key.line} already"
            problems.add(q.DUPLICATE_KEY, message, option.key)
    return list(found.values())


def _flatten(options: Map, what: str, problems: Problems, prefix: str, lists: Collection[str]) -> Iterator[Option]:
    for name, (key, node) in options.entries.items():
        match node:
            case Map() if node.entries:
                yield from _flatten(node, what, problems, f"{prefix}{name}.", lists)
            case List() if f"{prefix}{name}" in lists:
                import json

                yield Option(f"{prefix}{name}", key.position, Value(json.dumps(_plain(node)), node.position))
            case Text(is_null=False):
                yield Option(f"{prefix}{name}", key.position, Value(node.text, node.position))
            case _:
                found = "an empty map" if isinstance(node, Map) else describe(node)
                problems.add(q.WRONG_TYPE, f"{what}: '{prefix}{name}': expected a value, found {found}", node.position)


def _plain(node: Node) -> Any:
    """A node as JSON has it; digits are a number."""
    match node:
        case Map():
            return {name: _plain(value) for name, (_, value) in node.entries.items()}
        case List():
            return [_plain(item) for item in node.items]
        case _:
            return int(node.text) if node.text.isascii() and node.text.isdigit() else node.text


def check_option(option: Option, target: Target, problems: Problems) -> Value | None:
    """The option's value, a path resolved; None, and a problem, where it does not fit."""
    declared = target.properties.get(option.name)
    if declared is None:
        _report_unknown(option, target, problems)
        return None
    value = option.value
    try:
        declared.kind.parse(value.given)
    except ValueError as error:
        problems.add(q.BAD_VALUE, f"{target.label}: property '{option.name}': '{value.given}': {error}", value.position)
        return None
    if isinstance(declared.kind, Path) and value.given and value.given not in declared.kind.words:
        value = value._replace(given=resolve_path(value.given, value.position))
        if declared.kind.must_exist:
            check_file_exists(value, f"{target.label}: {option.name}", problems)
    return value


def _report_unknown(option: Option, target: Target, problems: Problems) -> None:
    if option.name == "ioeventfd" and target.ioeventfd is Notification.FORBIDDEN:
        problems.add(
            q.FORBIDDEN,
            f"{target.label}: property 'ioeventfd' is forbidden: drivers of this device spin until a message is answered, "
            "so a kick is served before the guest's next instruction, never later by an eventfd; remove the property",
            option.key,
        )
        return
    hint = did_you_mean(option.name, [*target.properties, *target.known]) or f"; {target.listing}"
    problems.add(q.UNKNOWN_PROPERTY, f"{target.label}: property '{option.name}' not found{hint}", option.key)


def check_file_exists(value: Value, what: str, problems: Problems) -> None:
    """A problem where the file cannot be read."""
    path = value.given
    try:
        os.stat(path)
        reason = "is a directory" if os.path.isdir(path) else None if os.access(path, os.R_OK) else "Permission denied"
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
    if reason is not None:
        problems.add(q.MISSING_FILE, f"{what}: '{path}': {reason}", value.position)
