# SPDX-License-Identifier: Apache-2.0
"""Devices that come and go while the machine is there. As QEMU's ``softmmu/qdev-monitor.c`` and ``hw/core/hotplug.c``.

A bus says by its :attr:`Bus.hotplug` handler how devices leave it: at once (:class:`SurpriseRemoval`), or after the
guest has agreed (the pc board's ACPI controller). Handlers call :func:`remove` when the time has come.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from qdevpy.errors import HotplugError, LocatedError, PathError, UnknownNameError, did_you_mean
from qdevpy.qdev.device import Device

if TYPE_CHECKING:
    from qdevpy.plugin.registry import Registry
    from qdevpy.qdev.bus import Bus
    from qdevpy.qdev.types import DeviceType
    from qdevpy.vm.machine import Machine

log = logging.getLogger(__name__)


class SurpriseRemoval:
    """A bus whose devices go when they are told to: the bus itself lets its driver know."""

    def plugged(self, device: Device) -> None:
        """The device's own realize has said so already."""

    def unplug_request(self, device: Device) -> None:
        """Take it out now."""
        remove(device)

    def reset(self) -> None:
        """Nobody is about to go."""


def device_add(machine: Machine, options: Mapping[str, Any]) -> Device:
    """Create a device from a monitor's words, plug it and bring it to the state of the machine it joins.

    :param options: ``driver``, perhaps ``id`` and ``bus``, and properties; scalars or text
    :raises QdevpyError: what is wrong; nothing is left behind. The VM lock is held
    """
    from qdevpy.definition.model import DeviceDefinition, Position, Value
    from qdevpy.vm.build import add_device

    if "driver" not in options:
        raise HotplugError("Parameter 'driver' is missing")
    values = {name: _text(name, value) for name, value in options.items()}
    if machine.registry is None:
        raise HotplugError("this machine knows no device types")
    kind = _device_type(machine.registry, values.pop("driver"))
    bus = _find_bus(machine, kind, values.get("bus"))
    _check_id(machine, values.get("id"))
    if bus is not None:
        values["bus"] = bus.name
    place = Position("device_add")
    entry = DeviceDefinition(kind.name, {name: Value(text, place) for name, text in values.items()}, place)
    try:
        device = add_device(machine, machine.registry, entry, hotplugged=True)
    except LocatedError as error:
        raise error.error from None
    with ExitStack() as undo:
        undo.callback(_take_back, device)
        device.reset()
        for part in reversed(list(device.walk())):
            part.vm_state_changed(machine.running)
        handler = device.parent_bus.hotplug if device.parent_bus is not None else None
        if handler is not None:
            handler.plugged(device)
        undo.pop_all()
    return device


def _device_type(registry: Registry, name: str) -> DeviceType:
    """:raises HotplugError: none of that name, or not one that users add; in QEMU's words."""
    try:
        kind = registry.device_type(name)
    except UnknownNameError:
        from qdevpy.qdev.type_table import TypeTable

        known = TypeTable(registry).types.get(name)
        if known is not None and known.cls is not None:
            sort = "non-abstract" if known.abstract else "pluggable"
            raise HotplugError(f"Parameter 'driver' expects a {sort} device type") from None
        hint = did_you_mean(name, registry.device_types)
        raise HotplugError(f"'{name}' is not a valid device model name{hint}{registry.broken_note()}") from None
    if not kind.user_creatable:
        raise HotplugError("Parameter 'driver' expects a pluggable device type")
    return kind


def _find_bus(machine: Machine, kind: DeviceType, name: str | None) -> Bus | None:
    """The bus a device is to join; None: its type needs none.

    :raises HotplugError: it is not there, of another sort, or nothing joins it now; in QEMU's words
    """
    if name is not None:
        bus = next((bus for bus in machine.buses() if bus.name == name), None)
        if bus is None:
            known = ", ".join(bus.name for bus in machine.buses() if bus.bus_type == kind.bus) or "none"
            raise HotplugError(f"Bus '{name}' not found; buses of type {kind.bus}: {known}")
        if bus.bus_type != kind.bus:
            raise HotplugError(f"Device '{kind.name}' can't go on {bus.bus_type} bus")
    elif kind.bus is None:
        return None
    else:
        bus = machine.find_bus(kind.bus)
        if bus is None:
            raise HotplugError(f"No '{kind.bus}' bus found for device '{kind.name}'")
    if bus.hotplug is None:
        raise HotplugError(f"Bus '{bus.name}' does not support hotplugging")
    return bus


def _check_id(machine: Machine, identity: str | None) -> None:
    from qdevpy.vm.backends import is_identifier

    if identity is None:
        return
    if not is_identifier(identity):
        raise HotplugError("Parameter 'id' expects an identifier: a letter, then letters, digits, '-', '.' and '_'")
    if machine.find_device(identity) is not None:
        raise HotplugError(f"Duplicate device ID '{identity}'")


def _take_back(device: Device) -> None:
    """A device that cannot join after all."""
    assert device.parent_bus is not None
    device.parent_bus.unplug(device)


def _text(name: str, value: Any) -> str:
    """A JSON scalar as the user would write it; a list stays JSON."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list):
        import json

        return json.dumps(value)
    raise HotplugError(f"Invalid parameter type for '{name}', expected: string")


def device_del(machine: Machine, id_or_path: str) -> None:
    """Ask for a device to go; DEVICE_DELETED tells when it has.

    :param id_or_path: its id, or its path in the composition tree
    :raises PathError: there is no such device
    :raises HotplugError: it cannot go, or is about to already. The VM lock is held
    """
    device = find(machine, id_or_path)
    bus = device.parent_bus
    if bus is not None and bus.hotplug is None:
        raise HotplugError(f"Bus '{bus.name}' does not support hotplugging")
    if bus is None or not device.user_creatable:
        raise HotplugError(f"Device '{device.type_name}' does not support hotplugging")
    if device.leaving:
        raise HotplugError(f"Device {id_or_path} is already in the process of unplug")
    assert bus.hotplug is not None
    bus.hotplug.unplug_request(device)


def find(machine: Machine, id_or_path: str) -> Device:
    """The device of that id or path.

    :raises PathError: there is none
    :raises HotplugError: something else is there
    """
    from qdevpy.qdev import qom

    path = id_or_path if id_or_path.startswith("/") else f"/machine/peripheral/{id_or_path}"
    try:
        found = qom.resolve(machine, path)
    except PathError:
        raise PathError(f"Device '{id_or_path}' not found") from None
    if not isinstance(found, Device):
        raise HotplugError(f"{id_or_path} is not a hotpluggable device")
    return found


def remove(device: Device) -> None:
    """Take a device out now, whatever the guest thinks, and tell who listens: of the parts first, newest first, as QEMU.

    The VM lock is held. It may be a vCPU's thread: what stops I/O threads here waits for them.
    """
    from qdevpy.vm.event_types import DeviceDeleted

    bus, machine = device.parent_bus, device.machine
    assert bus is not None
    gone = [DeviceDeleted(_own_id(part), part.qom_path) for part in reversed(list(device.walk()))]
    try:
        bus.unplug(device)
    except Exception:  # somebody else's code; the device is gone from the bus all the same
        log.exception("%s: while taking it out", device.label)
    for event in gone:
        machine.events.emit(event)


def _own_id(part: Device) -> str | None:
    """What a transport carries has its id, and in QEMU none."""
    return None if isinstance(part.qom_parent, Device) else part.id or None
