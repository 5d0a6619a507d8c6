# SPDX-License-Identifier: Apache-2.0
"""``faults:``: rules, their log, or a log that is to be replayed; each rule against the device that it is for.

Apart from :mod:`.settings` so that a boot without faults does not import this.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from qdevpy.definition import problems as q
from qdevpy.definition.keys import FAULTS
from qdevpy.definition.model import (
    DeviceDefinition,
    FaultDefinition,
    FaultsDefinition,
    MachineDefinition,
    Position,
    Value,
)
from qdevpy.definition.nodes import List, Map, Node, Text, describe
from qdevpy.definition.options import Option, check_file_exists, read_options
from qdevpy.definition.source import resolve_path
from qdevpy.errors import FaultError, UnknownNameError, did_you_mean
from qdevpy.faults.rule import KINDS, combination_problem, find_effect, option_problem, parse_option
from qdevpy.faults.target import FaultTarget
from qdevpy.qdev.kinds import Bool
from qdevpy.virtio.device import VirtIODevice

if TYPE_CHECKING:
    from qdevpy.definition.load import Reader

#: options that may be lists
LISTS = tuple(name for name, kind in KINDS.items() if kind.is_list)


def read_faults(reader: Reader, root: Map, so_far: MachineDefinition) -> FaultsDefinition:
    """``faults:``, against the devices of SO_FAR."""
    node = reader.map_at(root, "faults")
    reader.check_keys(node, FAULTS, "faults")
    log, replay = _path(reader, node, "log"), _path(reader, node, "replay")
    if replay is not None:
        check_file_exists(replay, "faults: replay", reader.problems)
        if log is not None and log.given == replay.given:
            message = f"faults: log: '{log.given}' is what is replayed; name another file"
            reader.problems.add(q.BAD_VALUE, message, log.position)
    return FaultsDefinition(log, replay, _seed(reader, node), tuple(_entries(reader, node.get("inject"), so_far)))


def _path(reader: Reader, node: Map, name: str) -> Value | None:
    value = reader.scalar(node, name, "faults: ")
    return None if value is None else value._replace(given=resolve_path(value.given, value.position))


def _seed(reader: Reader, node: Map) -> int:
    value = reader.scalar(node, "seed", "faults: ")
    if value is None:
        return 0
    try:
        return int(KINDS["seed"].parse(value.given))
    except ValueError as error:
        reader.problems.add(q.BAD_VALUE, f"faults: seed: '{value.given}': {error}", value.position)
        return 0


def _entries(reader: Reader, node: Node | None, so_far: MachineDefinition) -> Iterator[FaultDefinition]:
    """``inject:``, a list of ``DEVICE: {what: EFFECT, ...}``."""
    if node is None or (isinstance(node, Text) and node.is_null):
        return
    if not isinstance(node, List):
        message = f"faults: inject: expected a list, found {describe(node)}"
        reader.problems.add(q.WRONG_TYPE, message, node.position)
        return
    for item in node.items:
        if isinstance(item, Map) and len(item.entries) == 1:
            ((key, options),) = item.entries.values()
            yield from _entry(reader, key, reader.as_map(options, f"faults: {key.text}"), so_far)
            continue
        found = f"{len(item.entries)} keys" if isinstance(item, Map) else describe(item)
        message = f"faults: inject: expected DEVICE: {{what: EFFECT, ...}}, found {found}"
        reader.problems.add(q.WRONG_TYPE, message, item.position)


def _entry(reader: Reader, key: Text, node: Map, so_far: MachineDefinition) -> Iterator[FaultDefinition]:
    label = f"faults: {key.text}"
    what = reader.scalar(node, "what", f"{label}: ")
    if what is None:
        if "what" not in node.entries:
            reader.problems.add(q.MISSING_KEY, f"{label}: key 'what' is missing", key.position)
        return
    rest = Map({name: pair for name, pair in node.entries.items() if name != "what"}, node.position)
    options = read_options(rest, label, reader.problems, LISTS)
    entry = FaultDefinition(key.text, what.given, {option.name: option.value for option in options}, key.position)
    target = _target(reader, key, so_far)
    if target is not None and _check(reader, entry, what, options, target):
        yield entry


def _target(reader: Reader, key: Text, so_far: MachineDefinition) -> FaultTarget | None:
    """The device called KEY, as faults see it; None, and a problem, where it is not there or takes none."""
    ids = {device.options["id"].given: device for device in so_far.devices if "id" in device.options}
    entry = ids.get(key.text)
    if entry is None:
        known = f"; ids are: {', '.join(ids)}" if ids else "; give the device an id first"
        message = f"faults: no device has the id '{key.text}'{did_you_mean(key.text, ids) or known}"
        reader.problems.add(q.UNRESOLVED, message, key.position)
        return None
    try:
        kind = reader.registry.device_type(entry.type)
    except UnknownNameError:
        return None  # reported where it was read
    device = next((owner for owner in kind.create().property_owners() if isinstance(owner, VirtIODevice)), None)
    if device is None:
        _refuse(reader, key.position, f"{key.text} ({entry.type}): has no virtqueues, and faults happen to those")
        return None
    target = device.fault_target()
    refusal = target.refusal() or _vhost_netdev(entry, so_far)
    if refusal is not None:
        _refuse(reader, key.position, f"{key.text} ({entry.type}): {refusal}")
        return None
    return target


def _refuse(reader: Reader, position: Position, message: str) -> None:
    reader.problems.add(q.FORBIDDEN, f"faults: {message}", position)


def _vhost_netdev(entry: DeviceDefinition, so_far: MachineDefinition) -> str | None:
    """Why a card on this netdev takes no faults; None: it does."""
    name = entry.options.get("netdev")
    netdev = so_far.netdevs.get(name.given) if name is not None else None
    if netdev is None:
        return None
    wants = [option for option in ("vhost", "vhostforce") if option in netdev.options]
    if netdev.type == "vhost-user":
        return f"netdev '{netdev.name}' is vhost-user, whose back end serves the queues: nothing can happen to them here"
    if any(Bool().parse(netdev.options[option].given) for option in wants):
        return f"vhost serves its queues, so nothing can happen to them here; set 'vhost: off' on netdev '{netdev.name}'"
    return None


def _check(reader: Reader, entry: FaultDefinition, what: Value, options: list[Option], target: FaultTarget) -> bool:
    """Whether the rule is sound; each thing that is not is a problem."""
    label = f"faults: {entry.device}: {entry.what}"
    try:
        effect = find_effect(entry.what, target)
    except FaultError as error:
        reader.problems.add(q.BAD_VALUE, f"faults: {entry.device}: {error}", what.position)
        return False
    before = len(reader.problems)
    parsed = {}
    for option in options:
        problem = option_problem(option.name, effect, target)
        if problem is not None:
            reader.problems.add(q.UNKNOWN_PROPERTY, f"{label}: {problem}", option.key)
            continue
        try:
            parsed[option.name] = parse_option(option.name, option.value.given, target)
        except ValueError as error:
            message = f"{label}: {option.name}: '{option.value.given}': {error}"
            reader.problems.add(q.BAD_VALUE, message, option.value.position)
    if len(reader.problems) == before:
        problem = combination_problem(effect, parsed)
        if problem is not None:
            reader.problems.add(q.MISSING_KEY, f"{label}: {problem}", entry.position)
    return len(reader.problems) == before
