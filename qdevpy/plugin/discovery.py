# SPDX-License-Identifier: Apache-2.0
"""Which plugins are installed: the entry points of group ``qdevpy``.

``importlib.metadata`` costs 25 ms of CPU to import and 4 ms to ask, a fifth of what a boot may take in
all; this reads the same files (``*.dist-info/entry_points.txt`` on ``sys.path``) in 1 ms. Where the path
has something that is no directory (a zip archive), ``importlib.metadata`` is asked after all.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

GROUP = "qdevpy"
OWN_DISTRIBUTION = "qdevpy"


class EntryPoint(NamedTuple):
    """A plugin that some distribution declares.

    :ivar name: the plugin's name
    :ivar value: ``module`` or ``module:attribute``
    :ivar distribution: name of the distribution
    """

    name: str
    value: str
    distribution: str


def find_entry_points(path: Iterable[str] | None = None) -> list[EntryPoint]:
    """The installed plugins, qdevpy's own first, then by distribution and name; the order is fixed so that
    what a name means never depends on which plugins happen to be loaded.

    :param path: instead of ``sys.path``
    """
    folders = list(dict.fromkeys(os.path.abspath(folder) for folder in (sys.path if path is None else path)))
    found: dict[str, list[EntryPoint]] = {}
    for folder in folders:
        entries = _scan(folder) if os.path.isdir(folder) else _ask_importlib(folder) if os.path.exists(folder) else ()
        for distribution, points in entries:
            # the first of a name on the path wins, as it does for imports
            found.setdefault(_normalized(distribution), points)
    if path is None and OWN_DISTRIBUTION not in found:
        found[OWN_DISTRIBUTION] = _source_tree_entry_points()
    return [
        point
        for distribution in sorted(found, key=lambda name: (name != OWN_DISTRIBUTION, name))
        for point in sorted(found[distribution])
    ]


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _scan(folder: str) -> Iterator[tuple[str, list[EntryPoint]]]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        stem, extension = os.path.splitext(name)
        if extension not in (".dist-info", ".egg-info"):
            continue
        info = os.path.join(folder, name)
        try:
            with open(os.path.join(info, "entry_points.txt"), encoding="utf-8") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError):
            continue
        if f"[{GROUP}]" in text:
            distribution = _distribution_name(info) or stem.partition("-")[0]
            yield distribution, list(_parse(text, distribution))


def _distribution_name(info: str) -> str | None:
    """The name as its author spells it; the folder's is mangled."""
    for metadata in ("METADATA", "PKG-INFO"):
        try:
            with open(os.path.join(info, metadata), encoding="utf-8") as lines:
                for line in lines:
                    if line.startswith("Name:"):
                        return line[5:].strip()
        except (OSError, UnicodeDecodeError):
            continue
    return None


def _parse(text: str, distribution: str) -> Iterator[EntryPoint]:
    """Entries of our group in an entry_points.txt (packaging.python.org, entry points specification)."""
    group = None
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        if line[0] == "[" and line[-1] == "]":
            group = line[1:-1].strip()
        elif group == GROUP and "=" in line:
            name, _, value = line.partition("=")
            yield EntryPoint(name.strip(), value.partition("[")[0].strip(), distribution)


def _ask_importlib(folder: str) -> Iterator[tuple[str, list[EntryPoint]]]:
    from importlib import metadata

    for distribution in metadata.distributions(path=[folder]):
        points = [EntryPoint(p.name, p.value, distribution.name) for p in distribution.entry_points if p.group == GROUP]
        if points:
            yield distribution.name, points


def _source_tree_entry_points() -> list[EntryPoint]:
    """What pyproject.toml declares, for a source tree on ``sys.path`` that nobody installed."""
    project = os.path.join(os.path.dirname(__file__), "..", "..", "pyproject.toml")
    if not os.path.isfile(project):
        return []
    import tomllib

    with open(project, "rb") as file:
        entries = tomllib.load(file).get("project", {}).get("entry-points", {}).get(GROUP, {})
    return [EntryPoint(name, value, OWN_DISTRIBUTION) for name, value in entries.items()]
