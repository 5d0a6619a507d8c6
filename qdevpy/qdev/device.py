# SPDX-License-Identifier: Apache-2.0
"""The device: what every piece of virtual hardware is.

Life cycle::

    CREATED --set_property()*--> CREATED --realize()--> REALIZED --unrealize()--> UNREALIZED
                                    |
                                    +--realize() raises--> CREATED, nothing left behind

A device is plugged while it is REALIZED; ``reset()`` may be called any number of times then.
As QEMU's ``hw/core/qdev.c``, with a state where that has flags.
"""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from qdevpy.errors import PropertyError
from qdevpy.qdev.property import Property, properties_of

if TYPE_CHECKING:
    from qdevpy.qdev.bus import Bus
    from qdevpy.vm.machine import Machine


class DeviceState(enum.Enum):
    """Where in its life a device is."""

    CREATED = "created"
    REALIZED = "realized"
    UNREALIZED = "unrealized"


class Notification(enum.Enum):
    """Whether a device's transport may use ioeventfds for its queues' kicks."""

    ALLOWED = "allowed"
    FORBIDDEN = "forbidden"


@attrs.define(slots=False, eq=False, kw_only=True)
class Device:
    """Base class of all devices. Subclasses declare properties and override the ``do_`` methods.

    :ivar id: the user's name of it, or None
    :ivar parent_bus: the bus it is plugged into; None for the root's own devices until plugged
    :ivar child_buses: the buses it offers
    :ivar machine: the machine it is part of; set before realize

    :cvar type_name: QEMU's name of the type (``isa-serial``)
    :cvar bus_type: the sort of bus it plugs into (``PCI``, ``ISA``, ``virtio-serial-bus``); None: none
    :cvar description: one line for ``qdevpy devices``
    :cvar ioeventfd: notification policy; None where the device has no queues
    :cvar user_creatable: False for parts of a board
    """

    type_name: ClassVar[str] = ""
    bus_type: ClassVar[str | None] = None
    description: ClassVar[str] = ""
    ioeventfd: ClassVar[Notification | None] = None
    user_creatable: ClassVar[bool] = True

    id: str | None = None
    parent_bus: Bus | None = attrs.field(default=None, init=False)
    child_buses: list[Bus] = attrs.field(factory=list, init=False)
    state: DeviceState = attrs.field(default=DeviceState.CREATED, init=False)
    cleanup: ExitStack = attrs.field(factory=ExitStack, init=False)
    machine: Machine = attrs.field(default=None, init=False)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Turn the subclass's annotated properties into attrs fields; nothing to remember for authors."""
        super().__init_subclass__(**kwargs)
        attrs.define(cls, slots=False, eq=False, kw_only=True)

    @property
    def label(self) -> str:
        """How messages name this device: its id, else its type."""
        return f"{self.id} ({self.type_name})" if self.id else self.type_name

    @property
    def is_realized(self) -> bool:
        """Whether the device is in the machine."""
        return self.state is DeviceState.REALIZED

    # -- properties

    def find_property(self, name: str) -> tuple[Device, Property]:
        """The object that owns a property, and its declaration.

        :raises PropertyError: unknown; the message has the nearest valid name
        """
        for owner in self.property_owners():
            found = properties_of(type(owner)).get(name)
            if found is not None:
                return owner, found
        near = difflib.get_close_matches(name, [*self.all_properties(), "id"], 1)
        hint = f"; did you mean '{near[0]}'?" if near else f"; see 'qdevpy device {self.type_name}'"
        raise PropertyError(f"property '{name}' not found{hint}", device=self.label, name=name)

    def property_owners(self) -> Iterator[Device]:
        """Objects whose properties are this device's to the user; transports add the device behind them."""
        yield self

    def all_properties(self) -> Mapping[str, Property]:
        """All properties by name, the device's own first."""
        found: dict[str, Property] = {}
        for owner in self.property_owners():
            for name, declared in properties_of(type(owner)).items():
                found.setdefault(name, declared)
        return found

    def set_property(self, name: str, given: Any) -> None:
        """Parse and set a property.

        :param given: text, or a plain YAML scalar
        :raises PropertyError: unknown name, unacceptable value, or the device is realized
        """
        owner, declared = self.find_property(name)
        try:
            value = declared.kind.parse(given)
        except ValueError as error:
            raise PropertyError(f"property '{name}': '{given}': {error}", device=self.label, name=name) from None
        setattr(owner, declared.attribute, value)

    def get_property(self, name: str) -> Any:
        """A property's value (not its text)."""
        owner, declared = self.find_property(name)
        return getattr(owner, declared.attribute)

    # -- life cycle

    def realize(self) -> None:
        """Bring the device to life on its bus; on failure nothing of it is left behind.

        :raises RealizeError, BackendError, PropertyError: what the device cannot work with
        """
        assert self.state is DeviceState.CREATED, f"{self.label}: realize in state {self.state}"
        try:
            self.do_realize()
        except BaseException:
            self.child_buses.clear()
            self.cleanup.close()
            raise
        self.state = DeviceState.REALIZED

    def unrealize(self) -> None:
        """Take it out: children first, then the device, then whatever it put on ``cleanup``, in reverse."""
        assert self.is_realized, f"{self.label}: unrealize in state {self.state}"
        for bus in reversed(self.child_buses):
            for child in reversed(list(bus.children)):
                bus.unplug(child)
        self.state = DeviceState.UNREALIZED
        try:
            self.do_unrealize()
        finally:
            self.cleanup.close()

    def reset(self) -> None:
        """Bring the device and everything below it to its state after power-on, children first."""
        for bus in self.child_buses:
            bus.reset()
        self.do_reset()

    def do_realize(self) -> None:
        """Override: check properties, allocate, register. Put what must be undone on ``self.cleanup``."""

    def do_unrealize(self) -> None:
        """Override: stop working. ``cleanup`` is run afterwards."""

    def do_reset(self) -> None:
        """Override: back to the state after power-on."""

    def vm_state_changed(self, running: bool) -> None:
        """Override: the VM starts or stops running. Called with the VM lock held; stop must drain."""

    # -- tree

    def add_bus(self, bus: Bus) -> Bus:
        """Offer a child bus."""
        self.child_buses.append(bus)
        return bus

    def walk(self) -> Iterator[Device]:
        """This device and all below, parents first."""
        yield self
        for bus in self.child_buses:
            for child in bus.children:
                yield from child.walk()

    def describe(self) -> list[str]:
        """Override: extra lines for ``qdevpy tree`` (PCI: class, address, BARs)."""
        return []
