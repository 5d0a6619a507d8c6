# SPDX-License-Identifier: Apache-2.0
"""From a machine definition to a machine: back ends, board, devices in order, each error with its place.

Defaults come in the order class, board's compat table, ``global:`` entries, device entry; the later wins.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from qdevpy.errors import DeviceError, LocatedError, PropertyError, QdevpyError, RealizeError
from qdevpy.vm.machine import Machine

if TYPE_CHECKING:
    from qdevpy.accel.base import Accelerator
    from qdevpy.definition.model import BackendDefinition, DeviceDefinition, FaultsDefinition, MachineDefinition, Position
    from qdevpy.plugin.registry import Registry
    from qdevpy.qdev.device import Device
    from qdevpy.qdev.object import Object

log = logging.getLogger(__name__)

#: sections of a definition that hold back ends, in the order they are opened
SECTIONS = ("objects", "chardevs", "drives", "netdevs")  # a netdev may be reached through a chardev


@contextmanager
def located(position: Position | None) -> Iterator[None]:
    """Give errors raised inside the place in the definition that caused them."""
    try:
        yield
    except LocatedError:
        raise
    except QdevpyError as error:
        if position is None:
            raise
        raise LocatedError(error, position) from error


def make_accelerator(name: str) -> Accelerator:
    """The accelerator called NAME; its module is imported only now.

    :raises QdevpyError: there is none of that name
    """
    if name == "kvm":
        from qdevpy.accel.kvm.accelerator import KVMAccelerator

        return KVMAccelerator()
    if name == "none":
        from qdevpy.accel.none import NoneAccelerator

        return NoneAccelerator()
    if name == "qtest":
        from qdevpy.accel.qtest.accelerator import QtestAccelerator

        return QtestAccelerator()
    raise QdevpyError(f"accel: '{name}': expected one of kvm, qtest, none")


def build_machine(
    definition: MachineDefinition, registry: Registry, *, accel: str | None = None, no_reboot: bool = False
) -> Machine:
    """Build, open and plug everything; the machine is in state PRELAUNCH and not yet reset.

    :param accel: instead of the definition's
    :raises QdevpyError: what is wrong, and where in the definition; nothing is left behind
    """
    board = registry.board(definition.machine)()
    for name, value in definition.machine_options.items():
        with located(value.position):
            board.set_property(name, value.given)
    machine = Machine(
        board,
        make_accelerator(accel or definition.accel),
        memory_size=definition.memory or board.default_memory,
        cpus=definition.cpus if board.has_cpus else 0,
        definition=definition,
        no_reboot=no_reboot,
    )
    machine.registry = registry
    try:
        machine.open()
        for section in SECTIONS:
            for backend in getattr(definition, section).values():
                add_backend(machine, registry, section, backend)
        board.build(machine)
        for entry in definition.devices:
            add_device(machine, registry, entry)
        if definition.faults is not None:
            add_faults(machine, definition.faults)
        with located(definition.cpu.position if definition.cpu else None):
            machine.create_vcpus()
        if definition.monitors:
            from qdevpy.monitor.server import start_monitors

            machine.monitors = start_monitors(machine)
        if definition.qtest is not None:
            from qdevpy.accel.qtest.server import start_server

            with located(definition.qtest.chardev.position):
                start_server(machine, definition.qtest)
    except BaseException:
        machine.close()
        raise
    return machine


def add_backend(machine: Machine, registry: Registry, section: str, entry: BackendDefinition) -> None:
    """Open one entry of ``drives:``, ``netdevs:``, ``chardevs:`` or ``objects:``."""
    with located(entry.position):
        backend = registry.backend_type(section, entry.type)(id=entry.name)
        for name, value in entry.options.items():
            with located(value.position):
                backend.set_property(name, value.given)
        machine.add_backend(backend)


def add_device(machine: Machine, registry: Registry, entry: DeviceDefinition, *, hotplugged: bool = False) -> Device:
    """Create one entry of ``devices:``, set its properties in the order of precedence, and plug it.

    :param hotplugged: the machine is there already; the bus is one that devices may join
    """
    with located(entry.position):
        kind = registry.device_type(entry.type)
        if not kind.user_creatable:
            raise DeviceError("is part of the board and cannot be added", device=entry.type)
        device = kind.create()
        device.hotplugged = hotplugged
        options = dict(entry.options)
        identity = options.pop("id", None)
        if identity is not None:
            device.id = str(identity.given)
        bus = options.pop("bus", None)
        apply_defaults(machine, device)
        for name, value in options.items():
            with located(value.position):
                device.set_property(name, value.given)
        resolve_references(machine, device)
        target = None
        if bus is not None:
            target = machine.find_bus(str(bus.given))
            if target is None or target.name != str(bus.given):
                names = ", ".join(b.name for b in machine.buses() if b.bus_type == device.bus_type) or "none"
                with located(bus.position):
                    raise RealizeError(
                        f"bus '{bus.given}' not found; buses of type {device.bus_type}: {names}", device=device.label
                    )
        target = target or machine.find_bus(device.bus_type or "System")
        try:
            machine.plug(device, target)
        except QdevpyError:
            raise
        except Exception as error:  # a device may be somebody else's code: it may raise anything
            log.debug("%s cannot be realized", device.label, exc_info=True)
            place = traceback_end(error)
            raise RealizeError(
                f"cannot be realized: {type(error).__name__}: {error} ({place}); 'qdevpy --debug' shows the traceback",
                device=device.label,
            ) from error
        return device


def traceback_end(error: Exception) -> str:
    """File and line that raised ERROR."""
    from traceback import extract_tb

    last = extract_tb(error.__traceback__)[-1]
    return f"{last.filename}:{last.lineno}"


def add_faults(machine: Machine, definition: FaultsDefinition) -> None:
    """What ``faults:`` says: rules, or a log that is to be replayed."""
    faults = machine.faults
    faults.seed = definition.seed
    if definition.log is not None:
        with located(definition.log.position):
            faults.open_log(definition.log.given)
    if definition.replay is not None:
        with located(definition.replay.position):
            faults.replay(definition.replay.given)
        return
    for rule in definition.inject:
        with located(rule.position):
            options = {name: value.given for name, value in rule.options.items()}
            faults.add(rule.device, rule.what, **options)


def type_names(device: Device) -> set[str]:
    """The names by which ``global:`` and compat tables address a device: its type and what that derives from."""
    return {name for owner in device.property_owners() for cls in type(owner).__mro__ if (name := getattr(cls, "type_name", ""))}


def apply_defaults(machine: Machine, device: Device) -> None:
    """The board's compat table, then the definition's ``global:`` entries."""
    names = type_names(device)
    for driver, name, text in machine.board.compat:
        if driver in names and name in device.all_properties():  # not all that derive from DRIVER have it
            device.set_property(name, text)
    for entry in machine.definition.globals:
        if entry.type in names:
            with located(entry.value.position):
                device.set_property(entry.property, entry.value.given)


def resolve_references(machine: Machine, device: Device) -> None:
    """Put the back end's object where a property holds its name.

    :raises PropertyError: nothing of that name
    """
    for owner, name, attribute, reference in references(device):
        given = getattr(owner, attribute)
        if not isinstance(given, str):
            continue
        target: Any
        if reference == "iothread":
            found = machine.backends.get(("objects", given))
            if found is None or found.type_name != "iothread":
                raise PropertyError(
                    f"property '{name}': iothread '{given}' not found under objects:", device=device.label, name=name
                )
            target = machine.iothread(given)
        else:
            target = machine.backend(reference + "s", given)
            if reference == "chardev":
                from qdevpy.backend.chardev import Chardev

                target = target.share() if isinstance(target, Chardev) else target
        setattr(owner, attribute, target)


def references(device: Device) -> Iterator[tuple[Object, str, str, str]]:
    """``(owner, property, attribute, what it refers to)`` of every property that names another object."""
    from qdevpy.qdev.property import properties_of

    for owner in device.property_owners():
        for name, declared in properties_of(type(owner)).items():
            if declared.kind.reference is not None:
                yield owner, name, declared.attribute, declared.kind.reference
