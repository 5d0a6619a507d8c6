# SPDX-License-Identifier: Apache-2.0
"""Back ends: an entry of ``drives:``, ``netdevs:`` or ``chardevs:``; options are properties, checked like a device's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import attrs

from qdevpy.errors import BackendError
from qdevpy.qdev.object import Object

if TYPE_CHECKING:
    from qdevpy.vm.machine import Machine


class Backend(Object):
    """Base class of back ends. ``id`` is the entry's name.

    :cvar section: ``drives``, ``netdevs`` or ``chardevs``
    :cvar required: options that must be given (``file``), alternatives with ``|`` between; checked when the definition is read
    :ivar hotplugged: it comes while the machine is there already
    :ivar user: the label of the device that took it; a back end serves one device
    """

    section: ClassVar[str] = ""
    required: ClassVar[Sequence[str]] = ()
    machine: Machine = attrs.field(default=None, init=False)
    hotplugged: bool = attrs.field(default=False, init=False)
    user: str | None = attrs.field(default=None, init=False)

    @property
    def name(self) -> str:
        """The entry's name."""
        return self.id or self.type_name

    def before_open(self) -> None:
        """Override: what comes before :meth:`open`, whatever the type.

        :raises BackendError: as :meth:`open`
        """

    def after_close(self) -> None:
        """Override: undo :meth:`before_open`."""

    def open(self) -> None:
        """Override: open what the options name. ``machine`` is set; called before any device exists.

        :raises BackendError: names the entry, what was given and what the host said
        """

    def close(self) -> None:
        """Override: give it back. Called once, after all devices are gone."""

    def removed(self) -> None:
        """Override: tell who still has it. Called once after :meth:`close`, where it went while the machine runs."""

    def removable(self) -> None:
        """Override: whether it may go while the machine runs.

        :raises BackendError: somebody uses it
        """
        if self.user is not None:
            raise BackendError(f"{self.section[:-1]} '{self.name}' is in use by {self.user}")

    def take(self, device: str) -> None:
        """A device plugs in.

        :raises BackendError: another device has it
        """
        if self.user is not None:
            raise BackendError(f"{self.section[:-1]} '{self.name}' is in use by {self.user}; give {device} one of its own")
        self.user = device

    def release(self) -> None:
        """The device is gone."""
        self.user = None
