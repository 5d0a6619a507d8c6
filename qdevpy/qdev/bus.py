# SPDX-License-Identifier: Apache-2.0
"""Buses: what devices plug into. As QEMU's ``hw/core/bus.c``."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

from qdevpy.errors import RealizeError

if TYPE_CHECKING:
    from qdevpy.qdev.device import Device


class HotplugHandler(Protocol):
    """How devices join and leave a bus while the machine is there; see :mod:`qdevpy.vm.hotplug`."""

    def plugged(self, device: Device) -> None:
        """DEVICE has come; the guest is to be told."""

    def unplug_request(self, device: Device) -> None:
        """DEVICE is to go: ask the guest, or take it out (:func:`qdevpy.vm.hotplug.remove`)."""

    def reset(self) -> None:
        """The machine is about to be reset: who is still to go goes."""


class Bus:
    """A bus with its children in the order they were plugged.

    :cvar bus_type: QEMU's name of the sort (``PCI``)
    :cvar type_name: QEMU's name of the type, where it is not that of the sort (``virtio-pci-bus``)
    :param name: unique in the machine (``pci.0``, ``vser0.0``)
    :param owner: the device that offers it; None for the machine's main bus
    :ivar hotplug: how devices come and go while the machine is there; None: they do not
    """

    bus_type: ClassVar[str] = "System"
    type_name: ClassVar[str] = ""

    def __init__(self, name: str, owner: Device | None = None) -> None:
        self.name = name
        self.owner = owner
        self.children: list[Device] = []
        self.hotplug: HotplugHandler | None = None

    def check(self, device: Device) -> None:
        """Override: raise RealizeError where the device cannot be plugged (slot taken, bus full)."""

    def plug(self, device: Device) -> None:
        """Take the device, realize it, and keep it; a device that fails to realize is not there.

        :raises RealizeError: wrong sort of bus, no room, or the device's own reason
        """
        if device.bus_type != self.bus_type:
            raise RealizeError(
                f"plugs into a bus of type {device.bus_type}, and '{self.name}' is of type {self.bus_type}", device=device.label
            )
        self.check(device)
        device.parent_bus = self
        self.children.append(device)
        try:
            device.realize()
        except BaseException:
            self.children.remove(device)
            device.parent_bus = None
            raise

    def unplug(self, device: Device) -> None:
        """Unrealize and forget a child."""
        try:
            device.unrealize()
        finally:
            self.children.remove(device)
            device.parent_bus = None

    def reset(self) -> None:
        """Reset the children, in the order they were plugged."""
        for child in self.children:
            child.reset()
