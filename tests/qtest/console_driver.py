# SPDX-License-Identifier: Apache-2.0
"""A driver of virtio-serial, through the registers of its PCI function; and a machine to run it in."""

from __future__ import annotations

from typing import Any

from qdevpy.backend.chardev import Chardev
from qdevpy.backend.chardev_ringbuf import RingbufChardev
from qdevpy.testing.driver import LegacyDriver, ModernDriver
from qdevpy.testing.machine import FakeMachine
from qdevpy.testing.rings import DriverQueue
from qdevpy.virtio.pci_types import device_types_for
from qdevpy_virtio_console.control import ControlMessage
from qdevpy_virtio_console.device import VirtIOSerial
from qdevpy_virtio_console.port import VirtConsole, VirtSerialPort

DEVICE_READY, PORT_ADD, PORT_REMOVE, PORT_READY, CONSOLE_PORT, RESIZE, PORT_OPEN, PORT_NAME = range(8)
CONTROL_IN, CONTROL_OUT = 2, 3
F_SIZE, F_MULTIPORT, F_EMERG_WRITE = 1, 2, 4


class SlowChardev(RingbufChardev):
    """A ring buffer that takes as many bytes as it has credit for."""

    type_name = "slow"

    def open(self) -> None:
        super().open()
        self.credit = 0

    def do_write(self, data: Any) -> int:
        taken = data[: self.credit]
        self.credit -= len(taken)
        return super().do_write(taken) if len(taken) else 0

    def give(self, credit: int) -> None:
        self.credit += credit
        self.writable()


class SerialMachine(FakeMachine):
    """A machine with a controller ``vser0`` of four ports."""

    def __init__(self, variant: str = "virtio-serial-pci", **properties: Any) -> None:
        super().__init__(types={kind.name: kind for kind in device_types_for(VirtIOSerial)})
        self.proxy = self.plug_type(variant, id="vser0", **{"max_ports": 4, **properties})
        self.bus = self.find_bus("vser0.0")

    @property
    def serial(self) -> VirtIOSerial:
        device = self.proxy.device
        assert isinstance(device, VirtIOSerial)
        return device

    def chardev(self, name: str, cls: type[Chardev] = RingbufChardev, **options: Any) -> Any:
        return self.open_backend(cls(id=name), **options)

    def console(self, chardev: Chardev | None, **options: Any) -> VirtConsole:
        return self._plug(VirtConsole(), chardev, options)

    def serialport(self, chardev: Chardev | None, **options: Any) -> VirtSerialPort:
        return self._plug(VirtSerialPort(), chardev, options)

    def _plug(self, port: Any, chardev: Chardev | None, options: dict[str, Any]) -> Any:
        port.chardev = chardev
        return self.plug_device(port, self.bus, **options)


class SerialDriver:
    """What a guest's driver does.

    :ivar registers: the legacy or modern driver of the function
    """

    def __init__(self, machine: SerialMachine, kind: type[LegacyDriver] | type[ModernDriver]) -> None:
        self.machine = machine
        self.registers = kind(machine, machine.proxy)

    def start(self, features: int | None = None, *, msix: bool = False) -> None:
        """Up to DRIVER_OK, with buffers for control messages."""
        self.registers.start(F_MULTIPORT if features is None else features, msix=msix)
        for _ in range(16):
            self.queue(CONTROL_IN).add(writable=[64])
        self.queue(CONTROL_IN).kick()

    def queue(self, index: int) -> DriverQueue:
        return self.registers.queues[index]

    def port_queues(self, number: int) -> tuple[DriverQueue, DriverQueue]:
        first = 0 if number == 0 else 2 * number + 2
        return self.queue(first), self.queue(first + 1)

    def control(self, port: int, event: int, value: int = 1) -> list[tuple[Any, ...]]:
        """Send a control message; the answers that are there when the register write returns."""
        self.queue(CONTROL_OUT).add([ControlMessage(port, event, value).encode()])
        self.queue(CONTROL_OUT).kick()
        return self.messages()

    def messages(self) -> list[tuple[Any, ...]]:
        """Control messages that have come; their buffers are offered again."""
        found = []
        for data in self.taken(CONTROL_IN):
            message = ControlMessage.decode(data)
            assert message is not None
            found.append(tuple(message) if message.payload else tuple(message)[:3])
            self.queue(CONTROL_IN).add(writable=[64])
        self.queue(CONTROL_IN).kick()
        return found

    def taken(self, index: int) -> list[bytes]:
        """What the device wrote into each chain that it has given back since the last call."""
        queue = self.queue(index)
        queue.collect()
        heads, queue.order = queue.order, []
        return [queue.read(head)[: queue.done.pop(head)] for head in heads]

    def open(self, *ports: int) -> None:
        """The whole handshake, and the guest's side of PORTS open."""
        self.control(0, DEVICE_READY)
        for port in ports:
            self.control(port, PORT_READY)
            self.control(port, PORT_OPEN)

    def send(self, port: int, *data: bytes) -> bool:
        """Output in one chain; whether the device had it used when the register write returned."""
        _, output = self.port_queues(port)
        output.collect()
        output.add(data)
        output.kick()
        return output.collect() > 0

    def offer(self, port: int, *sizes: int) -> None:
        """Buffers for input."""
        for size in sizes:
            self.port_queues(port)[0].add(writable=[size])
        self.port_queues(port)[0].kick()

    def received(self, port: int) -> list[bytes]:
        """Input, buffer by buffer."""
        return self.taken(0 if port == 0 else 2 * port + 2)
