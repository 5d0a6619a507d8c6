# SPDX-License-Identifier: Apache-2.0
"""The keys that few machines have: monitors, qtest, how the machine runs, what its firmware is told, faults.

Apart from :mod:`.load` so that a boot that has none of them does not import this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qdevpy.definition import problems as q
from qdevpy.definition.keys import BOOT_SETTINGS, FW_CFG, KEYS, LONGEST_FW_CFG_NAME, MONITORS, QTEST, RTC, RUN, TOPOLOGY, Key
from qdevpy.definition.model import (
    BootDefinition,
    MachineDefinition,
    MonitorDefinition,
    QtestDefinition,
    RunDefinition,
    Value,
)
from qdevpy.definition.nodes import List, Map, Node, Text, describe
from qdevpy.definition.options import Target, check_file_exists, check_option, read_options
from qdevpy.definition.source import resolve_path

if TYPE_CHECKING:
    from qdevpy.definition.load import Reader
    from qdevpy.qdev.kinds import Kind
    from qdevpy.vm.board import Board


def read_settings(reader: Reader, root: Map, board: type[Board] | None, so_far: MachineDefinition) -> MachineDefinition:
    """SO_FAR with everything that :data:`.load.SETTINGS` names."""
    name = reader.scalar(root, "name", "")
    if "faults" in root.entries:
        from qdevpy.definition.faults import read_faults

        so_far = so_far._replace(faults=read_faults(reader, root, so_far))
    return so_far._replace(
        name=name.given if name else "",
        uuid=_checked(reader, root, "uuid", KEYS, ""),
        cpu=reader.scalar(root, "cpu", ""),
        topology=_topology(reader, root, so_far.cpus),
        rtc=_rtc(reader, root),
        run=_run(reader, root),
        monitors=tuple(_monitors(reader, root)),
        qtest=_qtest(reader, root),
        machine_options=_machine_options(reader, root, board),
        fw_cfg=_fw_cfg(reader, root),
        smbios=tuple(_smbios(reader, root)),
        data_dirs=tuple(_data_dirs(reader, root)),
    )


def read_boot_settings(reader: Reader, node: Map, boot: BootDefinition) -> BootDefinition:
    """BOOT with everything that :data:`.load.BOOT_SETTINGS` names."""
    firmware = reader.scalar(node, "firmware", "boot: ")
    if firmware is not None and "/" in firmware.given:  # else the board looks for it, in data-dirs first
        path = resolve_path(firmware.given, firmware.position)
        firmware = firmware._replace(given=path if "/" in path else f"./{path}")
        check_file_exists(firmware, "boot: firmware", reader.problems)
    return boot._replace(
        firmware=firmware,
        order=_checked(reader, node, "order", BOOT_SETTINGS, "boot: "),
        once=_checked(reader, node, "once", BOOT_SETTINGS, "boot: "),
        menu=_checked(reader, node, "menu", BOOT_SETTINGS, "boot: "),
        strict=_checked(reader, node, "strict", BOOT_SETTINGS, "boot: "),
        reboot_timeout=_checked(reader, node, "reboot-timeout", BOOT_SETTINGS, "boot: "),
        splash_time=_checked(reader, node, "splash-time", BOOT_SETTINGS, "boot: "),
    )


def _kind(keys: Mapping[str, Key], name: str) -> Kind:
    kind = keys[name].kind
    assert kind is not None
    return kind


def _checked(reader: Reader, node: Map, name: str, keys: Mapping[str, Key], prefix: str) -> Value | None:
    """The text at a key, where the kind that KEYS gives it takes it; None, and a problem, where it does not."""
    value = reader.scalar(node, name, prefix)
    if value is None:
        return None
    try:
        _kind(keys, name).parse(value.given)
    except ValueError as error:
        reader.problems.add(q.BAD_VALUE, f"{prefix}{name}: '{value.given}': {error}", value.position)
        return None
    return value


def _parsed(reader: Reader, node: Map, name: str, keys: Mapping[str, Key], prefix: str) -> Any:
    """The value at a key, or the key's default."""
    value = _checked(reader, node, name, keys, prefix)
    return _kind(keys, name).parse(keys[name].default if value is None else value.given)


def _items(reader: Reader, root: Map, name: str) -> list[Node]:
    """The items of a list at a key; a problem where something else stands there."""
    found = root.get(name)
    if found is None or (isinstance(found, Text) and found.is_null):
        return []
    if isinstance(found, List):
        return found.items
    reader.problems.add(q.WRONG_TYPE, f"{name}: expected a list, found {describe(found)}", found.position)
    return []


def _check_keys(reader: Reader, node: Map, keys: Mapping[str, Key], what: str) -> None:
    """Only KEYS, and those of them that must be there."""
    reader.check_keys(node, keys, what)
    for name, key in keys.items():
        if key.required and name not in node.entries:
            reader.problems.add(q.MISSING_KEY, f"{what}: key '{name}' is missing", node.position)


# -- monitors and qtest


def _monitors(reader: Reader, root: Map) -> Iterator[MonitorDefinition]:
    for item in _items(reader, root, "monitors"):
        node = reader.as_map(item, "monitors")
        _check_keys(reader, node, MONITORS, "monitors")
        chardev = reader.scalar(node, "chardev", "monitors: ")
        mode = _parsed(reader, node, "mode", MONITORS, "monitors: ")
        pretty = _parsed(reader, node, "pretty", MONITORS, "monitors: ")
        if pretty and mode == "readline":
            place = node.entries["pretty"][0].position
            reader.problems.add(q.BAD_VALUE, "monitors: pretty: only 'mode: control' prints JSON; remove it", place)
        if chardev is not None:
            yield MonitorDefinition(chardev, mode, pretty)


def _qtest(reader: Reader, root: Map) -> QtestDefinition | None:
    if "qtest" not in root.entries:
        return None
    node = reader.map_at(root, "qtest")
    _check_keys(reader, node, QTEST, "qtest")
    chardev = reader.scalar(node, "chardev", "qtest: ")
    log = reader.scalar(node, "log", "qtest: ")
    if log is not None and log.given != "none":
        log = log._replace(given=resolve_path(log.given, log.position))
    return None if chardev is None else QtestDefinition(chardev, log)


# -- how it runs


def _run(reader: Reader, root: Map) -> RunDefinition:
    node = reader.map_at(root, "run")
    _check_keys(reader, node, RUN, "run")
    return RunDefinition(**{name: _parsed(reader, node, name, RUN, "run: ") for name in RUN})


def _rtc(reader: Reader, root: Map) -> dict[str, Value]:
    node = reader.map_at(root, "rtc")
    _check_keys(reader, node, RTC, "rtc")
    found = {name: _checked(reader, node, name, RTC, "rtc: ") for name in RTC}
    return {name: value for name, value in found.items() if value is not None}


def _topology(reader: Reader, root: Map, cpus: int) -> dict[str, int]:
    """All four factors; those that are not given are 1."""
    node = reader.map_at(root, "topology")
    if not node.entries:
        return {}
    _check_keys(reader, node, TOPOLOGY, "topology")
    found = {key: int(_parsed(reader, node, key, TOPOLOGY, "topology: ")) for key in TOPOLOGY}
    product = found["sockets"] * found["dies"] * found["cores"] * found["threads"]
    if product != cpus:
        given = " * ".join(f"{key} ({value})" for key, value in found.items() if value > 1 or key in node.entries)
        message = f"topology: {given} make {product} CPUs, and cpus is {cpus}; make them agree"
        reader.problems.add(q.OUT_OF_RANGE, message, node.position)
    return found


# -- the board and its firmware


def _machine_options(reader: Reader, root: Map, board: type[Board] | None) -> dict[str, Value]:
    node = reader.map_at(root, "machine-options")
    if board is None:
        return {}
    declared = board.options()
    listing = f"there are: {', '.join(sorted(declared))}" if declared else "it has none"
    target = Target(f"machine-options: {board.type_name}", declared, listing)
    found: dict[str, Value] = {}
    for option in read_options(node, "machine-options", reader.problems):
        value = check_option(option, target, reader.problems)
        if value is not None:
            found[option.name] = value
    return found


def _fw_cfg(reader: Reader, root: Map) -> dict[str, dict[str, Value]]:
    found: dict[str, dict[str, Value]] = {}
    for name, (key, item) in reader.map_at(root, "fw_cfg").entries.items():
        what = f"fw_cfg: {name}"
        node = reader.as_map(item, what)
        _check_keys(reader, node, FW_CFG, what)
        if len(name) > LONGEST_FW_CFG_NAME:
            message = f"{what}: the name is longer than {LONGEST_FW_CFG_NAME} characters"
            reader.problems.add(q.BAD_VALUE, message, key.position)
        if len(node.entries) != 1:
            reader.problems.add(q.MISSING_KEY, f"{what}: expected one of the keys 'file' and 'string'", key.position)
        value = {key: text for key in FW_CFG if (text := reader.scalar(node, key, f"{what}: ")) is not None}
        if "file" in value:
            value["file"] = _existing(reader, value["file"], f"{what}: file")
        found[name] = value
    return found


def _existing(reader: Reader, value: Value, what: str) -> Value:
    value = value._replace(given=resolve_path(value.given, value.position))
    check_file_exists(value, what, reader.problems)
    return value


def _smbios(reader: Reader, root: Map) -> Iterator[dict[str, Value]]:
    """Which fields a type has is the board's to know."""
    for item in _items(reader, root, "smbios"):
        node = reader.as_map(item, "smbios")
        if not {"type", "file"}.intersection(node.entries):
            reader.problems.add(q.MISSING_KEY, "smbios: key 'type' or 'file' is missing", node.position)
        found = {option.name: option.value for option in read_options(node, "smbios", reader.problems)}
        if "file" in found:
            found["file"] = _existing(reader, found["file"], "smbios: file")
        yield found


def _data_dirs(reader: Reader, root: Map) -> Iterator[str]:
    for item in _items(reader, root, "data-dirs"):
        if isinstance(item, Text) and not item.is_null:
            yield resolve_path(item.text, item.position)
        else:
            reader.problems.add(q.WRONG_TYPE, f"data-dirs: expected a folder, found {describe(item)}", item.position)
