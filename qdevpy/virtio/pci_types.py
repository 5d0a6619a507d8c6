# SPDX-License-Identifier: Apache-2.0
"""From one virtio device class, its PCI types: ``NAME-pci``, ``NAME-pci-transitional``, ``NAME-pci-non-transitional``.

As in QEMU all three derive from ``NAME-pci-base``, which has what they share; only ``NAME-pci`` lets the user choose
the register interfaces (virtio_pci_types_register).
"""

from __future__ import annotations

from typing import Any

from qdevpy.pci.msix import MAX_VECTORS
from qdevpy.qdev import property as prop
from qdevpy.qdev.device import Notification
from qdevpy.qdev.types import DeviceType
from qdevpy.virtio.device import VirtIODevice
from qdevpy.virtio.pci import DISABLE_LEGACY, UNSPECIFIED, VirtIOPCI

#: an attribute's annotation and declaration
Declared = dict[str, tuple[str, Any]]


def device_types_for(cls: type[VirtIODevice], provider: str = "qdevpy") -> list[DeviceType]:
    """The PCI types of a virtio device class. ``ioeventfd`` is a property of theirs where the class allows it.

    :param provider: the distribution that offers the class
    """
    base = make_base_class(cls)
    name = f"{cls.base_name}-pci"
    choosing: Declared = {
        "disable_legacy": ("str", prop.on_off_auto("auto", help=DISABLE_LEGACY)),
        "disable_modern": ("bool", prop.boolean(False, help="leave out the modern registers")),
    }
    types = [make_proxy_class(base, name, choosing)]
    if cls.transitional_id is not None:
        types.append(make_proxy_class(base, f"{name}-transitional", fixed_interfaces("off")))
    types.append(make_proxy_class(base, f"{name}-non-transitional", fixed_interfaces("on")))
    found = [DeviceType.of(each, provider) for each in types]
    found[0].alias = cls.base_name if cls.type_name != cls.base_name else None
    return found


def fixed_interfaces(disable_legacy: str) -> Declared:
    """The register interfaces of a type that leaves no choice."""
    return {"disable_legacy": ("str", prop.fixed_field(disable_legacy))}


def make_base_class(cls: type[VirtIODevice]) -> type[VirtIOPCI]:
    """``NAME-pci-base``: the transport class that carries devices of CLS, with the properties that CLS wants of it."""
    properties: Declared = {}
    for name in cls.pci_properties:
        if name == "class":
            declared = prop.uint32(0, name="class", help=f"class code and subclass; 0: {cls.pci_class >> 8:#06x}")
            properties["device_class_code"] = ("int", declared)
        elif name == "vectors":
            what = "MSI-X vectors; 0: no MSI-X; default: what the device wants, one a queue and one for config changes"
            declared = prop.uint32(cls.pci_vectors, maximum=MAX_VECTORS, unset=UNSPECIFIED, help=what)
            properties["vectors"] = ("int", declared)
        elif name == "ioeventfd" and cls.ioeventfd is Notification.ALLOWED:
            declared = prop.bit("flags", 1, True, name="ioeventfd", help="serve kicks through an eventfd, off the vCPU's thread")
            properties["use_ioeventfd"] = ("bool", declared)
    return _derive(VirtIOPCI, f"{cls.__name__}PCIBase", properties, abstract=True, type_name=f"{cls.base_name}-pci-base", of=cls)


def make_proxy_class(base: type[VirtIOPCI], name: str, properties: Declared) -> type[VirtIOPCI]:
    """A concrete type NAME."""
    cls = base.device_class
    return _derive(base, f"{cls.__name__}PCI", properties, abstract=False, type_name=name, of=cls)


def _derive(
    base: type[VirtIOPCI], class_name: str, properties: Declared, *, abstract: bool, type_name: str, of: type[VirtIODevice]
) -> type[VirtIOPCI]:
    body: dict[str, Any] = {
        "__doc__": f"{of.description} ({type_name})",
        "__module__": of.__module__,
        "__annotations__": {attribute: annotation for attribute, (annotation, _) in properties.items()},
        "abstract": abstract,
        "type_name": type_name,
        "description": of.description,
        "category": of.category,
        "qemu_description": of.qemu_description,
        "ioeventfd": of.ioeventfd,
        "user_creatable": of.user_creatable,
        "device_class": of,
        "default_romfile": of.pci_romfile,
    }
    body |= {attribute: declared for attribute, (_, declared) in properties.items()}
    proxy: type[VirtIOPCI] = type(class_name, (base,), body)
    return proxy
