# SPDX-License-Identifier: Apache-2.0
"""Parsed definitions, kept between runs.

Importing ruamel.yaml and parsing a page takes 16 ms of CPU, a ninth of what a boot may take until the guest's
first instruction; reading the nodes back takes half a millisecond. There is one small file for each definition
that was booted, in ``$XDG_CACHE_HOME/qdevpy`` (``~/.cache/qdevpy``). It holds the whole text and counts only for that
very text, so it can be stale no more than it can be wrong. Without a place to write, nothing is kept.
"""

from __future__ import annotations

import marshal
import os
import sys
import zlib
from contextlib import suppress
from typing import Any

from qdevpy.definition.model import Position
from qdevpy.definition.nodes import List, Map, Node, Text
from qdevpy.definition.problems import Problems

#: to be changed with :func:`_pack`
FORMAT = 1


def parse_cached(text: str, file: str, problems: Problems) -> Node | None:
    """As :func:`.syntax.parse_yaml`, which is imported only where the text is not the one that was parsed last."""
    where = _place(file)
    known = _read(where, text, file)
    if known is not None:
        return known
    from qdevpy.definition.syntax import parse_yaml

    before = len(problems)
    root = parse_yaml(text, file, problems)
    if root is not None and len(problems) == before:
        with suppress(_SharedError):
            _write(where, marshal.dumps((FORMAT, text, _pack(root, set()))))
    return root


def _place(file: str) -> str:
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    number = zlib.crc32(os.fsencode(os.path.realpath(file)))
    # the format of marshal depends on the interpreter's version
    return os.path.join(folder, "qdevpy", f"{number:08x}.{sys.implementation.cache_tag}")


def _read(where: str, text: str, file: str) -> Node | None:
    try:
        with open(where, "rb") as kept:
            status = os.fstat(kept.fileno())
            # marshal trusts its input, so nobody else may have written it
            if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                return None
            version, known, packed = marshal.loads(kept.read())
    except (OSError, ValueError, EOFError, TypeError):
        return None
    return _unpack(packed, file) if version == FORMAT and known == text else None


def _write(where: str, data: bytes) -> None:
    """All of it or nothing; a cache that cannot be written is none."""
    draft = f"{where}.{os.getpid()}"
    with suppress(OSError):
        os.makedirs(os.path.dirname(where), mode=0o700, exist_ok=True)
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as out:
                out.write(data)
            os.replace(draft, where)
        except OSError:
            os.unlink(draft)
            raise


class _SharedError(Exception):
    """An alias: written out in full, a few of them can grow without bound."""


def _pack(node: Node, seen: set[int]) -> tuple[Any, ...]:
    """Plain tuples: line and column, then for a text itself, for the others their parts."""
    at = (node.position.line, node.position.column)
    if not isinstance(node, Text):
        if id(node) in seen:
            raise _SharedError
        seen.add(id(node))
    match node:
        case Text():
            return (*at, node.text, node.is_null)
        case Map():
            return (
                *at,
                [
                    (key.position.line, key.position.column, name, _pack(value, seen))
                    for name, (key, value) in node.entries.items()
                ],
            )
        case List():
            return (*at, tuple(_pack(item, seen) for item in node.items))


def _unpack(packed: tuple[Any, ...], file: str) -> Node:
    position = Position(file, packed[0], packed[1])
    parts = packed[2]
    if isinstance(parts, str):
        return Text(parts, position, packed[3])
    if isinstance(parts, tuple):
        return List([_unpack(item, file) for item in parts], position)
    entries: dict[str, tuple[Text, Any]] = {}
    for line, column, name, value in parts:
        entries[name] = (Text(name, Position(file, line, column)), _unpack(value, file))
    return Map(entries, position)
