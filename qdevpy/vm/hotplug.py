# SPDX-License-Identifier: Apache-2.0
"""Devices that come and go while the machine is there. As QEMU's ``softmmu/qdev-monitor.c`` and ``hw/core/hotplug.c``.

A bus says by its :attr:`Bus.hotplug` handler how devices leave it: at once (:class:`SurpriseRemoval`), or after the
guest has agreed (the pc board's ACPI controller). Handlers call :func:`remove` when the time has come.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qdevpy.errors import HotplugError, LocatedError, PathError, UnknownNameError
from qdevpy.qdev.device import Device

if TYPE_CHECKING:
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
    if machine.registry is None:
        raise HotplugError("this machine knows no device types")
    place = Position("device_add")
    values = {name: Value(_text(name, value), place) for name, value in options.items() if name != "driver"}
    identity = options.get("id")
    if identity is not None and machine.find_device(str(identity)) is not None:
        raise HotplugError(f"Duplicate device ID '{identity}'")
    try:
        device = add_device(machine, machine.registry, DeviceDefinition(str(options["driver"]), values, place), hotplugged=True)
    except LocatedError as error:
        if not isinstance(error.error, UnknownNameError):
            raise error.error from None
        raise HotplugError(f"'{options['driver']}' is not a valid device model name; {error.error}") from None
    device.reset()
    for part in reversed(list(device.walk())):
        part.vm_state_changed(machine.running)
    handler = device.parent_bus.hotplug if device.parent_bus is not None else None
    if handler is not None:
        handler.plugged(device)
    return device


def _text(name: str, value: Any) -> str:
    """A JSON scalar as the user would write it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, str | int | float):
        return str(value)
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
        raise HotplugError(f"Device '{id_or_path}' does not support hotplugging")
    if device.leaving:
        raise HotplugError(f"Device {id_or_path} is already in the process of unplug")
    assert bus.hotplug is not None
    bus.hotplug.unplug_request(device)


def find(machine: Machine, id_or_path: str) -> Device:
    """The device of that id or path.

    :raises PathError: there is none
    """
    from qdevpy.qdev import qom

    found: Any = None
    if id_or_path.startswith("/"):
        try:
            found = qom.resolve(machine, id_or_path)
        except PathError:
            found = None
    else:
        found = machine.find_device(id_or_path)
    if not isinstance(found, Device):
        raise PathError(f"Device '{id_or_path}' not found")
    return found


def remove(device: Device) -> None:
    """Take a device out now, whatever the guest thinks, and tell who listens. The VM lock is held."""
    from qdevpy.vm.event_types import DeviceDeleted

    bus, machine, path = device.parent_bus, device.machine, device.qom_path
    assert bus is not None
    try:
        bus.unplug(device)
    except Exception:  # somebody else's code; the device is gone from the bus all the same
        log.exception("%s: while taking it out", device.label)
    machine.events.emit(DeviceDeleted(device.id, path))
