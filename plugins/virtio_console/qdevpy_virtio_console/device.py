# SPDX-License-Identifier: Apache-2.0
"""The controller: queues, features, config space and control messages (virtio 1.2, section 5.3).

Queues: 0 and 1 carry port 0 to and from the driver, 2 and 3 the control messages, 2n+2 and 2n+3 port n.

Drivers spin on a queue until the device has taken a message (Linux does, with interrupts off, for every
line of a console). So no kick may wait for another thread: ioeventfd is forbidden, and a kick is served
inside the register write that makes it.
"""

from __future__ import annotations

import itertools
import logging
import struct
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import attrs

from qdevpy.qdev import property as prop
from qdevpy.qdev.device import Notification
from qdevpy.virtio import defs
from qdevpy.virtio.device import VirtIODevice
from qdevpy_virtio_console import control
from qdevpy_virtio_console.bus import VirtIOSerialBus
from qdevpy_virtio_console.control import ControlMessage

if TYPE_CHECKING:
    from qdevpy.virtio.queue import VirtQueue
    from qdevpy_virtio_console.port import SerialPort

log = logging.getLogger(__name__)

# 5.3.3 Feature bits
F_SIZE = 0
F_MULTIPORT = 1
F_EMERG_WRITE = 2

CONTROL_IN, CONTROL_OUT = 2, 3
PORT_QUEUE_SIZE = 128
CONTROL_QUEUE_SIZE = 32

#: queues go up to QEMU's VIRTIO_QUEUE_MAX of 1024, two a port and two for control messages
MAX_PORTS = 511

# 5.3.4 Device configuration layout: cols, rows, max_nr_ports, emerg_wr
_CONFIG = struct.Struct("<HHII")
EMERG_WR_OFFSET = 8


class VirtIOSerial(VirtIODevice):
    """``virtio-serial-pci``: up to :attr:`max_ports` ports on a bus of its own."""

    type_name: ClassVar[str] = "virtio-serial-device"
    description: ClassVar[str] = "virtio serial controller, for virtconsole and virtserialport"
    category: ClassVar[str] = "Input"
    qemu_description: ClassVar[str | None] = ""
    base_name: ClassVar[str] = "virtio-serial"
    device_id: ClassVar[int] = defs.ID_CONSOLE
    pci_class: ClassVar[int] = 0x078000
    transitional_id: ClassVar[int | None] = 0x1003
    ioeventfd: ClassVar[Notification | None] = Notification.FORBIDDEN
    pci_properties: ClassVar[Sequence[str]] = ("ioeventfd", "vectors", "class")
    pci_vectors: ClassVar[int] = 2
    #: class code 0x0780; the two others are of devices of QEMU 0.10 and qemu-kvm
    pci_class_choices: ClassVar[Sequence[int]] = (0x0780, 0x0380, 0x00FF)
    offers_bus: ClassVar[str | None] = VirtIOSerialBus.bus_type

    max_ports: int = prop.uint32(31, name="max_ports", minimum=1, maximum=MAX_PORTS, help="ports, 0 to one less")
    emergency_write: bool = prop.bit("features", F_EMERG_WRITE, True, help="offer VIRTIO_CONSOLE_F_EMERG_WRITE")
    console_size: bool = prop.bit(
        "features", F_SIZE, False, dynamic=True, help="offer VIRTIO_CONSOLE_F_SIZE; Linux before 6.15 mixes up columns and rows"
    )

    bus: VirtIOSerialBus = attrs.field(default=None, init=False)
    _driver_ready: bool = attrs.field(default=False, init=False)
    _outbox: deque[ControlMessage] = attrs.field(factory=deque, init=False)
    _complained: bool = attrs.field(default=False, init=False)

    # -- life cycle

    def do_realize(self) -> None:
        """Queues for as many ports as there may ever be, and the bus."""
        for index in range(2 * self.max_ports + 2):  # with one port too, as QEMU
            if index in (CONTROL_IN, CONTROL_OUT):
                self.add_queue(CONTROL_QUEUE_SIZE, name="control-out" if index & 1 else "control-in")
            else:
                number, output = port_of_queue(index)
                self.add_queue(PORT_QUEUE_SIZE, name=f"port{number}-{'out' if output else 'in'}")
        self.bus = VirtIOSerialBus(self._bus_name(), self)
        self.add_bus(self.bus)

    def _bus_name(self) -> str:
        """``ID.0`` after the device that the user sees, else the next ``virtio-serial-bus.N``; as QEMU."""
        transport = self.parent_bus.owner if self.parent_bus is not None else None
        identity = self.id or (transport.id if transport is not None else None)
        if identity:
            return f"{identity}.0"
        for number in itertools.count():
            name = f"{VirtIOSerialBus.bus_type}.{number}"
            taken = self.machine.find_bus(name)
            if taken is None or taken.name != name:
                break
        return name

    def do_reset(self) -> None:
        """Forget what the driver said; ports reset themselves, as children."""
        self._driver_ready = False
        self._outbox.clear()
        self._complained = False

    # -- contract of virtio devices

    @property
    def vectors_wanted(self) -> int:
        """One for config changes and one a port, as QEMU (for machines older than the default of two)."""
        return self.max_ports + 1

    @classmethod
    def feature_names(cls) -> Mapping[int, str]:
        """Names of ``F_*``."""
        return defs.feature_names("VIRTIO_CONSOLE_", globals())

    def host_features(self) -> int:
        """MULTIPORT where there can be more than one port."""
        return super().host_features() | (1 << F_MULTIPORT if self.max_ports > 1 else 0)

    def get_config(self) -> bytes:
        """Terminal size of port 0 (zeros without F_SIZE), number of ports, and the emergency register."""
        columns, rows = self._console_size() or (0, 0)
        layout = _CONFIG.pack(columns & 0xFFFF, rows & 0xFFFF, self.max_ports, 0)
        return layout if self.emergency_write else layout[:EMERG_WR_OFFSET]

    def set_config(self, offset: int, data: bytes) -> None:
        """A write to emerg_wr is a character for the first console, at any time (5.3.4, 5.3.5)."""
        position = EMERG_WR_OFFSET - offset
        if not self.emergency_write or not 0 <= position < len(data) or data[position] == 0:
            return
        consoles = sorted((port for port in self.bus.ports() if port.is_console), key=lambda port: port.nr)
        if consoles:
            consoles[0].emergency_write(data[position : position + 1])

    def status_set(self, old: int, new: int) -> None:
        """DRIVER_OK opens port 0 of a driver that cannot say so itself; without DRIVER_OK no port is open."""
        if not new & defs.STATUS_DRIVER_OK:
            self._driver_ready = False
            self._outbox.clear()
            for port in self.bus.ports():
                port.forget_guest()
        elif not old & defs.STATUS_DRIVER_OK:
            first = self.bus.port(0)
            if first is not None and not self.has_multiport:
                first.set_guest_connected(True)

    def handle_output(self, queue: VirtQueue) -> None:
        """A kick; the transport makes one for every queue when it starts to serve, so what waited goes on then."""
        if not self.is_serving:
            return
        if queue.index == CONTROL_IN:
            self._send_messages()
        elif queue.index == CONTROL_OUT:
            self._take_messages(queue)
        else:
            number, output = port_of_queue(queue.index)
            port = self.bus.port(number)
            if port is None:
                if output:
                    self._discard(queue)
            elif output:
                port.serve_output()
            else:
                port.serve_input()

    def forget_queue(self, queue: VirtQueue) -> None:
        """A port may keep a chain that its chardev has no room for."""
        port = self.bus.port(port_of_queue(queue.index)[0])
        if queue.index not in (CONTROL_IN, CONTROL_OUT) and port is not None:
            port.forget_chain(queue)

    # -- for ports

    @property
    def is_serving(self) -> bool:
        """Whether queues may be touched: driver ready, VM running, ring sound."""
        return bool(self.status & defs.STATUS_DRIVER_OK) and self.broken is None and self.machine.running

    def is_started(self, queue: VirtQueue) -> bool:
        """Whether chains of a queue may be given back; not while bus mastering is off, say."""
        from qdevpy.virtio.queue import QueueState

        return queue.state is not QueueState.IDLE

    @property
    def has_multiport(self) -> bool:
        """Whether the driver knows of ports other than 0."""
        return self.has_feature(F_MULTIPORT)

    def port_queues(self, number: int) -> tuple[VirtQueue, VirtQueue]:
        """The queues of a port, to the driver and from it."""
        first = 0 if number == 0 else 2 * number + 2
        return self.queues[first], self.queues[first + 1]

    def port_plugged(self, port: SerialPort) -> None:
        """Tell the driver of a port that is plugged while it works (hot plug)."""
        if self._driver_ready:
            self.send(ControlMessage(port.nr, control.PORT_ADD, 1))
        elif port.nr == 0 and not self.has_multiport and self.status & defs.STATUS_DRIVER_OK:
            port.set_guest_connected(True)

    def port_unplugged(self, port: SerialPort) -> None:
        """Tell the driver that a port is gone."""
        self._outbox = deque(message for message in self._outbox if message.port != port.nr)
        if self._driver_ready:
            self.send(ControlMessage(port.nr, control.PORT_REMOVE, 1))

    def console_resized(self, port: SerialPort) -> None:
        """A console's terminal has another size."""
        if not self.has_feature(F_SIZE):
            return
        if port.nr == 0 and self.status & defs.STATUS_DRIVER_OK:
            self.bindings.notify_config()
        if port.is_ready:
            self._send_size(port)

    def send(self, message: ControlMessage) -> None:
        """Send a control message, now or as soon as the driver offers a buffer for it."""
        if len(self._outbox) >= 8 * self.max_ports + 8:  # the driver has stopped taking them
            self.complain("the driver takes no control messages; some are dropped")
            return
        self._outbox.append(message)
        self._send_messages()

    def complain(self, message: str) -> None:
        """Say once a reset what the guest does wrong; the rest is for debugging. It must not fill our log."""
        if self._complained:
            log.debug("%s: %s", self.label, message)
        else:
            self.blame_driver(message)
        self._complained = True

    # -- control messages

    def _send_messages(self) -> None:
        if not self.is_serving:
            return
        queue = self.queues[CONTROL_IN]
        while self._outbox and (element := queue.pop()) is not None:
            data = self._outbox.popleft().encode()
            written = element.write(data)
            if written < len(data):
                self.complain(f"a control message of {len(data)} bytes was cut to the driver's buffer of {written}")
            queue.push(element, written)
        queue.flush()

    def _take_messages(self, queue: VirtQueue) -> None:
        for _ in range(queue.size):
            element = queue.pop()
            if element is None:
                break
            # only the header means anything; a copy, so that the driver cannot change it under our eyes
            message = ControlMessage.decode(element.read(0, control.HEADER_SIZE))
            if message is None:
                self.complain(f"a control message of {element.out_len} bytes, less than {control.HEADER_SIZE}; ignored")
            else:
                self._take_message(message)
            queue.push(element, 0)
        else:  # another vCPU keeps on adding: let others have the lock
            self.machine.loop.call_once_soon(self._take_more_messages)
        queue.flush()

    def _take_more_messages(self) -> None:
        self.handle_output(self.queues[CONTROL_OUT])

    def _take_message(self, message: ControlMessage) -> None:
        if message.event == control.DEVICE_READY:
            if message.value:
                self._driver_ready = True
                for each in self.bus.ports():
                    self.send(ControlMessage(each.nr, control.PORT_ADD, 1))
            else:
                self.complain("the driver failed to set the device up")
            return
        port = self.bus.port(message.port)
        if port is None:
            self.complain(f"control message {message.event} for port {message.port}, which is not there; ignored")
        elif message.event == control.PORT_READY:
            if message.value:
                self._port_ready(port)
            else:
                self.complain(f"the driver failed to set port {port.nr} up")
        elif message.event == control.PORT_OPEN:
            port.set_guest_connected(bool(message.value))
        else:
            self.complain(f"control message {message.event} is not the driver's to send; ignored")

    def _port_ready(self, port: SerialPort) -> None:
        """The driver has set a port up: everything that there is to know about it."""
        port.is_ready = True
        if port.is_console:
            self.send(ControlMessage(port.nr, control.CONSOLE_PORT, 1))
            self._send_size(port)
        if port.port_name:
            self.send(control.name_message(port.nr, port.port_name))
        if port.host_connected:
            self.send(ControlMessage(port.nr, control.PORT_OPEN, 1))

    def _send_size(self, port: SerialPort) -> None:
        size = port.terminal_size
        if size is not None and self.has_feature(F_SIZE):
            self.send(control.resize_message(port.nr, *size))

    # -- the rest

    def _console_size(self) -> tuple[int, int] | None:
        port = self.bus.port(0) if self.console_size else None
        return port.terminal_size if port is not None else None

    def _discard(self, queue: VirtQueue) -> None:
        for _ in range(queue.size):
            element = queue.pop()
            if element is None:
                break
            queue.push(element, 0)
        queue.flush()


def port_of_queue(index: int) -> tuple[int, bool]:
    """The number of the port that a queue belongs to, and whether it carries output (5.3.2)."""
    return (0 if index < 2 else index // 2 - 1), bool(index & 1)
