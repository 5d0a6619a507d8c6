# SPDX-License-Identifier: Apache-2.0
"""A controller without a transport: queues are real, registers are not there. Quick, and close to the code."""

import struct
import threading

import pytest

from qdevpy.backend.chardev import Chardev
from qdevpy.native.memory import GuestMemory
from qdevpy.virtio import defs
from qdevpy.virtio.bindings import TransportBindings
from qdevpy.vm.events import Events
from qdevpy.vm.loop import MainLoop
from qdevpy.vm.watchdog import Watchdog
from qdevpy_virtio_console.control import ControlMessage
from qdevpy_virtio_console.device import CONTROL_IN, CONTROL_OUT, VirtIOSerial
from qdevpy_virtio_console.port import VirtConsole, VirtSerialPort

MIB = 1 << 20
READY = defs.STATUS_ACKNOWLEDGE | defs.STATUS_DRIVER | defs.STATUS_FEATURES_OK | defs.STATUS_DRIVER_OK


class SlowChardev(Chardev):
    """Takes as much output as it has credit for; input comes from :meth:`type`."""

    type_name = "slow"

    def open(self):
        self.credit = 1 << 30
        self.written = b""
        self.waiting = b""
        self.guest_open = []
        self.size = None
        self.is_open = True

    def do_write(self, data):
        taken = bytes(data[: self.credit])
        self.credit -= len(taken)
        self.written += taken
        return len(taken)

    def give(self, credit):
        self.credit += credit
        self.writable()

    def type(self, data):
        self.waiting += data
        self.resume()

    def resume(self):
        while self.waiting and (room := self.room()) > 0:
            part, self.waiting = self.waiting[:room], self.waiting[room:]
            self.deliver(part)

    def set_guest_open(self, opened):
        self.guest_open.append(opened)

    @property
    def terminal_size(self):
        return self.size


class DirectBindings(TransportBindings):
    """A transport that starts queues at DRIVER_OK and remembers interrupts."""

    def __init__(self, device):
        self.device = device
        self.interrupts = []
        self.config_changes = 0

    def notify(self, index):
        self.interrupts.append(index)

    def notify_queue(self, queue):
        self.notify(queue.index)

    def notify_config(self):
        self.config_changes += 1

    def set_host_notifier(self, index, taken):
        return None

    def set_guest_notifiers(self, assign):
        return []

    def save(self):
        return {}

    def load(self, state):
        pass

    def vm_state_changed(self, running):
        self.update()

    def status_changed(self, old, new):
        self.update()

    def update(self):
        serve = self.device.status & defs.STATUS_DRIVER_OK and self.device.machine.running
        for queue in self.device.queues:
            if serve:
                queue.start()
            else:
                queue.stop()
        for queue in self.device.queues:
            queue.kick()


class DriverQueue:
    """The driver's side of one queue: every chain has a descriptor table slot of its own, round and round."""

    def __init__(self, memory, queue, base, buffers):
        self.memory, self.queue = memory, queue
        self.desc, self.avail, self.used = base, base + 0x1000, base + 0x2000
        self.next_buffer = self.first_buffer = buffers
        self.avail_idx = self.used_seen = self.next_desc = 0
        self.chains = {}
        memory.write(base, bytes(0x4000))
        queue.desc, queue.avail, queue.used, queue.enabled = self.desc, self.avail, self.used, True

    def add(self, out=(), into=()):
        """Offer a chain: OUT is a list of bytes, INTO a list of sizes. Returns its head."""
        parts = [(data, len(data), 0) for data in out] + [(None, size, 2) for size in into]
        head = self.next_desc
        addresses = []
        for number, (data, size, flags) in enumerate(parts):
            if self.next_buffer + size > self.first_buffer + 0x20000:
                self.next_buffer = self.first_buffer
            address, self.next_buffer = self.next_buffer, self.next_buffer + size
            if data is not None:
                self.memory.write(address, data)
            addresses.append((address, size, flags))
            last = number == len(parts) - 1
            slot = (head + number) % self.queue.size
            self.memory.write(
                self.desc + 16 * slot, struct.pack("<QIHH", address, size, flags | (not last), (slot + 1) % self.queue.size)
            )
        self.next_desc = (head + len(parts)) % self.queue.size
        self.memory.write(self.avail + 4 + 2 * (self.avail_idx % self.queue.size), struct.pack("<H", head))
        self.avail_idx = (self.avail_idx + 1) & 0xFFFF
        self.memory.write(self.avail + 2, struct.pack("<H", self.avail_idx))
        self.chains[head] = [a for a in addresses if a[2] & 2]
        return head

    def used_idx(self):
        return struct.unpack("<H", self.memory.read(self.used + 2, 2))[0]

    def take(self):
        """What the device wrote into the chains that it gave back since the last call, chain by chain."""
        found = []
        while self.used_seen != self.used_idx():
            head, length = struct.unpack("<II", self.memory.read(self.used + 4 + 8 * (self.used_seen % self.queue.size), 8))
            data = b"".join(self.memory.read(address, size) for address, size, _ in self.chains.pop(head))
            found.append(data[:length])
            self.used_seen = (self.used_seen + 1) & 0xFFFF
        return found


class Guest:
    """A machine with one controller, and its driver."""

    def __init__(self, **options):
        self.lock = threading.RLock()
        self.loop = MainLoop(self.lock)
        self.watchdog = Watchdog()
        self.memory = GuestMemory()
        self.memory.add_ram(0, 32 * MIB)
        self.running = True
        self.events = Events()
        self.buses = []
        self.device = VirtIOSerial()
        for name, value in options.items():
            self.device.set_property(name.replace("__", "-"), value)
        self.device.machine = self
        self.bindings = self.device.bindings = DirectBindings(self.device)
        self.device.realize()
        self.bus = self.device.bus

    def find_bus(self, name):
        return next((bus for bus in self.buses if bus.name == name), None)

    def close(self):
        if self.device.is_realized:
            self.device.unrealize()
        self.memory.close()
        self.loop.close()

    def chardev(self, name="c0"):
        made = SlowChardev(id=name)
        made.machine = self
        made.open()
        return made

    def plug(self, cls, chardev=None, **options):
        port = cls()
        for name, value in options.items():
            port.set_property(name, value)
        port.chardev = chardev
        port.machine = self
        self.bus.plug(port)
        return port

    def console(self, chardev=None, **options):
        return self.plug(VirtConsole, chardev, **options)

    def serialport(self, chardev=None, **options):
        return self.plug(VirtSerialPort, chardev, **options)

    def start(self, features=None, control_buffers=32, early_buffers=()):
        """What a driver does up to DRIVER_OK; FEATURES None: all that are offered."""
        self.device.features = (
            self.device.host_features() & ~(1 << defs.F_RING_EVENT_IDX) | 1 << 32 if features is None else features
        )
        self.q = [
            DriverQueue(self.memory, queue, MIB + n * 0x4000, 4 * MIB + n * 0x20000) for n, queue in enumerate(self.device.queues)
        ]
        for _ in range(control_buffers):
            self.q[CONTROL_IN].add(into=[256])
        for size in early_buffers:
            self.q[0].add(into=[size])
        self.device.write_status(READY)
        self.loop.run_once(0)

    def kick(self, index):
        with self.lock:
            self.device.queues[index].kick()

    def control(self, port, event, value=1):
        """Send a control message; returns what the device has answered by the time the kick returns."""
        return self.raw_control(ControlMessage(port, event, value).encode())

    def raw_control(self, data):
        before = self.q[CONTROL_OUT].used_idx()
        self.q[CONTROL_OUT].add(out=[data])
        self.kick(CONTROL_OUT)
        assert self.q[CONTROL_OUT].used_idx() == (before + 1) & 0xFFFF, "the kick returned before the message was taken"
        return self.messages()

    def messages(self):
        """Control messages that have arrived, as (port, event, value) or (port, event, value, payload)."""
        found = []
        for data in self.q[CONTROL_IN].take():
            self.q[CONTROL_IN].add(into=[256])
            message = tuple(ControlMessage.decode(data))
            found.append(message if message[3] else message[:3])
        self.kick(CONTROL_IN)
        return found

    def send(self, queue, *chunks):
        """Output on a queue, one chain; whether it was taken when the kick returned."""
        before = self.q[queue].used_idx()
        self.q[queue].add(out=list(chunks))
        self.kick(queue)
        return self.q[queue].used_idx() != before

    def offer(self, queue, *sizes):
        """Buffers for input, a chain each."""
        for size in sizes:
            self.q[queue].add(into=[size])
        self.kick(queue)

    def received(self, queue):
        return self.q[queue].take()


@pytest.fixture
def guest_with():
    """Makes guests with a controller of given properties."""
    made = []

    def make(**options):
        made.append(Guest(**options))
        return made[-1]

    yield make
    for guest in made:
        guest.close()


@pytest.fixture
def guest(guest_with):
    return guest_with()
