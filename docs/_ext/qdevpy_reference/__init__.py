# SPDX-License-Identifier: Apache-2.0
"""Reference pages that are made of the program: a line ``% made of: NAME`` in a page becomes what :data:`MAKERS` makes.

Made while the site is built, so that nobody has to remember to make it again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from sphinx.application import Sphinx

from qdevpy_reference.commands import command_lines
from qdevpy_reference.definitions import backend_lines, device_lines, key_lines
from qdevpy_reference.monitors import event_lines, hmp_lines, qmp_lines
from qdevpy_reference.references import resolve

MAKERS: dict[str, Callable[[], Iterator[str]]] = {
    "commands": command_lines,
    "keys": key_lines,
    "backends": backend_lines,
    "devices": device_lines,
    "qmp": qmp_lines,
    "events": event_lines,
    "hmp": hmp_lines,
}
_PLACE = re.compile(r"^% made of: (\w+)$", re.MULTILINE)

_FIELD = re.compile(r"^:(?:[ic]var|param) \w+(?:, \w+)+:")


def fill(app: Sphinx, page: str, source: list[str]) -> None:
    """Put what is made in its place; SOURCE is Sphinx's list of one text, to be changed."""
    source[0] = _PLACE.sub(lambda found: "\n".join(MAKERS[found[1]]()), source[0])


def join_names(app: Sphinx, what: str, name: str, documented: Any, options: Any, lines: list[str]) -> None:
    """``:ivar a, b:`` is two attributes to us, and to Sphinx ``b`` of a type called ``a,``: leave no space in between."""
    for number, line in enumerate(lines):
        lines[number] = _FIELD.sub(lambda found: found[0].replace(", ", ","), line)


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx's entry point."""
    app.connect("source-read", fill)
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-docstring", join_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
