# SPDX-License-Identifier: Apache-2.0
"""Device types: what ``devices:`` entries name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

from qdevpy.qdev.device import Device, Notification
from qdevpy.qdev.property import Property


@attrs.frozen
class DeviceType:
    """One name that users may write under ``devices:``.

    :ivar bus: sort of bus it plugs into; None: none
    :ivar ioeventfd: notification policy; None where there are no queues
    :ivar properties: all that the user may set, by name
    :ivar provider: distribution that offers it
    :ivar create: makes a device in state CREATED
    """

    name: str
    bus: str | None
    description: str
    ioeventfd: Notification | None
    properties: Mapping[str, Property]
    create: Callable[[], Device]
    provider: str = "qdevpy"
    user_creatable: bool = True

    @classmethod
    def of(cls, device_class: type[Device], provider: str = "qdevpy") -> DeviceType:
        """The type of a plain device class (virtio devices: ``qdevpy.virtio.pci_types``)."""
        return cls(
            name=device_class.type_name,
            bus=device_class.bus_type,
            description=device_class.description,
            ioeventfd=device_class.ioeventfd,
            properties=device_class().all_properties(),
            create=device_class,
            provider=provider,
            user_creatable=device_class.user_creatable,
        )
