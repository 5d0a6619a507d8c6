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
    names: list[tuple[str, dict[str, Any]]] = [(f"{cls.base_name}-pci", {})]
    if cls.transitional_id is not None:
        names.append((f"{cls.base_name}-pci-transitional", {"disable_legacy": "off"}))
    names.append((f"{cls.base_name}-pci-non-transitional", {"disable_legacy": "on"}))
    return [_device_type(cls, name, defaults, provider) for name, defaults in names]


def _device_type(cls: type[VirtIODevice], name: str, defaults: dict[str, Any], provider: str) -> DeviceType:
    body: dict[str, Any] = {
        "__doc__": f"{cls.description} ({name})",
        "__module__": cls.__module__,
        "type_name": name,
        "description": cls.description,
        "device_class": cls,
        "__annotations__": {},
    }
    if cls.ioeventfd is Notification.ALLOWED:
        body["__annotations__"]["use_ioeventfd"] = "bool"
        help_text = "serve kicks through an eventfd, off the vCPU's thread"
        body["use_ioeventfd"] = prop.bit("flags", 1, True, name="ioeventfd", help=help_text)
    proxy: type[VirtIOPCI] = type(f"{cls.__name__}PCI", (VirtIOPCI,), body)

    def create() -> VirtIOPCI:
        made = proxy()
        for attribute, value in defaults.items():
            setattr(made, attribute, value)
        return made

    return attrs.evolve(
        DeviceType.of(proxy, provider),
        create=create,
        ioeventfd=cls.ioeventfd,
    )
