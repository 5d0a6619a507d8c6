# SPDX-License-Identifier: Apache-2.0
"""Which place each device has in the machine's composition tree (QOM); who looks at the tree uses :mod:`qdevpy.qdev.qom`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qdevpy.errors import RealizeError

if TYPE_CHECKING:
    from qdevpy.qdev.device import Device

PERIPHERAL = "peripheral"
ANONYMOUS = "peripheral-anon"
UNATTACHED = "unattached"
#: what stands directly below ``/machine``
NAMED = ""


class Composition:
    """The devices below ``/machine``: users' by id, those without in ``peripheral-anon``, the board's in ``unattached``.

    :param cpus: vCPUs, which have the first numbers in ``unattached``, as in QEMU
    :ivar containers: container -> name -> device
    """

    def __init__(self, cpus: int) -> None:
        self.cpus = cpus
        self.containers: dict[str, dict[str, Device]] = {PERIPHERAL: {}, ANONYMOUS: {}, UNATTACHED: {}, NAMED: {}}

    def add(self, device: Device, name: str | None = None) -> None:
        """Give DEVICE its place; it has it until it is unrealized, or fails to realize.

        :param name: of a board's device directly below ``/machine`` (``i440fx``)
        :raises RealizeError: the id is taken
        """
        if name is not None:
            container = NAMED
        elif not device.user_creatable:
            container, name = UNATTACHED, self._free_number(UNATTACHED)
        elif device.id:
            container, name = PERIPHERAL, device.id
        else:
            container, name = ANONYMOUS, self._free_number(ANONYMOUS)
        held = self.containers[container]
        if name in held:
            raise RealizeError(f"Duplicate device ID '{name}'; choose another", device=device.type_name)
        held[name] = device
        device.qom_parent = f"/machine/{container}".rstrip("/")
        device.qom_name = name
        device.cleanup.callback(self._remove, device, container)

    def _remove(self, device: Device, container: str) -> None:
        held = self.containers[container]
        if held.get(device.qom_name) is device:
            del held[device.qom_name]
        device.qom_parent, device.qom_name = None, ""

    def _free_number(self, container: str) -> str:
        number = self.cpus if container == UNATTACHED else 0
        while f"device[{number}]" in self.containers[container]:
            number += 1
        return f"device[{number}]"
