# SPDX-License-Identifier: Apache-2.0
"""A definition as YAML text: what it says, and nothing that it leaves at its default.

Reading the text gives the same definition, but for positions.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarint import HexInt
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from qdevpy.definition.model import BootDefinition, FaultsDefinition, MachineDefinition, RunDefinition, Value
from qdevpy.definition.source import NAMED_SECTIONS
from qdevpy.errors import UnknownNameError
from qdevpy.qdev.kinds import Path
from qdevpy.qdev.property import Property, properties_of

if TYPE_CHECKING:
    from qdevpy.plugin.registry import Registry

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
#: texts that mean themselves wherever they stand
_PLAIN = re.compile(r"[A-Za-z0-9/.](?:[A-Za-z0-9_./@+=-]| (?=[A-Za-z0-9/.])|:(?=\w))*")
_WORDS = ("null", "true", "false")
_HEX = re.compile(r"0x[1-9a-f][0-9a-f]{0,15}")
#: boot keys that are paths
_BOOT_FILES = ("kernel", "initrd", "firmware")


def to_yaml(definition: MachineDefinition, registry: Registry, *, folder: str = "", comments: Iterable[str] = ()) -> str:
    """The text of a definition's file.

    :param folder: of the file; paths are relative to the current one
    :param comments: lines that stand at the top
    """
    yaml = YAML()
    yaml.width = 1 << 16
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.allow_unicode = True
    out = io.StringIO()
    for comment in comments:
        out.write("".join(f"# {line}\n" for line in comment.splitlines()))
    yaml.dump(_plain(_Writer(registry, folder).machine(definition)), out)
    return out.getvalue()


def size_text(size: int) -> str:
    """Bytes with the largest suffix that divides them."""
    for power, suffix in ((40, "T"), (30, "G"), (20, "M"), (10, "K")):
        if size and size % (1 << power) == 0:
            return f"{size >> power}{suffix}"
    return str(size)


def device_properties(registry: Registry, type_name: str) -> Mapping[str, Property]:
    """The properties of a device type; none where it is not known."""
    try:
        return registry.device_type(type_name).properties
    except UnknownNameError:
        return {}


def _flow(items: Mapping[str, Any]) -> CommentedMap:
    """A map on one line."""
    found = CommentedMap(items)
    found.fa.set_flow_style()
    return found


class _Writer:
    """Definitions to what ruamel.yaml writes."""

    def __init__(self, registry: Registry, folder: str) -> None:
        self.registry = registry
        self.folder = folder

    def path(self, text: str) -> str:
        """TEXT as it is to be written in the file."""
        return text if not self.folder or os.path.isabs(text) else os.path.relpath(text, self.folder)

    def machine(self, definition: MachineDefinition) -> CommentedMap:
        """The whole file."""
        return CommentedMap({key: value for key, value in self.keys(definition) if value})

    def keys(self, definition: MachineDefinition) -> Iterator[tuple[str, Any]]:
        """Every key, also those that say nothing."""
        yield "name", definition.name
        yield "uuid", _given(definition.uuid)
        yield "machine", definition.machine
        yield "machine-options", _flow(_texts(definition.machine_options))
        yield "accel", definition.accel
        yield "memory", size_text(definition.memory) if definition.memory else None
        yield "cpus", str(definition.cpus) if definition.cpus != 1 else None
        yield "topology", _flow({key: str(value) for key, value in definition.topology.items()})
        yield "cpu", _given(definition.cpu)
        yield "boot", CommentedMap(self.boot(definition.boot))
        yield "rtc", _flow(_texts(definition.rtc))
        yield "run", _flow(dict(_run(definition.run)))
        for section in NAMED_SECTIONS:
            yield section, self.section(section, definition)
        yield "devices", [self.device(entry.type, entry.options) for entry in definition.devices]
        yield "global", {f"{entry.type}.{entry.property}": entry.value.given for entry in definition.globals}
        yield "monitors", [_flow(dict(_monitor(monitor))) for monitor in definition.monitors]
        if definition.qtest is not None:
            log = definition.qtest.log
            yield "qtest", _flow({"chardev": definition.qtest.chardev.given, **({"log": self.log(log.given)} if log else {})})
        if definition.faults is not None:
            yield "faults", self.faults(definition.faults)
        yield "fw_cfg", {name: self.options(value, _is_file) for name, value in definition.fw_cfg.items()}
        yield "smbios", [self.options(value, _is_file) for value in definition.smbios]
        yield "data-dirs", CommentedSeq([self.path(folder) for folder in definition.data_dirs])

    def faults(self, faults: FaultsDefinition) -> dict[str, Any]:
        """``faults:``."""
        found: dict[str, Any] = {name: self.path(value.given) for name in ("log", "replay") if (value := getattr(faults, name))}
        if faults.seed:
            found["seed"] = str(faults.seed)
        if faults.inject:
            rules = [{rule.device: _flow({"what": rule.what, **_lists(rule.options)})} for rule in faults.inject]
            found["inject"] = CommentedSeq(rules)
        return found

    def log(self, text: str) -> str:
        """``qtest: log``."""
        return text if text == "none" else self.path(text)

    def boot(self, boot: BootDefinition) -> Iterator[tuple[str, str]]:
        """``boot:``."""
        for name, value in boot._asdict().items():
            if value is not None:
                is_path = name in _BOOT_FILES and (name != "firmware" or "/" in value.given)
                yield name.replace("_", "-"), self.path(value.given) if is_path else value.given

    def section(self, section: str, definition: MachineDefinition) -> dict[str, CommentedMap]:
        """``drives:`` and its like."""
        found = {}
        for name, entry in getattr(definition, section).items():
            declared = properties_of(self.registry.backend_type(section, entry.type))
            options = self.options(entry.options, partial(_is_path, declared))
            if section != "drives":
                options.insert(0, "type", entry.type)
            found[name] = options
        return found

    def device(self, type_name: str, options: Mapping[str, Value]) -> Any:
        """An item of ``devices:``."""
        if not options:
            return type_name
        declared = device_properties(self.registry, type_name)
        found = self.options(options, partial(_is_path, declared))
        for name in found:
            if name in declared and declared[name].kind.is_list:
                found[name] = json.loads(found[name])
        return CommentedMap({type_name: found})

    def options(self, options: Mapping[str, Value], is_path: Callable[[str, str], bool]) -> CommentedMap:
        """Options on one line."""
        return _flow({k: self.path(v.given) if is_path(k, v.given) else v.given for k, v in options.items()})


def _plain(node: Any) -> Any:
    """NODE with numbers for texts that look like them, so that they stand without quotes; and with quotes where in doubt."""
    if isinstance(node, str):
        if _NUMBER.fullmatch(node):
            return int(node)
        if _HEX.fullmatch(node):
            return HexInt(int(node, 16))
        return node if _PLAIN.fullmatch(node) and node not in _WORDS else DoubleQuotedScalarString(node)
    if isinstance(node, dict):
        for key, value in node.items():
            node[key] = _plain(value)
        return node
    if isinstance(node, list):
        node[:] = [_plain(item) for item in node]
    return node


def _given(value: Value | None) -> str | None:
    return None if value is None else value.given


def _texts(options: Mapping[str, Value]) -> dict[str, str]:
    return {name: value.given for name, value in options.items()}


def _lists(options: Mapping[str, Value]) -> dict[str, Any]:
    """The options of a rule; lists as lists."""
    return {name: json.loads(value.given) if value.given.startswith("[") else value.given for name, value in options.items()}


def _is_file(key: str, text: str) -> bool:
    return key == "file"


def _is_path(declared: Mapping[str, Property], key: str, text: str) -> bool:
    kind = declared[key].kind if key in declared else None
    return isinstance(kind, Path) and bool(text) and text not in kind.words


def _run(run: RunDefinition) -> Iterator[tuple[str, str]]:
    for name, value in run._asdict().items():
        if value != RunDefinition._field_defaults[name]:
            yield name, value if isinstance(value, str) else "on" if value else "off"


def _monitor(monitor: Any) -> Iterator[tuple[str, str]]:
    yield "chardev", monitor.chardev.given
    yield "mode", monitor.mode
    if monitor.pretty:
        yield "pretty", "on"
