# SPDX-License-Identifier: Apache-2.0
"""Batches of frames with every form of ring: what is popped ahead and given back must fit what the ring keeps of it."""

import os
import random
import socket
import struct

import pytest
from net_rig import MAC, frame
from ring_forms import FORMS, OFFER

from qdevpy.backend.netdev_dgram import DgramNetDev
from qdevpy.testing.driver import ModernDriver
from qdevpy.testing.machine import FakeMachine
from qdevpy.virtio.pci_types import device_types_for
from qdevpy_virtio_net import numbers as n
from qdevpy_virtio_net.plugin import qdevpy_devices

RX, TX, CTRL = 0, 1, 2
HEADER = 12
FEATURES = 1 << n.F_MRG_RXBUF | 1 << n.F_CTRL_VQ | 1 << n.F_CTRL_RX
OTHER = bytes.fromhex("525400aaaaaa")
#: datagrams that a socket takes before its owner has read one
QUEUED = 8


class Card:
    """A machine with a card whose filter is on, and the other end of its datagram socket."""

    def __init__(self, driver):
        types = {kind.name: kind for cls in qdevpy_devices() for kind in device_types_for(cls)}
        self.machine = FakeMachine(types=types)
        self.peer, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.peer.settimeout(30)
        lan = self.machine.open_backend(DgramNetDev(id="lan"), **{"local.type": "fd", "local.str": theirs.detach()})
        proxy = self.machine.plug_type("virtio-net-pci-non-transitional", id="nic", netdev=lan, **OFFER)
        self.driver = driver(self.machine, proxy)
        self.driver.start(FEATURES)
        self.device = proxy.device
        self.rx, self.tx, control = self.driver.queues
        assert control.request([bytes([n.CTRL_RX, n.CTRL_RX_PROMISC]), b"\0"], [1]) == (1, bytes([n.OK]))

    def received(self, count):
        """The next COUNT frames, each put together from its buffers."""
        taken = []

        def complete():
            self.rx.collect()
            while self.rx.order:
                head = self.rx.order.pop(0)
                taken.append(self.rx.read(head)[: self.rx.done.pop(head)])
            return len(self.frames(taken)) == count

        self.machine.wait_for(complete, "frames")
        return self.frames(taken)

    @staticmethod
    def frames(buffers):
        found, rest = [], list(buffers)
        while rest and len(rest) >= (used := struct.unpack_from("<H", rest[0], 10)[0]):
            found.append(b"".join(rest[:used])[HEADER:])
            del rest[:used]
        return found

    def close(self):
        self.machine.close()
        self.peer.close()


@pytest.fixture(params=[ModernDriver, *FORMS], ids=lambda driver: driver.__name__)
def card(request):
    made = Card(request.param)
    yield made
    made.close()


def test_received_batches_with_unwanted_and_long_frames_arrive_in_order(card):
    random_ = random.Random(5)
    for _ in range(40):  # several times round the ring
        card.machine.pause()
        sent = []
        for _ in range(random_.randint(1, QUEUED)):
            to = random_.choice([MAC, MAC, OTHER])
            sent.append(frame(os.urandom(8), to=to, size=random_.choice([60, 60, 60, 900])))
            card.peer.send(sent[-1])
        while len(card.rx.free) > 1:
            card.rx.add(writable=[100, 200])
        card.machine.start()
        card.rx.kick()
        wanted = [data for data in sent if data[:6] == MAC]
        assert card.received(len(wanted)) == wanted
    assert card.device.broken is None


def test_transmitted_batches_that_a_stop_gives_back_arrive_once_and_in_order(card):
    sent, got = [], []
    for _ in range(8):
        before = len(sent)
        heads = []
        while len(card.tx.free) > 3:
            sent.append(frame(b"%d" % len(sent), size=200))
            heads.append(card.tx.add(readable=[bytes(HEADER), sent[-1][:50], sent[-1][50:]]))
        card.tx.kick()
        got += [card.peer.recv(1000) for _ in range(len(heads) // 2)]
        card.machine.pause()
        card.machine.start()
        got += [card.peer.recv(1000) for _ in range(len(sent) - before - len(heads) // 2)]
        for head in heads:
            card.tx.wait(head)
    assert got == sent
    assert card.device.broken is None
