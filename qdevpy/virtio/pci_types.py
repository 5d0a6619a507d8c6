# SPDX-License-Identifier: Apache-2.0
"""From one virtio device class, its PCI types: ``NAME-pci``, ``NAME-pci-transitional``, ``NAME-pci-non-transitional``."""

from __future__ import annotations

from typing import Any

import attrs

from qdevpy.qdev import property as prop
from qdevpy.qdev.device import Notification
from qdevpy.qdev.types import DeviceType
from qdevpy.virtio.device import VirtIODevice
from qdevpy.virtio.pci import VirtIOPCI


def device_types_for(cls: type[VirtIODevice], provider: str = "qdevpy") -> list[DeviceType]:
    """The PCI types of a virtio device class. ``ioeventfd`` is a property of theirs where the class allows it.

    :param provider: the distribution that offers the class
    """
    types = [_device_type(cls, f"{cls.base_name}-pci", "auto", provider)]
    if cls.transitional_id is not None:
        types.append(_device_type(cls, f"{cls.base_name}-pci-transitional", "off", provider))
    types.append(_device_type(cls, f"{cls.base_name}-pci-non-transitional", "on", provider))
    return types


def _device_type(cls: type[VirtIODevice], name: str, disable_legacy: str, provider: str) -> DeviceType:
    """A type.

    :param disable_legacy: the property's default
    """
    proxy = make_proxy_class(cls, name)

    def create() -> VirtIOPCI:
        made = proxy()
        made.disable_legacy = disable_legacy
        return made

    return attrs.evolve(DeviceType.of(proxy, provider), create=create)


def make_proxy_class(cls: type[VirtIODevice], name: str) -> type[VirtIOPCI]:
    """The transport class that carries devices of CLS, as type NAME."""
    body: dict[str, Any] = {
        "__doc__": f"{cls.description} ({name})",
        "__module__": cls.__module__,
        "__annotations__": {},
        "type_name": name,
        "description": cls.description,
        "ioeventfd": cls.ioeventfd,
        "user_creatable": cls.user_creatable,
        "device_class": cls,
    }
    if cls.ioeventfd is Notification.ALLOWED:
        body["__annotations__"]["use_ioeventfd"] = "bool"
        body["use_ioeventfd"] = prop.bit(
            "flags", 1, True, name="ioeventfd", help="serve kicks through an eventfd, off the vCPU's thread"
        )
    proxy: type[VirtIOPCI] = type(f"{cls.__name__}PCI", (VirtIOPCI,), body)
    return proxy
