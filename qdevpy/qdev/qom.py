# SPDX-License-Identifier: Apache-2.0
"""The composition tree (QOM): every object of a machine has a path and properties. As QEMU's ``qom/object.c``.

::

    /machine                               the board
    /machine/peripheral/ID                 a device that the user gave an id
    /machine/peripheral-anon/device[N]     one without
    /machine/unattached/device[N]          vCPUs, then the board's chips
    /machine/peripheral/ID/BUS             a bus that a device offers
    /objects/ID, /chardevs/ID              back ends

Nothing is kept here: the tree is read off the machine when somebody asks. The VM lock is held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from qdevpy.errors import PathError, PropertyError
from qdevpy.qdev import composition
from qdevpy.qdev.bus import Bus
from qdevpy.qdev.device import Device
from qdevpy.qdev.object import Object
from qdevpy.qdev.property import Property, properties_of

if TYPE_CHECKING:
    from qdevpy.vm.machine import Machine

SYSTEM_BUS = "/machine/unattached/sysbus"


class Container(NamedTuple):
    """An object that only holds others.

    :ivar path: its own
    """

    path: str


class Processor(NamedTuple):
    """A vCPU, as it stands in the tree.

    :ivar type: QEMU's name of its model
    """

    number: int
    type: str


class Memory(NamedTuple):
    """The machine's RAM, as it stands in the tree.

    :ivar size: bytes
    """

    id: str
    size: int


class QomProperty(NamedTuple):
    """A property as QMP shows it.

    :ivar type: QEMU's word (``bool``, ``link<bus>``, ``child<PCI>``)
    :ivar read: its value in JSON; None: it cannot be read
    :ivar write: set it from JSON; None: it cannot be written
    :ivar description: what is accepted; None: nothing to say
    :ivar default: its value in JSON; None: none is known
    :ivar target: the object that a child or link property leads to
    """

    name: str
    type: str
    read: Callable[[], Any] | None
    write: Callable[[Any], None] | None = None
    description: str | None = None
    default: Any = None
    target: Any = None


def type_of(obj: Any) -> str:
    """QEMU's name of an object's type."""
    match obj:
        case Container():
            return "container"
        case Processor():
            return obj.type
        case Memory():
            return "memory-backend-ram"
        case Bus():
            return obj.type_name or obj.bus_type
        case Device():
            return obj.type_name
        case Object() if hasattr(obj, "section"):
            return f"chardev-{obj.type_name}" if obj.section == "chardevs" else obj.type_name
        case Object():
            return f"{obj.type_name}-machine"
        case _:
            return "iothread"


def path_of(obj: Any) -> str:
    """The path of an object that is part of a machine; empty where it is not."""
    match obj:
        case Container():
            return obj.path
        case Processor():
            return f"/machine/unattached/device[{obj.number}]"
        case Bus():
            if obj.owner is not None:
                return f"{obj.owner.qom_path}/{obj.name}"
            return SYSTEM_BUS if obj.bus_type == "System" else f"/machine/unattached/{obj.name}"
        case Device():
            return obj.qom_path
        case Object() if hasattr(obj, "section"):
            return f"/{obj.section}/{obj.id}"
        case Object():
            return "/machine"
        case Memory():
            return f"/objects/{obj.id}"
        case _:
            return f"/objects/{obj.name}"


def resolve(machine: Machine, path: str) -> Any:
    """The object at PATH: an absolute path, or the end of one where no other ends like it (``ioapic``, ``disk0``).

    :raises PathError: there is none, or there are several
    """
    return Tree(machine).resolve(path)


class Tree:
    """The composition tree of a machine, as it is now."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.root = Container("/")

    # -- structure

    def children(self, obj: Any) -> Mapping[str, Any]:
        """What is part of an object, by name."""
        if isinstance(obj, Device):
            return parts_of(obj)
        if isinstance(obj, Container):
            return self._contents(obj)
        if obj is self.machine.board:
            containers = (composition.PERIPHERAL, composition.ANONYMOUS, composition.UNATTACHED)
            inner = {name: Container(f"/machine/{name}") for name in containers}
            return {**inner, **self.machine.composition.containers[composition.NAMED]}
        return {}

    def _contents(self, container: Container) -> Mapping[str, Any]:
        machine = self.machine
        match container.path:
            case "/":
                return {"machine": machine.board, "objects": Container("/objects"), "chardevs": Container("/chardevs")}
            case "/chardevs":
                return {name: backend for (section, name), backend in machine.backends.items() if section == "chardevs"}
            case "/objects":
                return self._objects()
            case "/machine/unattached":
                model = self._processor_type()
                return {
                    **{f"device[{number}]": Processor(number, model) for number in range(machine.composition.cpus)},
                    **machine.composition.containers[composition.UNATTACHED],
                    **{path_of(bus).rpartition("/")[2]: bus for bus in machine.root_buses},
                }
            case path:
                return machine.composition.containers[path.rpartition("/")[2]]

    def _objects(self) -> Mapping[str, Any]:
        machine = self.machine
        found: dict[str, Any] = dict(machine.iothreads)
        found |= {name: backend for (section, name), backend in machine.backends.items() if section == "objects"}
        if machine.board.default_ram_id and machine.memory_size:
            found[machine.board.default_ram_id] = Memory(machine.board.default_ram_id, machine.memory_size)
        return found

    def _processor_type(self) -> str:
        kind = self.machine.board.default_cpu_type
        given = self.machine.definition.cpu
        return f"{given.given.partition(',')[0]}-x86_64-cpu" if given is not None else kind or "host-x86_64-cpu"

    def walk(self, obj: Any = None) -> Iterator[Any]:
        """An object (the root) and all that is part of it, parents first."""
        obj = self.root if obj is None else obj
        yield obj
        for child in self.children(obj).values():
            yield from self.walk(child)

    # -- paths

    def resolve(self, path: str) -> Any:
        """As :func:`resolve`."""
        parts = [part for part in path.split("/") if part]
        found = None
        if path.startswith("/"):
            found = self._follow(self.root, parts)
        elif parts:
            several = {id(hit): hit for hit in self._ends(parts)}
            unique = {path_of(hit): hit for hit in several.values()}
            if len(unique) > 1:
                raise PathError(f"Path '{path}' is ambiguous", ambiguous=True)
            found = next(iter(unique.values()), None)
        if found is None:
            raise PathError(f"Device '{path}' not found")
        return found

    def _ends(self, parts: list[str]) -> Iterator[Any]:
        for start in self.walk():
            hit = self._follow(start, parts)
            if hit is not None:
                yield hit

    def _follow(self, obj: Any, parts: list[str]) -> Any:
        """Children and links, one after the other; None: there is no such way."""
        for part in parts:
            child = self.children(obj).get(part)
            obj = child if child is not None else self._links(obj).get(part)
            if obj is None:
                return None
        return obj

    def _links(self, obj: Any) -> Mapping[str, Any]:
        if isinstance(obj, Bus):
            return {f"child[{number}]": child for number, child in enumerate(obj.children)}
        if isinstance(obj, Device):
            return {"parent_bus": obj.parent_bus}
        return {}

    # -- properties

    def properties(self, obj: Any) -> dict[str, QomProperty]:
        """All properties of an object by name, in QEMU's order of classes: the most basic first."""
        found = [QomProperty("type", "string", lambda: type_of(obj))]
        if isinstance(obj, Device):
            found += device_properties(obj)
        elif isinstance(obj, Bus):
            found.append(QomProperty("realized", "bool", lambda: obj.owner is not None))
            found += [reference(name, "link", child) for name, child in self._links(obj).items()]
        elif isinstance(obj, Object):
            found += [declared_property(obj, declared) for declared in properties_of(type(obj)).values()]
            if obj is self.machine.board:
                found += self._of_machine()
        elif isinstance(obj, Memory):
            found.append(QomProperty("size", "int", lambda: obj.size))
        elif isinstance(obj, Processor):
            found += [fixed("realized", "bool", True), fixed("hotplugged", "bool", False), fixed("hotpluggable", "bool", False)]
            found += [fixed(name, "int32", 0) for name in ("core-id", "thread-id")] + [fixed("socket-id", "int32", obj.number)]
        found += [reference(name, "child", child) for name, child in self.children(obj).items()]
        return {each.name: each for each in found}

    def _of_machine(self) -> list[QomProperty]:
        """What the definition says, under QEMU's names of a machine's properties."""
        boot = self.machine.definition.boot
        texts = {"kernel": boot.kernel, "initrd": boot.initrd, "append": boot.cmdline, "firmware": boot.firmware}
        return [fixed(name, "string", "" if value is None else value.given) for name, value in texts.items()]


def device_properties(device: Device) -> list[QomProperty]:
    """What every device has, then what its classes declare, those of a transport before those of what it carries."""
    return [*generic_properties(device), *declared_properties(device)]


def generic_properties(device: Device) -> list[QomProperty]:
    """What every device has (QEMU: device_class_init)."""
    bus = device.parent_bus
    return [
        QomProperty("parent_bus", "link<bus>", lambda: "" if bus is None else path_of(bus), target=bus),
        QomProperty("realized", "bool", lambda: device.is_realized, lambda value: set_realized(device, value)),
        QomProperty("hotplugged", "bool", lambda: device.hotplugged),
        QomProperty("hotpluggable", "bool", lambda: is_hotpluggable(device)),
    ]


def declared_properties(device: Device) -> list[QomProperty]:
    """What its classes declare."""
    found = []
    for owner in device.property_owners():
        for declared in properties_of(type(owner)).values():
            found.append(declared_property(owner, declared))
            legacy = declared.kind.legacy
            if legacy is not None and owner is device:
                found.append(legacy_property(owner, declared, legacy))
    return found


def part_properties(device: Device) -> list[QomProperty]:
    """Its parts and buses."""
    return [reference(name, "child", child) for name, child in parts_of(device).items()]


def parts_of(device: Device) -> dict[str, Any]:
    """Its parts and buses by name."""
    return {**device.parts, **{bus.name: bus for bus in device.child_buses}}


def fixed(name: str, kind: str, value: Any) -> QomProperty:
    """A property that only tells."""
    return QomProperty(name, kind, lambda: value)


def reference(name: str, sort: str, target: Any) -> QomProperty:
    """A ``child<>`` or ``link<>`` property."""
    return QomProperty(name, f"{sort}<{type_of(target)}>", lambda: path_of(target), target=target)


def declared_property(owner: Object, declared: Property) -> QomProperty:
    """A property that a class declares."""
    kind = declared.kind

    def read() -> Any:
        value = getattr(owner, declared.attribute)
        if kind.reference is not None and kind.type_name.startswith("link<") and value is not None:
            return value if isinstance(value, str) else path_of(value)
        return kind.to_json(value)

    def write(given: Any) -> None:
        if owner.is_realized and not declared.runtime:
            setattr(owner, declared.attribute, None)  # the guard says why not
        owner.set_property(declared.name, kind.from_json(declared.name, given))

    default = None if declared.default is None or declared.dynamic else kind.to_json(declared.default)
    return QomProperty(declared.name, kind.type_name, read, write, kind.description, default)


def legacy_property(owner: Object, declared: Property, text: Callable[[Any], str]) -> QomProperty:
    """``legacy-addr`` and its like: a value as text."""
    return QomProperty(f"legacy-{declared.name}", "str", lambda: text(getattr(owner, declared.attribute)))


def set_realized(device: Device, value: Any) -> None:
    """What there is to set: nothing but what it is.

    :raises PropertyError: the other
    """
    if value is not device.is_realized:
        raise PropertyError("property 'realized' cannot be changed; use device_add and device_del", device=device.label)


def is_hotpluggable(device: Device) -> bool:
    """Whether it may come and go while the machine runs, and its bus lets it."""
    bus = device.parent_bus
    return device.user_creatable and (bus is None or getattr(bus, "hotplug", None) is not None)


def get(machine: Machine, path: str, name: str) -> Any:
    """A property's value in JSON (qom-get).

    :raises PathError: no such object
    :raises PropertyError: no such property, or it cannot be read
    """
    return cast("Callable[[], Any]", _accessor(machine, path, name, "read"))()


def set_(machine: Machine, path: str, name: str, value: Any) -> None:
    """Set a property from JSON (qom-set).

    :raises PathError: no such object
    :raises PropertyError: no such property, it cannot be written, now or at all, or not with this value
    """
    _accessor(machine, path, name, "write")(value)


def _accessor(machine: Machine, path: str, name: str, way: str) -> Callable[..., Any]:
    tree = Tree(machine)
    obj = tree.resolve(path)
    found = tree.properties(obj).get(name)
    if found is None:
        raise PropertyError(f"Property '{type_of(obj)}.{name}' not found", name=name)
    accessor: Callable[..., Any] | None = getattr(found, way)
    if accessor is None:
        able = "readable" if way == "read" else "writable"
        raise PropertyError(f"Property '{type_of(obj)}.{name}' is not {able}", name=name)
    return accessor
