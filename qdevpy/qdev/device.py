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

import enum
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from qdevpy.qdev.object import Object

if TYPE_CHECKING:
    from qdevpy.qdev.bus import Bus
    from qdevpy.qdev.work import DeviceTimer, DeviceWork, Job
    from qdevpy.vm.machine import Machine

log = logging.getLogger(__name__)


class DeviceState(enum.Enum):
    """Where in its life a device is."""

    CREATED = "created"
    REALIZED = "realized"
    UNREALIZED = "unrealized"


class Notification(enum.Enum):
    """Whether a device's transport may use ioeventfds for its queues' kicks."""

    ALLOWED = "allowed"
    FORBIDDEN = "forbidden"


class Device(Object):
    """Base class of all devices. Subclasses declare properties and override the ``do_`` methods.

    :ivar parent_bus: the bus it is plugged into; None for the root's own devices until plugged
    :ivar child_buses: the buses it offers
    :ivar machine: the machine it is part of; set before realize
    :ivar qom_parent: what it is a part of in the composition tree: another device, or a container's path; None: nowhere
    :ivar qom_name: its name there
    :ivar hotplugged: it came while the machine was there already
    :ivar leaving: the guest has been asked to let it go
    :ivar parts: devices that are part of this one, by name

    :cvar bus_type: the sort of bus it plugs into (``PCI``, ``ISA``, ``virtio-serial-bus``); None: none
    :cvar offers_bus: the sort of bus it offers (``virtio-serial-bus``), named ``ID.0`` and so on; None: none
    :cvar bus_has_device_id: the bus it offers is named ``ID``
    :cvar ioeventfd: notification policy; None where the device has no queues
    :cvar category: QEMU's name of the group that ``-device help`` lists it in (``Storage``); empty: in none
    :cvar qemu_description: what ``-device help`` says of it, where that is not ``description``; empty: nothing
    :cvar user_creatable: False for parts of a board
    :cvar abstract: there are no devices of this class itself, only of those that derive from it; not inherited
    :cvar gpios: its interrupt lines for ``info qtree``: ``("in" or "out", name, how many)``
    """

    bus_type: ClassVar[str | None] = None
    offers_bus: ClassVar[str | None] = None
    bus_has_device_id: ClassVar[bool] = False
    ioeventfd: ClassVar[Notification | None] = None
    category: ClassVar[str] = ""
    qemu_description: ClassVar[str | None] = None
    user_creatable: ClassVar[bool] = True
    abstract: ClassVar[bool] = False
    gpios: ClassVar[Sequence[tuple[str, str, int]]] = ()

    parent_bus: Bus | None = attrs.field(default=None, init=False)
    child_buses: list[Bus] = attrs.field(factory=list, init=False)
    state: DeviceState = attrs.field(default=DeviceState.CREATED, init=False)
    cleanup: ExitStack = attrs.field(factory=ExitStack, init=False)
    machine: Machine = attrs.field(default=None, init=False)
    hotplugged: bool = attrs.field(default=False, init=False)
    leaving: bool = attrs.field(default=False, init=False)
    qom_parent: Device | str | None = attrs.field(default=None, init=False)
    qom_name: str = attrs.field(default="", init=False)
    parts: dict[str, Device] = attrs.field(factory=dict, init=False)
    _work: DeviceWork | None = attrs.field(default=None, init=False)

    @property
    def is_realized(self) -> bool:
        """Whether the device is in the machine."""
        return self.state is DeviceState.REALIZED

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
        if self._work is not None:
            self._work.cancel()
        self.do_reset()

    def do_realize(self) -> None:
        """Override: check properties, allocate, register. Put what must be undone on ``self.cleanup``."""

    def do_unrealize(self) -> None:
        """Override: stop working. ``cleanup`` is run afterwards."""

    def do_reset(self) -> None:
        """Override: back to the state after power-on."""

    def vm_state_changed(self, running: bool) -> None:
        """Override: the VM starts or stops running. Called with the VM lock held; stop must drain."""

    @property
    def requests_in_flight(self) -> int:
        """Override: requests that the host is carrying out, whose end a stop waits for. Any thread, a glance without locks."""
        return 0 if self._work is None else self._work.in_flight

    # -- for subclasses to use

    def timer(self, callback: Callable[[], object]) -> DeviceTimer:
        """A timer in virtual time, not set yet; a reset stops it. CALLBACK is called with the VM lock held."""
        return self._my_work().add_timer(callback)

    def background(
        self, function: Callable[..., Any], *args: Any, then: Callable[[Any], object] | None = None, lasting: bool = False
    ) -> Job:
        """Call FUNCTION with ARGS on a thread of the device's own; THEN with its result on the main loop, the VM lock held.

        Functions run one after the other; coroutine functions side by side, on an event loop. FUNCTION must leave the
        device's state and guest memory alone. A reset drops what is under way; what it raises fails the device.

        :param lasting: it goes on for as long as it likes, and a stop of the machine does not wait for it
        """
        from qdevpy.qdev.work import Job

        job = Job(partial(function, *args), then, lasting=lasting)
        self._my_work().submit(job)
        return job

    def _my_work(self) -> DeviceWork:
        if self._work is None:
            from qdevpy.qdev.work import DeviceWork

            self._work = DeviceWork(self)
            self.cleanup.callback(self._work.close)
        return self._work

    def contain(self, callback: Callable[[], object], what: str) -> None:
        """Call; a device that raises fails alone.

        :param what: is called: ``timer``
        """
        watchdog = self.machine.watchdog
        before = watchdog.enter((self, str, (what,)))
        try:
            callback()
        except Exception as error:  # somebody's device: the machine goes on
            self.callback_failed(error, what)
        finally:
            watchdog.leave(before)

    def callback_failed(self, error: Exception, what: str) -> None:
        """Override: code of the device raised ERROR while it did WHAT. With the VM lock held; the device's part is to stop."""
        log.error("%s: in %s", self.label, what, exc_info=error)

    # -- tree

    @property
    def qom_path(self) -> str:
        """Its path in the composition tree (``/machine/peripheral/disk0``); empty where it is not part of a machine."""
        if isinstance(self.qom_parent, Device):
            return f"{self.qom_parent.qom_path}/{self.qom_name}"
        return f"{self.qom_parent}/{self.qom_name}" if self.qom_parent else ""

    def add_part(self, name: str, part: Device) -> None:
        """Make another device a part of this one in the composition tree."""
        self.parts[name] = part
        part.qom_parent, part.qom_name = self, name

    def add_bus(self, bus: Bus) -> Bus:
        """Offer a child bus."""
        self.child_buses.append(bus)
        return bus

    def walk(self) -> Iterator[Device]:
        """The device and all below it, parents first."""
        yield self
        for bus in self.child_buses:
            for child in bus.children:
                yield from child.walk()

    def describe(self) -> list[str]:
        """Override: extra lines for ``qdevpy tree`` (PCI: class, address, BARs)."""
        return []
