# SPDX-License-Identifier: Apache-2.0
"""JSON schemas (draft 2020-12) of single values in a definition: what kinds build theirs of.

To us a value is the text that stands there; an editor's schema sees what YAML 1.2's core schema makes of a
plain scalar: ``4096`` is a number, ``true`` a boolean, ``null`` nothing. So a schema has a branch for each of them
that the text may become. ``on`` and ``off`` stay text there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, TypeAlias

Schema: TypeAlias = dict[str, Any]

#: any one value
SCALAR: Schema = {"type": ["string", "number", "boolean", "null"]}
#: whole numbers as text, as :meth:`.kinds.Integer.parse` reads them
DIGITS: Schema = {
    "type": "string",
    "pattern": r"^\s*[+-]?(?:0[xX][0-9a-fA-F]+|0[oO]?[0-7]+|0|[1-9][0-9]*)\s*$",
}

_PLAIN = {"null": None, "true": True, "false": False}


def any_of(*branches: Schema) -> Schema:
    """What one of BRANCHES takes."""
    return branches[0] if len(branches) == 1 else {"anyOf": list(branches)}


def words(accepted: Iterable[str]) -> Schema:
    """These texts, and what they become where they are written without quotes."""
    found: list[Any] = list(accepted)
    found += [_PLAIN[word] for word in found if word in _PLAIN]
    return {"enum": found + _numbers(found)}


def _numbers(texts: list[Any]) -> list[int]:
    return [int(text) for text in texts if isinstance(text, str) and re.fullmatch("0|-?[1-9][0-9]*", text)]


def folded(offered: Iterable[str], others: Iterable[str] = ()) -> Schema:
    """Words in upper or lower case.

    :param offered: those that editors offer
    :param others: those that they only take
    """
    shown: list[Any] = list(offered)
    accepted = [*shown, *others]
    pattern = "|".join("".join(f"[{c}{c.upper()}]" if c.isalpha() else re.escape(c) for c in word) for word in accepted)
    booleans = [value for word, value in _PLAIN.items() if value is not None and word in accepted]
    plain: list[Schema] = [{"type": "boolean"}] if len(booleans) == 2 else [{"const": value} for value in booleans]
    return any_of({"enum": shown + _numbers(shown)}, *plain, {"type": "string", "pattern": f"^(?:{pattern})$"})


def matching(pattern: str) -> Schema:
    """Texts that match PATTERN as a whole."""
    plain: list[Schema] = [{"const": value} for word, value in _PLAIN.items() if re.fullmatch(pattern, word)]
    return any_of({"type": "string", "pattern": f"^(?:{pattern})$"}, *plain)
