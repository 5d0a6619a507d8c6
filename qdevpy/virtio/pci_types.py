# SPDX-License-Identifier: Apache-2.0
"""From one virtio device class, its PCI types: ``NAME-pci``, ``NAME-pci-transitional``, ``NAME-pci-non-transitional``."""

from __future__ import annotations

from typing import Any

from qdevpy.qdev import property as prop
from qdevpy.qdev.device import Notification
from qdevpy.qdev.types import DeviceType
from qdevpy.virtio.device import VirtIODevice
from qdevpy.virtio.pci import DISABLE_LEGACY, VirtIOPCI


def device_types_for(cls: type[VirtIODevice], provider: str = "qdevpy") -> list[DeviceType]:
    """The PCI types of a virtio device class. ``ioeventfd`` is a property of theirs where the class allows it.

    :param provider: the distribution that offers the class
    """
    names = {f"{cls.base_name}-pci": "auto"}
    if cls.transitional_id is not None:
        names[f"{cls.base_name}-pci-transitional"] = "off"
    names[f"{cls.base_name}-pci-non-transitional"] = "on"
    return [DeviceType.of(make_proxy_class(cls, name, disable), provider) for name, disable in names.items()]


def make_proxy_class(cls: type[VirtIODevice], name: str, disable_legacy: str) -> type[VirtIOPCI]:
    """The transport class that carries devices of CLS, as type NAME.

    :param disable_legacy: the property's default
    """
    properties: dict[str, tuple[str, Any]] = {"disable_legacy": ("str", prop.on_off_auto(disable_legacy, help=DISABLE_LEGACY))}
    if cls.ioeventfd is Notification.ALLOWED:
        ioeventfd = prop.bit("flags", 1, True, name="ioeventfd", help="serve kicks through an eventfd, off the vCPU's thread")
        properties["use_ioeventfd"] = ("bool", ioeventfd)
    body: dict[str, Any] = {
        "__doc__": f"{cls.description} ({name})",
        "__module__": cls.__module__,
        "__annotations__": {attribute: annotation for attribute, (annotation, _) in properties.items()},
        "type_name": name,
        "description": cls.description,
        "ioeventfd": cls.ioeventfd,
        "user_creatable": cls.user_creatable,
        "device_class": cls,
    }
    body |= {attribute: declared for attribute, (_, declared) in properties.items()}
    proxy: type[VirtIOPCI] = type(f"{cls.__name__}PCI", (VirtIOPCI,), body)
    return proxy
