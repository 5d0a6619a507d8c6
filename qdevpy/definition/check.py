# SPDX-License-Identifier: Apache-2.0
"""A definition's entries against each other: ids, references, buses and slots."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from qdevpy.definition import problems as q
from qdevpy.definition.model import DeviceDefinition, MachineDefinition, Position, Value
from qdevpy.definition.problems import Problems
from qdevpy.errors import UnknownNameError, did_you_mean
from qdevpy.qdev.device import Device
from qdevpy.qdev.kinds import BackendRef, Link, PciDevfn

if TYPE_CHECKING:
    from qdevpy.plugin.registry import Registry
    from qdevpy.qdev.types import DeviceType
    from qdevpy.vm.board import Board


def check_entries(definition: MachineDefinition, board: type[Board] | None, registry: Registry, problems: Problems) -> None:
    """Everything that needs more than one entry to be seen. BOARD is None where it is unknown."""
    devices = list(_known_devices(definition, registry))
    _check_ids(definition, problems)
    _check_references(definition, devices, problems)
    buses = _Buses(board, registry, problems)
    chips = board.chips.items() if board is not None else ()
    slots: dict[tuple[str, int], tuple[str, Position | None]] = {place: (f"{chip} of the board", None) for place, chip in chips}
    for entry, kind in devices:
        bus = buses.bus_of(entry, kind)
        _check_slot(entry, kind, bus, slots, problems)
        buses.add_device(entry, kind)


def _known_devices(definition: MachineDefinition, registry: Registry) -> Iterator[tuple[DeviceDefinition, DeviceType]]:
    for entry in definition.devices:
        try:
            yield entry, registry.device_type(entry.type)
        except UnknownNameError:
            continue  # reported where it was read


def _label(entry: DeviceDefinition) -> str:
    identity = entry.options.get("id")
    return f"{identity.given} ({entry.type})" if identity else entry.type


def _place(position: Position, seen_from: Position) -> str:
    return f"line {position.line}" if position.file == seen_from.file and position.line else str(position)


def _check_ids(definition: MachineDefinition, problems: Problems) -> None:
    seen: dict[str, Position] = {}
    for entry in definition.devices:
        identity = entry.options.get("id")
        if identity is None:
            continue
        before = seen.setdefault(identity.given, identity.position)
        if before != identity.position:
            where = _place(before, identity.position)
            problems.add(q.DUPLICATE_ID, f"id '{identity.given}' is taken in {where} already", identity.position)


def _check_references(
    definition: MachineDefinition, devices: list[tuple[DeviceDefinition, DeviceType]], problems: Problems
) -> None:
    users: dict[tuple[str, str], tuple[str, Position]] = {}
    _check_monitors(definition, users, problems)
    for entry, kind in devices:
        for name, value in entry.options.items():
            declared = kind.properties.get(name)
            for target, identity in declared.kind.objects_in(value.given) if declared is not None else ():
                _check_link(definition, target, f"{_label(entry)}: {name}", value._replace(given=identity), problems)
            if declared is None or not isinstance(declared.kind, BackendRef):
                continue
            if isinstance(declared.kind, Link):
                _check_link(definition, declared.kind.reference, f"{_label(entry)}: {name}", value, problems)
                continue
            section = f"{declared.kind.reference}s"
            names = getattr(definition, section)
            if value.given not in names:
                hint = did_you_mean(value.given, names) or f"; there are: {', '.join(names) or 'none'}"
                message = f"{_label(entry)}: {name}: '{value.given}' is not an entry of {section}:{hint}"
                problems.add(q.UNRESOLVED, message, value.position)
                continue
            if section == "chardevs" and _is_shared(definition, value.given):
                continue
            first = users.setdefault((section, value.given), (_label(entry), value.position))
            if first[1] != value.position:
                user = f"{first[0]} in {_place(first[1], value.position)}"
                message = f"{_label(entry)}: {name}: '{value.given}' is in use by {user}; a back end serves one device"
                problems.add(q.USED_TWICE, message, value.position)


def _is_shared(definition: MachineDefinition, chardev: str) -> bool:
    """Whether several may use the chardev, with keys to go from one to the other."""
    mux = definition.chardevs[chardev].options.get("mux")
    return mux is not None and mux.given in ("on", "yes", "true", "y")


def _check_monitors(
    definition: MachineDefinition, users: dict[tuple[str, str], tuple[str, Position]], problems: Problems
) -> None:
    """The chardevs of ``monitors:`` and ``qtest:``."""
    uses = [(f"a monitor ({monitor.mode})", monitor.chardev) for monitor in definition.monitors]
    if definition.qtest is not None:
        uses.append(("qtest", definition.qtest.chardev))
    for user, value in uses:
        if value.given not in definition.chardevs:
            hint = did_you_mean(value.given, definition.chardevs) or f"; there are: {', '.join(definition.chardevs) or 'none'}"
            message = f"{user}: chardev: '{value.given}' is not an entry of chardevs:{hint}"
            problems.add(q.UNRESOLVED, message, value.position)
            continue
        if _is_shared(definition, value.given):
            continue
        first = users.setdefault(("chardevs", value.given), (user, value.position))
        if first[1] != value.position:
            where = _place(first[1], value.position)
            message = f"{user}: chardev: '{value.given}' is in use by {first[0]} in {where}; a back end serves one user"
            problems.add(q.USED_TWICE, message, value.position)


def _check_link(definition: MachineDefinition, target: str, what: str, value: Value, problems: Problems) -> None:
    """A reference to an object, or a device, of type TARGET."""
    names = [entry.name for entry in definition.objects.values() if entry.type in (target, "")]
    names += [str(d.options["id"].given) for d in definition.devices if d.type == target and "id" in d.options]
    if value.given not in names:
        hint = did_you_mean(value.given, names) or f"; there are: {', '.join(names) or 'none'}"
        problems.add(q.UNRESOLVED, f"{what}: no {target} has the id '{value.given}'{hint}", value.position)


def _check_slot(
    entry: DeviceDefinition,
    kind: DeviceType,
    bus: str | None,
    slots: dict[tuple[str, int], tuple[str, Position | None]],
    problems: Problems,
) -> None:
    """Explicit addresses only; the bus hands out the others around them."""
    for name, value in entry.options.items():
        declared = kind.properties.get(name)
        if bus is None or declared is None or not isinstance(declared.kind, PciDevfn):
            continue
        devfn = declared.kind.parse(value.given)
        owner, place = slots.setdefault((bus, devfn), (_label(entry), value.position))
        if place != value.position:
            taken = f"{owner} in {_place(place, value.position)}" if place else owner
            message = f"{_label(entry)}: {name}: slot {declared.kind.format(devfn)} of {bus} is taken by {taken}"
            problems.add(q.SLOT_TAKEN, message, value.position)


class _Buses:
    """The buses there are while devices are plugged in order: the board's, then what each device offers."""

    def __init__(self, board: type[Board] | None, registry: Registry, problems: Problems) -> None:
        self.registry = registry
        self.problems = problems
        self.board_known = board is not None and bool(board.buses)
        self._sorts: dict[str, str] = dict(board.buses) if board is not None else {}
        self._plugged: list[tuple[DeviceDefinition, DeviceType]] = []

    def add_device(self, entry: DeviceDefinition, kind: DeviceType) -> None:
        """A device comes before those asked about from now on."""
        self._plugged.append((entry, kind))

    def sorts(self) -> dict[str, str]:
        """Name -> sort of every bus so far; a device's are ``ID.0`` and so on, or named after their sort."""
        for entry, kind in self._plugged:
            offering = offering_device(kind)
            sort = offering.offers_bus if offering is not None else None
            identity = entry.options.get("id")
            if sort is not None and offering is not None and offering.bus_has_device_id:
                self._sorts[identity.given if identity else self._unnamed(sort.lower())] = sort
            elif sort is not None:
                stem = identity.given if identity else sort
                number = 0 if identity else sum(name.startswith(f"{sort}.") for name in self._sorts)
                self._sorts[f"{stem}.{number}"] = sort
        self._plugged.clear()
        return self._sorts

    def _unnamed(self, stem: str) -> str:
        return next(name for number in range(1, 256) if (name := f"{stem}.{number}") not in self._sorts)

    def find(self, sort: str) -> str | None:
        """The first bus of a sort; devices are only created to ask them where the board has none."""
        name = _first(self._sorts, sort)
        return name if name is not None else _first(self.sorts(), sort)

    def bus_of(self, entry: DeviceDefinition, kind: DeviceType) -> str | None:
        """The name of the bus that the device will be on; None where that cannot be told, or is a problem."""
        value = entry.options.get("bus")
        if kind.bus is None or not self.board_known:
            return value.given if value else kind.bus
        if value is None:
            name = self.find(kind.bus)
            if name is not None:
                return name
            message = f"{_label(entry)}: needs a bus of type {kind.bus}, and there is none before it{self._offering(kind.bus)}"
            self.problems.add(q.WRONG_BUS, message, entry.position)
            return None
        known = self._sorts.get(value.given) or self.sorts().get(value.given)
        if known is None:
            fitting = [name for name, sort in self.sorts().items() if sort == kind.bus]
            hint = did_you_mean(value.given, fitting) or f"; buses of type {kind.bus} before it: {', '.join(fitting) or 'none'}"
            self.problems.add(q.UNRESOLVED, f"{_label(entry)}: bus '{value.given}' not found{hint}", value.position)
        elif known != kind.bus:
            message = f"{_label(entry)}: plugs into a bus of type {kind.bus}, and '{value.given}' is of type {known}"
            self.problems.add(q.WRONG_BUS, message, value.position)
        return value.given

    def _offering(self, sort: str) -> str:
        names = [k.name for k in self.registry.device_types.values() if k.user_creatable and offered_bus(k) == sort]
        return f"; put a {min(names, key=len)} before it" if names else ""


def _first(sorts: dict[str, str], wanted: str) -> str | None:
    return next((name for name, sort in sorts.items() if sort == wanted), None)


def offered_bus(kind: DeviceType) -> str | None:
    """The sort of bus that devices of a type offer, the device behind a transport included; or None."""
    offering = offering_device(kind)
    return offering.offers_bus if offering is not None else None


def offering_device(kind: DeviceType) -> Device | None:
    """A device of that type, or the one behind it, that offers a bus; None where none does."""
    for owner in kind.create().property_owners():
        if isinstance(owner, Device) and owner.offers_bus:
            return owner
    return None
