# SPDX-License-Identifier: Apache-2.0
"""Ports: what carries bytes between a pair of queues and a chardev.

::

    guest --tx queue--> serve_output() --write()--> chardev     chardev full: the chain is kept, nothing more is popped
    guest <--rx queue-- serve_input() <--receive()-- chardev    no buffers, or the guest's side closed: can_receive() is 0
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, ClassVar

import attrs

from qdevpy.qdev import property as prop
from qdevpy.qdev.device import Device
from qdevpy_virtio_console import control
from qdevpy_virtio_console.bus import ANY_NUMBER, VirtIOSerialBus
from qdevpy_virtio_console.control import ControlMessage

if TYPE_CHECKING:
    from qdevpy.backend.chardev import Chardev
    from qdevpy.virtio.queue import Element, VirtQueue
    from qdevpy_virtio_console.device import VirtIOSerial

#: bytes that a chardev gets in one piece
CHUNK = 65536
#: bytes (a chain counts 64 more) that one kick carries; the rest goes from the main loop, so that a guest
#: cannot keep the VM lock for as long as it likes
OUTPUT_BUDGET = 1 << 20
#: bytes of input that one turn takes from the chardev
INPUT_LIMIT = 4096


class SerialPort(Device):
    """Base of the two sorts of ports.

    :cvar is_console: the driver makes it a console (``/dev/hvc0``); its host side is always open, as in QEMU
    :ivar serial: the controller
    :ivar is_ready: the driver has set the port up (PORT_READY)
    :ivar guest_connected: somebody in the guest has it open
    :ivar host_connected: somebody on the host has it open
    """

    type_name: ClassVar[str] = "virtio-serial-port"
    category: ClassVar[str] = "Input"
    qemu_description: ClassVar[str | None] = ""
    abstract: ClassVar[bool] = True
    bus_type: ClassVar[str | None] = VirtIOSerialBus.bus_type
    is_console: ClassVar[bool] = False

    nr: int = prop.uint32(ANY_NUMBER, help="its number on the bus; 4294967295: the next free one")
    port_name: str | None = prop.string(name="name", help="what the guest finds it by: /dev/virtio-ports/NAME")

    chardev: Chardev | None = attrs.field(default=None, init=False)
    serial: VirtIOSerial = attrs.field(default=None, init=False)
    is_ready: bool = attrs.field(default=False, init=False)
    guest_connected: bool = attrs.field(default=False, init=False)
    host_connected: bool = attrs.field(default=False, init=False)
    _in: VirtQueue = attrs.field(default=None, init=False)
    _out: VirtQueue = attrs.field(default=None, init=False)
    _input: bytearray = attrs.field(factory=bytearray, init=False)
    _chain: Element | None = attrs.field(default=None, init=False)
    _parts: deque[memoryview] = attrs.field(factory=deque, init=False)
    _throttled: bool = attrs.field(default=False, init=False)

    # -- life cycle

    def do_realize(self) -> None:
        """Take the queues of its number, and the chardev."""
        assert isinstance(self.parent_bus, VirtIOSerialBus)
        self.serial = self.parent_bus.serial
        self._in, self._out = self.serial.port_queues(self.nr)
        if self.chardev is not None:
            self.chardev.take(self.label)
            self.cleanup.callback(self.chardev.release)
            self.chardev.attach(self._can_receive, self._receive, self._chardev_event)
            self.cleanup.callback(self.chardev.detach)
            self.chardev.frontend_open = self.is_console
            if self.is_console:
                self.host_connected = True
        self.serial.port_plugged(self)

    def do_unrealize(self) -> None:
        """Give the driver its buffer back before it is told, and touch no queue afterwards."""
        self.host_connected = False
        self._throttled = False
        self.serve_output()
        self.forget_guest()
        self.serial.port_unplugged(self)

    def do_reset(self) -> None:
        """The guest has nothing open."""
        self.forget_guest()

    def describe(self) -> list[str]:
        """As QEMU's ``info qtree``."""
        states = (("guest", self.guest_connected), ("host", self.host_connected), ("throttle", self._throttled))
        return [f"port {self.nr}, " + ", ".join(f"{name} {'on' if on else 'off'}" for name, on in states)]

    # -- for the controller

    def forget_guest(self) -> None:
        """The driver is gone: drop what is in flight; its rings are no longer to be touched."""
        self.is_ready = False
        self._chain = None
        self._parts.clear()
        self._throttled = False
        if self.chardev is not None:
            self.chardev.on_writable(None)
        self.set_guest_connected(False)

    def forget_chain(self, queue: VirtQueue) -> None:
        """The driver resets a queue of ours: what of it is in hand is gone; input stays for buffers to come."""
        if queue is self._out:
            self._chain = None
            self._parts.clear()

    def set_guest_connected(self, connected: bool) -> None:
        """The guest opened or closed the port. Input that it has not got by then is lost, as in QEMU."""
        if connected == self.guest_connected:
            return
        self.guest_connected = connected
        self._input.clear()
        if self.chardev is not None:
            self.chardev.set_guest_open(connected)
            self.chardev.frontend_open = connected or self.is_console
            self.chardev.resume()
        if self.id and self.machine is not None:
            from qdevpy.vm.event_types import VserportChange

            self.machine.events.emit(VserportChange(self.id, connected))

    def emergency_write(self, data: bytes) -> None:
        """Output past the queues, whatever state they are in; lost where the chardev takes nothing now."""
        if self.chardev is not None:
            self.chardev.write(data)

    @property
    def terminal_size(self) -> tuple[int, int] | None:
        """Columns and rows at the host's side; None where not known."""
        return self.chardev.terminal_size if self.chardev is not None else None

    # -- guest to host

    def serve_output(self) -> None:
        """Carry what the guest sent, until there is no more, or the chardev takes no more."""
        if self._throttled or not self.serial.is_serving or not self.serial.is_started(self._out):
            return
        budget = OUTPUT_BUDGET
        while budget > 0 and not self._throttled:
            if self._chain is None and not self._next_chain():
                break
            budget -= self._send_parts(budget) + 64
            if self._chain is not None and not self._parts:
                self._out.push(self._chain, 0)
                self._chain = None
        else:
            if not self._throttled:
                self.machine.loop.call_once_soon(self.serve_output)
        self._out.flush()

    def _next_chain(self) -> bool:
        self._chain = self._out.pop()
        if self._chain is not None:
            self._parts.extend(self._chain.readable)
        return self._chain is not None

    def _send_parts(self, limit: int) -> int:
        """Send of the chain in hand about LIMIT bytes; returns how many."""
        if not self.host_connected or self.chardev is None:
            self._parts.clear()
        sent = 0
        while self._parts and sent < limit:
            part = self._parts[0]
            offered = min(len(part), CHUNK)
            taken = self.chardev.write(part[:offered]) if self.chardev is not None else offered
            sent += taken
            if taken == len(part):
                self._parts.popleft()
            else:
                self._parts[0] = part[taken:]
            if taken < offered:
                self._throttle()
                break
        return sent

    def _throttle(self) -> None:
        assert self.chardev is not None
        self._throttled = True
        self.chardev.on_writable(self._unthrottle)

    def _unthrottle(self) -> None:
        self._throttled = False
        self.serve_output()

    # -- host to guest

    def serve_input(self) -> None:
        """The driver has added buffers: fill them."""
        self._fill()
        if self.chardev is not None and not self._input:
            self.chardev.resume()

    def _can_receive(self) -> int:
        if self._input or not self.guest_connected or not self.serial.is_serving:
            return 0
        # asks for a kick where there is no buffer, and looks once more
        return INPUT_LIMIT if self._in.set_kicks_enabled(True) else 0

    def _receive(self, data: bytes) -> None:
        self._input += data
        self._fill()

    def _fill(self) -> None:
        """Input into the driver's buffers; what finds no room waits here for the next ones."""
        if not self.serial.is_serving:
            return
        for _ in range(self._in.size):
            if not self._input:
                break
            element = self._in.pop()
            if element is None:
                break
            written = element.write(bytes(self._input))
            self._in.push(element, written)
            del self._input[:written]
        self._in.flush()

    # -- the host's side

    def _chardev_event(self, event: str) -> None:
        if event == "resized" and self.is_console:
            self.serial.console_resized(self)
        elif event in ("opened", "closed") and not self.is_console:
            self._set_host_connected(event == "opened")

    def _set_host_connected(self, connected: bool) -> None:
        """Tell the driver, once it knows the port; what it sent to who is gone is discarded."""
        if connected == self.host_connected:
            return
        self.host_connected = connected
        if self.is_ready:
            self.serial.send(ControlMessage(self.nr, control.PORT_OPEN, int(connected)))
        if not connected:
            self._throttled = False
            self.serve_output()


class VirtSerialPort(SerialPort):
    """A serial port with a name: ``/dev/vport0p1`` and ``/dev/virtio-ports/NAME`` in Linux."""

    type_name: ClassVar[str] = "virtserialport"
    description: ClassVar[str] = "named port on a virtio serial controller"

    chardev: Chardev | None = prop.chardev(help="where its bytes go and come from; none: output is discarded")


class VirtConsole(VirtSerialPort):
    """A console: ``/dev/hvc0`` in Linux."""

    type_name: ClassVar[str] = "virtconsole"
    description: ClassVar[str] = "console on a virtio serial controller"
    is_console: ClassVar[bool] = True
