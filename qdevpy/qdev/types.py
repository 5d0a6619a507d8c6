# SPDX-License-Identifier: Apache-2.0
"""Device types: what ``devices:`` entries name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import attrs

from qdevpy.errors import PluginError
from qdevpy.qdev.device import Device, Notification
from qdevpy.qdev.property import Property


@attrs.define(slots=False, eq=False)
class DeviceType:
    """One name that users may write under ``devices:``.

    :ivar bus: sort of bus it plugs into; None: none
    :ivar ioeventfd: notification policy; None where there are no queues
    :ivar provider: distribution that offers it
    :ivar create: makes a device in state CREATED
    :ivar alias: another name that users may write (QEMU's qdev_alias_table); None: there is none
    """

    name: str
    bus: str | None
    description: str
    ioeventfd: Notification | None
    create: Callable[[], Device]
    provider: str = "qdevpy"
    user_creatable: bool = True
    alias: str | None = None

    @cached_property
    def properties(self) -> Mapping[str, Property]:
        """All that the user may set, by name; a device is made to find out, when it is first asked for.

        :raises PluginError: the class does not even let itself be created
        """
        try:
            return self.create().all_properties()
        except Exception as error:  # somebody else's code: it may raise anything
            raise PluginError(f"device type '{self.name}' of {self.provider}: {type(error).__name__}: {error}") from error

    @classmethod
    def of(cls, device_class: type[Device], provider: str = "qdevpy") -> DeviceType:
        """The type of a plain device class (virtio devices: ``qdevpy.virtio.pci_types``)."""
        return cls(
            name=device_class.type_name,
            bus=device_class.bus_type,
            description=device_class.description,
            ioeventfd=device_class.ioeventfd,
            create=device_class,
            provider=provider,
            user_creatable=device_class.user_creatable,
        )
