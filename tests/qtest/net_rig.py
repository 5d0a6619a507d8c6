# SPDX-License-Identifier: Apache-2.0
"""A network card with nothing around it: the driver's side of its rings, and bindings that remember."""

import itertools
import os
import struct
import time
from types import SimpleNamespace

from qdevpy.native.iothread import IOThread
from qdevpy.native.memory import GuestMemory
from qdevpy.native.space import AddressSpace
from qdevpy.virtio import defs
from qdevpy.vm.events import Events
from qdevpy.vm.loop import MainLoop
from qdevpy.vm.watchdog import Watchdog
from qdevpy_virtio_net import numbers as n
from qdevpy_virtio_net.device import VirtIONet

RAM = 32 << 20
ALL = (1 << 64) - 1
LEGACY = ALL & ~(1 << defs.F_VERSION_1)
MAC = bytes.fromhex("525400123456")
BROADCAST = b"\xff" * 6


def without(*features, base=ALL):
    """A mask of all features but these."""
    for feature in features:
        base &= ~(1 << feature)
    return base


def frame(payload=b"", *, to=BROADCAST, sender=b"\x02\0\0\0\0\1", ethertype=0x88B5, size=60):
    """An Ethernet frame of an experimental type."""
    return (to + sender + struct.pack(">H", ethertype) + payload).ljust(size, b"\0")


class Ring:
    """The driver's side of a split virtqueue."""

    def __init__(self, rig, queue, size=None):
        self.rig, self.queue = rig, queue
        self.size = queue.size = size or queue.size_max
        self.memory = rig.memory
        self.desc = queue.desc = rig.allocate(16 * self.size)
        self.avail = queue.avail = rig.allocate(6 + 2 * self.size)
        self.used = queue.used = rig.allocate(6 + 8 * self.size)
        queue.enabled = True
        self.free = list(range(self.size))
        self.avail_idx = self.seen = 0
        self.chains = {}
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def offer(self, *buffers, kick=True):
        """Make a chain available of (address, length, writable) buffers; returns its head."""
        ids = [self.free.pop(0) for _ in buffers]
        for i, (address, length, writable) in enumerate(buffers):
            last = i == len(buffers) - 1
            flags = (0 if last else 1) | (2 if writable else 0)
            raw = struct.pack("<QIHH", address, length, flags, 0 if last else ids[i + 1])
            self.memory.write(self.desc + 16 * ids[i], raw)
        self.chains[ids[0]] = (ids, buffers)
        self.publish(ids[0])
        if kick:
            self.kick()
        return ids[0]

    def publish(self, head):
        self.memory.write(self.avail + 4 + 2 * (self.avail_idx % self.size), struct.pack("<H", head))
        self.avail_idx = (self.avail_idx + 1) & 0xFFFF
        self.memory.write(self.avail + 2, struct.pack("<H", self.avail_idx))

    def send(self, data, cuts=(), kick=True):
        """Offer DATA for the device to read, in pieces that end at CUTS."""
        address = self.rig.allocate(len(data))
        self.memory.write(address, data)
        edges = [0, *cuts, len(data)]
        return self.offer(*((address + a, b - a, False) for a, b in itertools.pairwise(edges)), kick=kick)

    def receive(self, size, pieces=1, kick=True):
        """Offer SIZE writable bytes."""
        address = self.rig.allocate(size)
        part = size // pieces
        edges = [*range(0, part * pieces, part), size]
        return self.offer(*((address + a, b - a, True) for a, b in itertools.pairwise(edges)), kick=kick)

    def kick(self):
        """As a transport does: through the host notifier where there is one, else at once."""
        if self.rig.ioeventfd and self.queue.is_native:
            os.eventfd_write(self.fd, 1)
        else:
            self.queue.kick()

    @property
    def used_idx(self):
        return struct.unpack("<H", self.memory.read(self.used + 2, 2))[0]

    @property
    def interrupts(self):
        return self.queue.counters()["interrupts"]

    def take(self):
        """The next completed chain as (head, length, bytes written); waits for it."""
        self.rig.until(lambda: self.used_idx != self.seen)
        head, length = struct.unpack("<II", self.memory.read(self.used + 4 + 8 * (self.seen % self.size), 8))
        self.seen = (self.seen + 1) & 0xFFFF
        ids, buffers = self.chains.pop(head)
        self.free += ids
        data = b"".join(self.memory.read(a, size) for a, size, writable in buffers if writable)
        return head, length, data[:length]

    def take_frame(self, header=12):
        """A received frame and its header, put together from its buffers."""
        _, _, data = self.take()
        count = struct.unpack_from("<H", data, 10)[0] if header == 12 else 1
        for _ in range(count - 1):
            data += self.take()[2]
        return data[header:], data[:header]


class NetRig:
    """A card plugged into NETDEV, its driver at DRIVER_OK.

    :param netdev: a back end, not opened yet; None: none
    :param features: mask of features that the driver knows
    :param ioeventfd: kicks take the way through the I/O thread
    :param iothreads: names of I/O threads that there are, besides the one for all
    """

    def __init__(self, netdev=None, *, features=ALL, ioeventfd=True, start=True, iothreads=(), **props):
        self.ioeventfd = ioeventfd
        self.memory = GuestMemory()
        self.memory.add_ram(0, RAM)
        self.space = AddressSpace()
        self.loop = MainLoop(self.space.lock)
        self.thread = IOThread("net-test")
        self.threads = {name: IOThread(name) for name in iothreads}
        self.next = 0x1000
        self.config_changes = 0
        self.netdev = netdev
        self.device = VirtIONet(id="nic")
        self.machine = SimpleNamespace(
            watchdog=Watchdog(),
            memory=self.memory,
            space=self.space,
            loop=self.loop,
            iothread=lambda name: self.threads.get(name, self.thread),
            backends={("objects", name): SimpleNamespace(type_name="iothread") for name in iothreads},
            next_mac=lambda: MAC,
            events=Events(),
        )
        self.rings = []
        self.realized = False
        if netdev is not None:
            netdev.machine = self.machine
            netdev.open()
        for name, value in props.items():
            self.device.set_property(name, value)
        self.device.netdev = netdev
        self.device.machine = self.machine
        self.device.bindings = SimpleNamespace(
            notify_queue=lambda queue: queue.signal(), notify_config=self._config_changed, status_changed=lambda old, new: None
        )
        try:
            with self.space.lock:
                self.device.realize()
        except BaseException:
            self.close()
            raise
        self.realized = True
        if start:
            self.start(features)

    def _config_changed(self):
        self.config_changes += 1

    def start(self, features=ALL):
        """The driver settles on features, sets its queues up, and says DRIVER_OK."""
        device = self.device
        device.features = (device.host_features() | 1 << defs.F_VERSION_1) & features
        device.features_acked(device.features)
        device.write_status(15)
        self.rings = [Ring(self, queue) for queue in device.queues]
        self.resume()

    def pause(self):
        """As a transport does where the VM stops."""
        for ring in self.rings:
            ring.queue.stop()

    def resume(self):
        """As a transport does where the VM goes on."""
        for ring in self.rings:
            ring.queue.start()
            if self.ioeventfd and ring.queue.is_native:
                ring.queue.attach(ring.fd)
            ring.queue.kick()

    @property
    def header(self):
        """Length of the header that driver and device put before each frame."""
        long = self.device.has_feature(n.F_MRG_RXBUF) or self.device.has_feature(defs.F_VERSION_1)
        return 12 if long else 10

    @property
    def rx(self):
        return self.rings[0]

    @property
    def tx(self):
        return self.rings[1]

    def transmit(self, data, cuts=(), kick=True, header=b""):
        """The driver sends a frame."""
        return self.tx.send(header.ljust(self.header, b"\0") + data, cuts, kick)

    def fill(self, count=16, size=1526, pieces=1):
        """The driver offers receive buffers."""
        for _ in range(count):
            self.rx.receive(size, pieces)

    def command(self, cls, cmd, data=b"", room=1):
        """A control command; returns the answer, or None where there is none."""
        ring = self.rings[self.device.control_index]
        request = bytes([cls, cmd]) + data
        address = self.allocate(len(request) + room)
        self.memory.write(address, request + b"\xee" * room)
        buffers = [(address, len(request), False)]
        if room:
            buffers.append((address + len(request), room, True))
        ring.offer(*buffers)
        if ring.used_idx == ring.seen:
            return None
        return ring.take()[2][0]

    def counters(self, name):
        return self.device.state_summary()[name]

    def allocate(self, size):
        at = self.next
        self.next = (at + size + 63) & ~63
        assert self.next < RAM
        return at

    def until(self, condition, seconds=30):
        """Run the main loop until CONDITION holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "did not happen"
            self.loop.run_once(0.001)

    def reset(self):
        self.device.reset()

    def close(self):
        if self.realized:
            with self.space.lock:
                self.device.unrealize()
        if self.netdev is not None:
            self.netdev.close()
        for ring in self.rings:
            os.close(ring.fd)
        for thread in (self.thread, *self.threads.values()):
            thread.close()
        self.loop.close()
        self.space.close()
        self.memory.close()
