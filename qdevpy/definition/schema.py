# SPDX-License-Identifier: Apache-2.0
"""A JSON schema (draft 2020-12) of machine definitions, for editors that complete and check while somebody types.

Made of what :mod:`.load` checks with: the keys of :mod:`.keys`, and the properties that device types, back ends and boards
declare, those of third parties among them. It speaks of one file and of nothing outside it: whether a name is an
entry of another section, a file is there or a slot is free only ``qdevpy check`` knows.

A file with ``include:`` need not be whole, so what must be there is only asked of files without.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qdevpy.definition import keys
from qdevpy.definition.keys import KEYS, Key
from qdevpy.definition.source import NAMED_SECTIONS
from qdevpy.errors import PluginError
from qdevpy.qdev.kinds import Size
from qdevpy.qdev.property import Property, properties_of
from qdevpy.qdev.value_schema import SCALAR, Schema, any_of, words

if TYPE_CHECKING:
    from collections.abc import Callable

    from qdevpy.plugin.registry import Registry
    from qdevpy.qdev.kinds import Kind
    from qdevpy.qdev.types import DeviceType
    from qdevpy.vm.board import Board

DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: a value, or a list of them
_VALUES: Schema = {"anyOf": [SCALAR, {"type": "array", "items": SCALAR}]}


def machine_schema(registry: Registry, warn: Callable[[str], None] | None = None) -> Schema:
    """The schema of definitions that may name all that REGISTRY has.

    :param warn: told of a plugin's class that cannot be described, and so is left out
    """
    return _SchemaWriter(registry, warn or (lambda message: None)).document()


def nested(options: Mapping[str, Schema]) -> Schema:
    """A map of OPTIONS, where ``a.b: 1`` may be written ``a: {b: 1}``."""
    return {"type": "object", "properties": _with_maps(options), "additionalProperties": False}


def _with_maps(options: Mapping[str, Schema]) -> dict[str, Schema]:
    found = dict(options)
    inner: dict[str, dict[str, Schema]] = {}
    for name, schema in options.items():
        for dot in re.finditer(r"\.", name):
            inner.setdefault(name[: dot.start()], {})[name[dot.end() :]] = schema
    for name, parts in inner.items():
        section = {**nested(parts), "minProperties": 1}
        found[name] = any_of(found[name], section) if name in found else section
    return found


def _alternatives(required: Iterable[str]) -> Iterator[Schema]:
    """That options are there; ``a|b``: one of them, ``a.b``: in a map, too."""
    for names in required:
        ways: list[Schema] = []
        for name in names.split("|"):
            ways.append({"required": [name]})
            head, dot, rest = name.partition(".")
            if dot:
                ways.append({"required": [head], "properties": {head: {"required": [rest]}}})
        yield any_of(*ways)


class _SchemaWriter:
    """Gathers ``$defs`` while it goes through the keys; what is the same is defined once."""

    def __init__(self, registry: Registry, warn: Callable[[str], None]) -> None:
        self.registry = registry
        self.warn = warn
        self.defs: dict[str, Schema] = {}
        #: key -> what stands there, where that is more than one value
        self.shapes: Mapping[str, Callable[[], Schema]] = {
            "include": lambda: any_of(_text(), {"type": "array", "items": _text()}),
            "machine": lambda: words(sorted(registry.boards)),
            "memory": lambda: {**self.value(Size()), "minimum": keys.MIN_MEMORY, "multipleOf": keys.PAGE},
            "boot": lambda: self.map_of(keys.BOOT),
            **{section: self._section_shape(section) for section in NAMED_SECTIONS},
            "devices": self.devices,
            "global": self.globals,
            "machine-options": lambda: {"type": ["object", "null"]},  # the board's: see _board()
            "topology": lambda: self.map_of(keys.TOPOLOGY),
            "rtc": lambda: self.map_of(keys.RTC),
            "run": lambda: self.map_of(keys.RUN),
            "monitors": lambda: _list_or_nothing({**self.map_of(keys.MONITORS), "type": "object", **_required(keys.MONITORS)}),
            "qtest": lambda: {**self.map_of(keys.QTEST), "type": "object"},
            "fw_cfg": self.fw_cfg,
            "smbios": self.smbios,
            "data-dirs": lambda: _list_or_nothing(_text()),
            "faults": self.faults,
        }

    def document(self) -> Schema:
        """The whole schema."""
        return {
            "$schema": DIALECT,
            "title": "qdevpy machine definition",
            "description": "A machine for qdevpy. Made by 'qdevpy schema' of what is installed.",
            "type": ["object", "null"],
            "properties": {name: self.top_level(name, key) for name, key in KEYS.items()},
            "additionalProperties": False,
            "if": {"required": ["include"]},
            "else": {"allOf": [self.whole_file(), *self.boards(default=True)]},
            "allOf": list(self.boards(default=False)),
            "$defs": dict(sorted(self.defs.items())),
        }

    # -- pieces

    def define(self, name: str, schema: Schema) -> Schema:
        """A reference to SCHEMA under ``$defs``: NAME, or NAME with a number where something else has that."""
        free, number = name, 1
        while self.defs.setdefault(free, schema) != schema:
            number += 1
            free = f"{name}-{number}"
        return {"$ref": f"#/$defs/{free}"}

    def value(self, kind: Kind) -> Schema:
        """What a kind takes."""
        schema = kind.schema()
        return self.define(f"kind.{kind.type_name.replace('<', '-').replace('>', '')}", schema) if "anyOf" in schema else schema

    def described(self, kind: Kind, text: str, default: str | None) -> Schema:
        """A value with its help, and what is used where it is not given."""
        found = {"description": f"{text}\n\n{kind.accepts}", **self.value(kind)}
        if default is not None:
            is_number = kind.json_type == "integer" and re.fullmatch("0|-?[1-9][0-9]*", default)
            found["default"] = int(default) if is_number else default
        return found

    def property(self, declared: Property, *, may_be_list: bool = True) -> Schema:
        """A property of a device or a back end."""
        schema = self.described(declared.kind, declared.help, declared.default_text())
        if declared.kind.is_list and not may_be_list:
            schema = {"description": schema["description"], "type": "string"}
        return self.define(f"property.{declared.name}", schema)

    def map_of(self, declared: Mapping[str, Key]) -> Schema:
        """A map with keys that hold one value each."""
        found = {name: self.described(key.kind, key.help, key.default) for name, key in declared.items() if key.kind is not None}
        return {"type": ["object", "null"], "properties": found, "additionalProperties": False}

    # -- keys

    def top_level(self, name: str, key: Key) -> Schema:
        """A key of the definition.

        :raises LookupError: it is declared, and nobody has said here what stands there
        """
        shape = self.shapes.get(name)
        if shape is not None:
            default = {} if key.default is None else {"default": key.default}
            return {"description": key.help, **shape(), **default}
        if key.kind is None:
            raise LookupError(f"definition key '{name}' is a map or a list, and the schema does not say of what")
        return self.described(key.kind, key.help, key.default)

    def whole_file(self) -> Schema:
        """What must be there where no other file has it."""
        return {
            "properties": {
                **{section: {"additionalProperties": self.whole_entry(section)} for section in NAMED_SECTIONS},
                "qtest": _required(keys.QTEST),
                "fw_cfg": {"additionalProperties": {"type": "object", "minProperties": 1}},
            }
        }

    def boards(self, *, default: bool) -> Iterator[Schema]:
        """Limits and options of each board; boards that have the same are one.

        :param default: of the board that a file without ``machine:`` means, instead
        """
        names: dict[type[Board], list[str]] = {}
        for name, board in sorted(self.registry.boards.items()):
            names.setdefault(board, []).append(name)
        groups: list[tuple[Schema, list[str]]] = []
        for board, called in names.items():
            schema = self._board(board)
            same = next((group for found, group in groups if found == schema), None)
            if same is None:
                groups.append((schema, called))
            else:
                same += called
        for schema, group in groups:
            limits = self.define(f"board.{group[0]}", schema)
            if not default:
                yield {"if": {"properties": {"machine": {"enum": sorted(group)}}, "required": ["machine"]}, "then": limits}
            elif KEYS["machine"].default in group:
                yield {"if": {"not": {"required": ["machine"]}}, "then": limits}

    def _board(self, board: type[Board]) -> Schema:
        options = nested({name: self.property(declared) for name, declared in board.options().items()})
        most = {"memory": {"maximum": board.max_memory}, "cpus": {"maximum": board.max_cpus}}
        limits = {**most, "machine-options": {**options, "type": ["object", "null"]}}
        return {"properties": limits}

    # -- back ends

    def _section_shape(self, section: str) -> Callable[[], Schema]:
        return lambda: self.section(section)

    def section(self, section: str) -> Schema:
        """``drives:`` and its like: entries by name."""
        names = {"propertyNames": {"pattern": keys.NAME.schema()["anyOf"][0]["pattern"]}}
        return {"type": ["object", "null"], **names, "additionalProperties": self.entry(section)}

    def entry(self, section: str) -> Schema:
        """An entry of a section; its type decides which options it has."""
        if section == "drives":
            (cls,) = self.registry.backends(section).values()
            return {"description": cls.description, **self.options(cls)}
        types = {"description": f"what it is; 'qdevpy backends {section}' lists them"}
        entry = {"type": "object", "properties": {"type": {**types, **words(self.registry.backend_names(section))}}}
        branches = []
        for name, cls in self.registry.backends(section).items():
            options = self.options(cls)
            options["properties"] = {"type": {"description": cls.description}, **options["properties"]}
            branches.append({"if": _is_type(name), "then": self.define(f"{section}.{name}", options)})
        return {**entry, "allOf": branches}

    def options(self, cls: type[Any]) -> Schema:
        """The options of a back end."""
        return nested({name: self.property(declared) for name, declared in properties_of(cls).items()})

    def whole_entry(self, section: str) -> Schema:
        """What an entry must have."""
        types = self.registry.backends(section)
        if section == "drives":
            (cls,) = types.values()
            return {"allOf": list(_alternatives(cls.required))}
        branches = [
            {"if": _is_type(name), "then": {"allOf": list(_alternatives(cls.required))}}
            for name, cls in types.items()
            if cls.required
        ]
        return {"required": ["type"], **({"allOf": branches} if branches else {})}

    # -- devices

    def devices(self) -> Schema:
        """A list of types with their properties, or of types."""
        found = {}
        for name, kind in self.device_types():
            if kind.user_creatable:
                found[name] = self.device(kind)
        item = {"type": "object", "properties": found, "additionalProperties": False, "minProperties": 1, "maxProperties": 1}
        return _list_or_nothing(any_of({"enum": sorted(found)}, item))

    def device_types(self) -> Iterator[tuple[str, DeviceType]]:
        """All types that can be described, by name and alias."""
        for name, kind in sorted(self.registry.device_types.items()):
            try:
                properties = kind.properties
            except PluginError as error:
                self.warn(str(error))
                continue
            assert properties is not None
            yield name, kind
            if kind.alias is not None and self.registry.device_type(kind.alias) is kind:
                yield kind.alias, kind

    def device(self, kind: DeviceType) -> Schema:
        """A device's properties, and what every device has."""
        options = {
            "id": {"description": "name of the device, in messages and for --set", **self.value(keys.NAME)},
            "bus": {"description": f"the bus it is plugged into, by name; default: the first {kind.bus or 'there is'}", **SCALAR},
            **{name: self.property(declared) for name, declared in kind.properties.items()},
        }
        described = {"description": kind.description or kind.name, **nested(options), "type": ["object", "null"]}
        return self.define(f"device.{kind.name}", described)

    def globals(self) -> Schema:
        """Properties by type and name; of every type, and of what types are derived from."""
        targets: dict[str, Mapping[str, Property]] = dict(self.registry.base_properties())
        targets.update((name, kind.properties) for name, kind in self.device_types())
        found = {
            f"{target}.{name}": self.property(declared, may_be_list=False)
            for target, properties in sorted(targets.items())
            for name, declared in properties.items()
        }
        return {**nested(found), "type": ["object", "null"]}

    # -- firmware

    def fw_cfg(self) -> Schema:
        """Files by name, each with contents."""
        names = {"propertyNames": {"maxLength": keys.LONGEST_FW_CFG_NAME}}
        return {"type": ["object", "null"], **names, "additionalProperties": {**self.map_of(keys.FW_CFG), "maxProperties": 1}}

    def smbios(self) -> Schema:
        """Maps whose fields the board knows."""
        self.defs["fields"] = any_of(
            SCALAR, {"type": "object", "minProperties": 1, "additionalProperties": {"$ref": "#/$defs/fields"}}
        )
        fields = {"type": "object", "additionalProperties": {"$ref": "#/$defs/fields"}}
        return _list_or_nothing({**fields, "anyOf": [{"required": ["type"]}, {"required": ["file"]}]})

    # -- faults

    def faults(self) -> Schema:
        """Rules for devices; which of effects, kinds of request and options a device has only ``qdevpy check`` knows."""
        from qdevpy.faults.effects import EFFECTS
        from qdevpy.faults.rule import KINDS

        effects = "\n".join(f"{effect.name}: {effect.help}" for effect in EFFECTS.values())
        options = {name: {"description": kind.accepts, **self.value(kind)} for name, kind in KINDS.items()}
        options["what"] = {"description": effects, **words(EFFECTS)}
        rule = {"type": "object", "properties": options, "additionalProperties": False, "required": ["what"]}
        item = {"type": "object", "additionalProperties": rule, "minProperties": 1, "maxProperties": 1}
        found = self.map_of(keys.FAULTS)
        found["properties"]["inject"] = {"description": keys.FAULTS["inject"].help, **_list_or_nothing(item)}
        return found


def _text() -> Schema:
    """A value that is not left out."""
    return {"type": ["string", "number", "boolean"]}


def _list_or_nothing(item: Schema) -> Schema:
    return {"type": ["array", "null"], "items": item}


def _required(declared: Mapping[str, Key]) -> Schema:
    return {"required": [name for name, key in declared.items() if key.required]}


def _is_type(name: str) -> Schema:
    return {"properties": {"type": words([name])}, "required": ["type"]}
