# SPDX-License-Identifier: Apache-2.0
"""YAML text to nodes: text, maps and lists that know where they stand.

ruamel.yaml's event stream is used as it is: scalars stay the text that was written, so ``off`` is no
boolean, ``52:54:00:12:34:56`` no base-60 number and ``4.1`` no float before the property's kind has seen
them. Building from events also takes two thirds of the time that composing takes (4 ms for a page).
"""

from __future__ import annotations

from typing import Any

from ruamel.yaml import YAML, events
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.reader import ReaderError

from qdevpy.definition import problems as q
from qdevpy.definition.model import Position
from qdevpy.definition.nodes import List, Map, Node, Text, describe
from qdevpy.definition.problems import Problems

#: nesting that no definition needs; keeps a hostile file from exhausting the stack of those who walk it
MAX_DEPTH = 16


_CORE_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "map", "seq", "int", "bool", "float", "null")}


def parse_yaml(text: str, file: str, problems: Problems) -> Node | None:
    """The document's root; None where there is none, or where the text is not YAML (a problem is added).

    :param file: for positions
    """
    builder = _Builder(file, problems)
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            builder.feed(event)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = Position(file, mark.line + 1, mark.column + 1) if mark else Position(file, 1, 1)
        problems.add(q.SYNTAX, "; ".join(filter(None, (error.context, error.problem))) or "not YAML", where)
        return None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        problems.add(q.SYNTAX, f"character {error.character!r} is not allowed in YAML", Position(file, line, column))
        return None
    except _StopParsingError:
        return None
    except Exception as error:  # the parser trips over some malformed input (escapes, directives) in its own way
        problems.add(q.SYNTAX, f"not YAML ({type(error).__name__}: {error})", builder.last)
        return None
    return builder.root


class _StopParsingError(Exception):
    """A problem was added that makes the rest meaningless."""


class _Builder:
    """Events to nodes, with a stack of its own: depth is bounded by MAX_DEPTH, not by Python's."""

    def __init__(self, file: str, problems: Problems) -> None:
        self.file = file
        self.problems = problems
        self.root: Node | None = None
        self.last = Position(file, 1, 1)
        self._documents = 0
        self._stack: list[Map | List] = []
        self._keys: list[Text | None] = []  # for each open collection: the key that waits for its value
        self._anchors: dict[str, Node] = {}
        self._open_anchors: list[str | None] = []

    def feed(self, event: Any) -> None:
        mark = event.start_mark
        if mark is not None:
            self.last = Position(self.file, mark.line + 1, mark.column + 1)
        match event:
            case events.ScalarEvent():
                self._check_tag(event)
                plain = event.style is None
                self._finished(Text(event.value, self.last, plain and event.value in ("", "~")), event.anchor)
            case events.MappingStartEvent():
                self._opened(Map({}, self.last), event)
            case events.SequenceStartEvent():
                self._opened(List([], self.last), event)
            case events.MappingEndEvent() | events.SequenceEndEvent():
                self._keys.pop()
                self._finished(self._stack.pop(), self._open_anchors.pop())
            case events.AliasEvent():
                self._alias(event.anchor)
            case events.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    self._stop("a second document starts here; a definition is one document")

    def _stop(self, message: str) -> None:
        self.problems.add(q.SYNTAX, message, self.last)
        raise _StopParsingError

    def _check_tag(self, event: Any) -> None:
        if event.tag is not None and str(event.tag) not in _CORE_TAGS | {"!"}:
            self.problems.add(q.SYNTAX, f"tag '{event.tag}': definitions have no tags", self.last)

    def _opened(self, node: Map | List, event: Any) -> None:
        self._check_tag(event)
        if len(self._stack) >= MAX_DEPTH:
            self._stop(f"nested deeper than {MAX_DEPTH} levels")
        self._stack.append(node)
        self._keys.append(None)
        self._open_anchors.append(event.anchor)

    def _alias(self, name: str) -> None:
        node = self._anchors.get(name)
        if node is None:
            self._stop(f"'*{name}': no complete value before it has the anchor '&{name}'")
        else:
            self._finished(node, None)

    def _finished(self, node: Node, anchor: str | None) -> None:
        """A node is complete: it goes into the collection that is open."""
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._stack:
            self.root = node
            return
        parent = self._stack[-1]
        if isinstance(parent, List):
            parent.items.append(node)
            return
        key = self._keys[-1]
        if key is None:
            self._keys[-1] = self._key(node)
            return
        self._keys[-1] = None
        before = parent.entries.get(key.text)
        if before is not None:
            self.problems.add(
                q.DUPLICATE_KEY, f"key '{key.text}' again; it stands in line {before[0].position.line} already", key.position
            )
        elif key.text:
            parent.entries[key.text] = (key, node)

    def _key(self, node: Node) -> Text:
        if isinstance(node, Text) and node.text:
            return node
        self.problems.add(q.WRONG_TYPE, f"{describe(node)} as a key; expected a name", node.position)
        return Text("", node.position)
