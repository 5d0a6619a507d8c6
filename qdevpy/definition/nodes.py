# SPDX-License-Identifier: Apache-2.0
"""What YAML text is made of: text, maps and lists that know where they stand."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

from qdevpy.definition.model import Position


class Text(NamedTuple):
    """A scalar.

    :ivar is_null: nothing was written, or ``~``; ``null`` is a word, the type of a back end
    """

    text: str
    position: Position
    is_null: bool = False


class Map(NamedTuple):
    """A mapping, in the order written."""

    entries: dict[str, tuple[Text, Any]]
    position: Position

    def get(self, key: str) -> Node | None:
        """The value of a key, or None."""
        found: Node | None = self.entries.get(key, (None, None))[1]
        return found


class List(NamedTuple):
    """A sequence."""

    items: list[Any]
    position: Position


Node: TypeAlias = Text | Map | List


def describe(node: Node) -> str:
    """What a node is, for messages."""
    match node:
        case Map():
            return "a map"
        case List():
            return "a list"
        case _:
            return "nothing" if node.is_null else f"'{node.text}'"
