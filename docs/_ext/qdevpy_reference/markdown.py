# SPDX-License-Identifier: Apache-2.0
"""Markdown out of help texts and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Sequence

_ROLE = re.compile(r":[a-z:]+:`[~.]?([^`<]+)(?: <[^`]*>)?`")


def text(plain: str) -> str:
    """Text that means itself in Markdown; what stands in backticks is code, as it is."""
    parts = re.split(r"(``.+?``|`.+?`)", _ROLE.sub(r"``\1``", plain))
    return "".join(part if number % 2 else re.sub(r"([\\*_<>\[\]$|])", r"\\\1", part) for number, part in enumerate(parts))


def code(plain: str | None) -> str:
    """Code in a cell of a table; nothing for nothing."""
    return "" if plain is None or plain == "" else f"`{plain}`".replace("|", r"\|")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table; a line above and below keep it apart."""
    yield ""
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace(chr(10), ' ') for cell in row)} |"
    yield ""


def summary(documented: object) -> str:
    """The first paragraph of a docstring, on one line."""
    return text(" ".join((inspect.getdoc(documented) or "").partition("\n\n")[0].split()))
