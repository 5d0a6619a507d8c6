# SPDX-License-Identifier: Apache-2.0
"""The keys that few machines have: monitors, qtest, how the machine runs, what its firmware is told.

Apart from :mod:`.load` so that a boot that has none of them does not import this.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qdevpy.definition import problems as q
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
from qdevpy.qdev.kinds import Bool, Enum, Integer, Kind

if TYPE_CHECKING:
    from qdevpy.definition.load import Reader
    from qdevpy.vm.board import Board

MONITOR_KEYS = ("chardev", "mode", "pretty")
RUN_KEYS = ("paused", "reboot", "shutdown", "panic", "preconfig")
QTEST_KEYS = ("chardev", "log")
RTC_KEYS = ("base", "clock", "driftfix")
TOPOLOGY_KEYS = ("sockets", "dies", "cores", "threads")

MODES = Enum("MonitorMode", ("control", "readline"))
PANIC_ACTIONS = Enum("PanicAction", ("shutdown", "pause", "exit-failure", "none"))
CLOCKS = Enum("RtcClock", ("host", "rt", "vm"))
DRIFT_FIXES = Enum("LostTickPolicy", ("none", "slew"))
BOOT_KINDS: Mapping[str, Kind] = {
    "menu": Bool(),
    "strict": Bool(),
    "reboot-timeout": Integer("int32", -1, 0xFFFF),
    "splash-time": Integer("uint16", 0, 0xFFFF),
}
#: letters of -boot: floppies, disks, CD, network
_ORDER = re.compile(r"[a-p]*")
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\d)?")
#: QEMU's FW_CFG_MAX_FILE_PATH, less the null character
_LONGEST_FW_CFG_NAME = 55


def read_settings(reader: Reader, root: Map, board: type[Board] | None, so_far: MachineDefinition) -> MachineDefinition:
    """SO_FAR with everything that :data:`.load.SETTINGS` names."""
    name = reader.scalar(root, "name", "")
    return so_far._replace(
        name=name.given if name else "",
        uuid=_matching(reader, root, "uuid", _UUID, "expected 8-4-4-4-12 hexadecimal digits"),
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
    expected = "expected letters from a to p, as in cdn"
    return boot._replace(
        firmware=firmware,
        order=_matching(reader, node, "order", _ORDER, expected, "boot: "),
        once=_matching(reader, node, "once", _ORDER, expected, "boot: "),
        menu=_checked(reader, node, "menu", BOOT_KINDS["menu"], "boot: "),
        strict=_checked(reader, node, "strict", BOOT_KINDS["strict"], "boot: "),
        reboot_timeout=_checked(reader, node, "reboot-timeout", BOOT_KINDS["reboot-timeout"], "boot: "),
        splash_time=_checked(reader, node, "splash-time", BOOT_KINDS["splash-time"], "boot: "),
    )


def _checked(reader: Reader, node: Map, name: str, kind: Kind, prefix: str) -> Value | None:
    """The text at a key, where KIND takes it; None, and a problem, where it does not."""
    value = reader.scalar(node, name, prefix)
    if value is None:
        return None
    try:
        kind.parse(value.given)
    except ValueError as error:
        reader.problems.add(q.BAD_VALUE, f"{prefix}{name}: '{value.given}': {error}", value.position)
        return None
    return value


def _matching(reader: Reader, node: Map, name: str, pattern: re.Pattern[str], expected: str, prefix: str = "") -> Value | None:
    value = reader.scalar(node, name, prefix)
    if value is not None and not pattern.fullmatch(value.given):
        reader.problems.add(q.BAD_VALUE, f"{prefix}{name}: '{value.given}': {expected}", value.position)
        return None
    return value


def _parsed(reader: Reader, node: Map, name: str, kind: Kind, prefix: str, default: Any) -> Any:
    value = _checked(reader, node, name, kind, prefix)
    return default if value is None else kind.parse(value.given)


def _items(reader: Reader, root: Map, name: str) -> list[Node]:
    """The items of a list at a key; a problem where something else stands there."""
    found = root.get(name)
    if found is None or (isinstance(found, Text) and found.is_null):
        return []
    if isinstance(found, List):
        return found.items
    reader.problems.add(q.WRONG_TYPE, f"{name}: expected a list, found {describe(found)}", found.position)
    return []


def _missing(reader: Reader, node: Map, what: str, key: str) -> None:
    if key not in node.entries:
        reader.problems.add(q.MISSING_KEY, f"{what}: key '{key}' is missing", node.position)


# -- monitors and qtest


def _monitors(reader: Reader, root: Map) -> Iterator[MonitorDefinition]:
    for item in _items(reader, root, "monitors"):
        node = reader.as_map(item, "monitors")
        reader.check_keys(node, MONITOR_KEYS, "monitors")
        _missing(reader, node, "monitors", "chardev")
        chardev = reader.scalar(node, "chardev", "monitors: ")
        mode = _parsed(reader, node, "mode", MODES, "monitors: ", "control")
        pretty = _parsed(reader, node, "pretty", Bool(), "monitors: ", False)
        if pretty and mode == "readline":
            place = node.entries["pretty"][0].position
            reader.problems.add(q.BAD_VALUE, "monitors: pretty: only 'mode: control' prints JSON; remove it", place)
        if chardev is not None:
            yield MonitorDefinition(chardev, mode, pretty)


def _qtest(reader: Reader, root: Map) -> QtestDefinition | None:
    if "qtest" not in root.entries:
        return None
    node = reader.map_at(root, "qtest")
    reader.check_keys(node, QTEST_KEYS, "qtest")
    _missing(reader, node, "qtest", "chardev")
    chardev = reader.scalar(node, "chardev", "qtest: ")
    log = reader.scalar(node, "log", "qtest: ")
    if log is not None and log.given != "none":
        log = log._replace(given=resolve_path(log.given, log.position))
    return None if chardev is None else QtestDefinition(chardev, log)


# -- how it runs


def _run(reader: Reader, root: Map) -> RunDefinition:
    node = reader.map_at(root, "run")
    reader.check_keys(node, RUN_KEYS, "run")
    return RunDefinition(
        paused=_parsed(reader, node, "paused", Bool(), "run: ", False),
        reboot=_parsed(reader, node, "reboot", Bool(), "run: ", True),
        shutdown=_parsed(reader, node, "shutdown", Bool(), "run: ", True),
        panic=_parsed(reader, node, "panic", PANIC_ACTIONS, "run: ", "shutdown"),
        preconfig=_parsed(reader, node, "preconfig", Bool(), "run: ", False),
    )


def _rtc(reader: Reader, root: Map) -> dict[str, Value]:
    node = reader.map_at(root, "rtc")
    reader.check_keys(node, RTC_KEYS, "rtc")
    found = {
        "base": reader.scalar(node, "base", "rtc: "),
        "clock": _checked(reader, node, "clock", CLOCKS, "rtc: "),
        "driftfix": _checked(reader, node, "driftfix", DRIFT_FIXES, "rtc: "),
    }
    base = found["base"]
    if base is not None and base.given not in ("utc", "localtime") and not _DATE.fullmatch(base.given):
        expected = "expected utc, localtime, or a date as in 2006-06-17T16:01:21 or 2006-06-17"
        reader.problems.add(q.BAD_VALUE, f"rtc: base: '{base.given}': {expected}", base.position)
        found["base"] = None
    return {name: value for name, value in found.items() if value is not None}


def _topology(reader: Reader, root: Map, cpus: int) -> dict[str, int]:
    """All four factors; those that are not given are 1."""
    node = reader.map_at(root, "topology")
    if not node.entries:
        return {}
    reader.check_keys(node, TOPOLOGY_KEYS, "topology")
    count = Integer("uint16", 1, 0xFFFF)
    found = {key: int(_parsed(reader, node, key, count, "topology: ", 1)) for key in TOPOLOGY_KEYS}
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
        reader.check_keys(node, ("file", "string"), what)
        if len(name) > _LONGEST_FW_CFG_NAME:
            message = f"{what}: the name is longer than {_LONGEST_FW_CFG_NAME} characters"
            reader.problems.add(q.BAD_VALUE, message, key.position)
        if len(node.entries) != 1:
            reader.problems.add(q.MISSING_KEY, f"{what}: expected one of the keys 'file' and 'string'", key.position)
        value = {key: text for key in ("file", "string") if (text := reader.scalar(node, key, f"{what}: ")) is not None}
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
