# SPDX-License-Identifier: Apache-2.0
"""All types of objects by name, with what they derive from, as QMP lists them. As QEMU's ``qom/object.c``.

Made when somebody asks: a boot needs none of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from qdevpy.qdev.device import Device

if TYPE_CHECKING:
    from qdevpy.plugin.registry import Registry
    from qdevpy.qdev.types import DeviceType

#: types that no class of ours stands for: name -> parent
ABSTRACT = {
    "object": None,
    "interface": None,
    "device": "object",
    "bus": "object",
    "virtio-bus": "bus",
    "machine": "object",
    "chardev": "object",
    "chardev-fd": "chardev",
    "memory-backend": "object",
    "event-loop-base": "object",
    "cpu": "device",
    "x86_64-cpu": "cpu",
    "conventional-pci-device": "interface",
    "fw-path-provider": "interface",
    "hotplug-handler": "interface",
    "nmi": "interface",
    "resettable": "interface",
    "user-creatable": "interface",
    "vmstate-if": "interface",
}
CONCRETE = {
    "container": "object",
    "memory-backend-ram": "memory-backend",
    "iothread": "event-loop-base",
    "max-x86_64-cpu": "x86_64-cpu",
    "host-x86_64-cpu": "max-x86_64-cpu",
    "System": "bus",
    "PCI": "bus",
    "ISA": "bus",
    "virtio-pci-bus": "virtio-bus",
    "virtio-serial-bus": "bus",
}
#: type -> the interfaces that it has, beside those of what it derives from
INTERFACES = {
    "device": ("resettable", "vmstate-if"),
    "pci-device": ("conventional-pci-device",),
    "iothread": ("user-creatable",),
    "memory-backend": ("user-creatable",),
    "bus": ("resettable",),
    "generic-pc-machine": ("hotplug-handler",),
    "x86-machine": ("nmi",),
}
#: chardev types that are more than a plain one
FD_CHARDEVS = ("file", "stdio", "pipe", "serial", "parallel")


class TypeInfo(NamedTuple):
    """A type.

    :ivar parent: what it derives from; None: nothing
    :ivar cls: the class of ours, where it is a device's
    """

    name: str
    parent: str | None
    abstract: bool
    cls: type[Device] | None = None


class TypeTable:
    """All types that a program with these plugins has."""

    def __init__(self, registry: Registry) -> None:
        self.types: dict[str, TypeInfo] = {}
        for name, parent in ABSTRACT.items():
            self.types[name] = TypeInfo(name, parent, abstract=True)
        for name, parent in CONCRETE.items():
            self.types[name] = TypeInfo(name, parent, abstract=False)
        for kind in registry.device_types.values():
            self._add_device(kind)
        for board in set(registry.boards.values()):
            parents = [*board.qom_parents, "machine"]
            for name, parent in itertools.pairwise(parents):
                self.types.setdefault(name, TypeInfo(name, parent, abstract=True))
            self._add(TypeInfo(f"{board.type_name}-machine", parents[0], abstract=False))
            for chip in board.chip_classes():
                self._add_class(chip)
        for name in registry.backend_names("chardevs"):
            self._add(TypeInfo(f"chardev-{name}", "chardev-fd" if name in FD_CHARDEVS else "chardev", abstract=False))
        for name in registry.backend_names("objects"):
            self._add(TypeInfo(name, "object", abstract=False))

    def _add(self, info: TypeInfo) -> None:
        self.types.setdefault(info.name, info)

    def _add_device(self, kind: DeviceType) -> None:
        cls = kind.create
        if not (isinstance(cls, type) and issubclass(cls, Device)):
            self._add(TypeInfo(kind.name, "device", abstract=False))
            return
        carried: type[Device] | None = getattr(cls, "device_class", None)  # behind a transport
        for each in filter(None, (cls, carried)):
            self._add_class(each)
            if each.offers_bus is not None:
                self._add(TypeInfo(each.offers_bus, "bus", abstract=False))

    def _add_class(self, cls: type[Device]) -> None:
        """A device class and those of its bases that have a name."""
        named: list[type[Device]] = [base for base in cls.__mro__ if issubclass(base, Device) and vars(base).get("type_name")]
        for base, above in zip(named, [*named[1:], None], strict=True):
            parent = vars(base).get("qom_parent_type", above.type_name if above is not None else "device")
            self._add(TypeInfo(base.type_name, parent, abstract=bool(vars(base).get("abstract")), cls=base))

    def chain(self, name: str) -> Iterator[str]:
        """A type and all that it derives from."""
        at: str | None = name
        while at is not None and at in self.types:
            yield at
            at = self.types[at].parent

    def implements(self, name: str, wanted: str) -> bool:
        """Whether a type is, derives from, or has the interface WANTED."""
        for at in self.chain(name):
            if at == wanted or any(wanted in self.chain(interface) for interface in INTERFACES.get(at, ())):
                return True
        return False

    def select(self, implements: str | None = None, *, abstract: bool = True) -> list[TypeInfo]:
        """Types by name; those that are, derive from, or have the interface IMPLEMENTS, and abstract ones where wanted."""
        found: Iterable[TypeInfo] = (info for _, info in sorted(self.types.items()))
        return [
            info
            for info in found
            if (abstract or not info.abstract) and (implements is None or self.implements(info.name, implements))
        ]
