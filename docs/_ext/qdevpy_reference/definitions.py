# SPDX-License-Identifier: Apache-2.0
"""What definitions may say: keys, back ends, devices; of what ``qdevpy check`` and the schema are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from qdevpy.definition import keys
from qdevpy.definition.keys import Key
from qdevpy.plugin.manager import load_plugins
from qdevpy.qdev.property import Property, properties_of
from qdevpy_reference.markdown import code, table, text

SECTIONS = ("drives", "netdevs", "chardevs", "objects")
#: the distribution whose devices are described; others may be installed where the site is built
OURS = "qdevpy"
#: maps of keys, by the key that they stand under; :mod:`qdevpy.definition.keys` calls them so
MAPS: Mapping[str, Mapping[str, Key]] = {
    name: found for name in keys.KEYS if isinstance(found := vars(keys).get(name.upper().replace("-", "_")), dict)
}


def key_lines() -> Iterator[str]:
    """The keys of the file, then those of each map."""
    yield from _key_table(keys.KEYS)
    for name, found in MAPS.items():
        yield f"## {name}"
        yield ""
        yield f"{text(keys.KEYS[name].help)}."
        yield from _key_table(found)


def _key_table(found: Mapping[str, Key]) -> Iterator[str]:
    rows = [
        (
            code(name),
            text(key.help),
            text(key.kind.accepts) if key.kind else "",
            "required" if key.required else code(key.default),
        )
        for name, key in found.items()
    ]
    yield from table(("key", "", "value", "default"), rows)


def backend_lines() -> Iterator[str]:
    """A section of the page for each section of a definition, a table for each type."""
    registry = load_plugins()
    for section in SECTIONS:
        yield f"## {section}"
        yield ""
        for name, cls in registry.backends(section).items():
            if section != "drives":
                yield f"### {section}: {name}"
                yield ""
            yield f"{text(cls.description)}."
            if cls.required:
                yield ""
                yield f"Required: {', '.join(' or '.join(code(way) for way in names.split('|')) for names in cls.required)}."
            yield from _property_table(properties_of(cls))


def device_lines() -> Iterator[str]:
    """A section for each type that a definition may name."""
    for name, kind in sorted(load_plugins().device_types.items()):
        if not kind.user_creatable or kind.provider != OURS:
            continue
        yield f"## {name}"
        yield ""
        policy = f"; ioeventfd {kind.ioeventfd.value}" if kind.ioeventfd else ""
        alias = f"; also called {code(kind.alias)}" if kind.alias else ""
        yield f"{text(kind.description)}. Bus: {code(kind.bus) or 'none'}{policy}{alias}."
        yield from _property_table(kind.properties)


def _property_table(properties: Mapping[str, Property]) -> Iterator[str]:
    rows = [
        (code(name), code(found.kind.type_name), code(found.default_text()), f"{text(found.help)} ({text(found.kind.accepts)})")
        for name, found in sorted(properties.items())
    ]
    if rows:
        yield from table(("property", "type", "default", ""), rows)
    else:
        yield ""
