# SPDX-License-Identifier: Apache-2.0
"""The card as a driver sees it: registers, interrupts, kicks, a VM that stops."""

import socket
import struct

import pytest
from net_rig import MAC, frame
from ring_forms import FORMS, OFFER

from qdevpy.backend.netdev_stream import StreamNetDev
from qdevpy.testing.driver import LegacyDriver, ModernDriver
from qdevpy.testing.machine import FakeMachine
from qdevpy.virtio import defs
from qdevpy.virtio.pci_types import device_types_for
from qdevpy_virtio_net import numbers as n
from qdevpy_virtio_net.plugin import qdevpy_devices

RX, TX, CTRL = 0, 1, 2
DRIVERS = dict.fromkeys((ModernDriver, *FORMS), "virtio-net-pci-non-transitional")
DRIVERS[LegacyDriver] = "virtio-net-pci-transitional"


class Card:
    """A machine with a card, the driver's side of its registers, and the peer of its netdev."""

    def __init__(self, driver, **props):
        types = {kind.name: kind for cls in qdevpy_devices() for kind in device_types_for(cls)}
        self.machine = FakeMachine(types=types)
        self.peer, theirs = socket.socketpair()
        self.peer.settimeout(30)
        lan = self.machine.open_backend(StreamNetDev(id="lan"), **{"addr.type": "fd", "addr.str": theirs.detach()})
        self.proxy = self.machine.plug_type(DRIVERS[driver], id="nic", netdev=lan, **OFFER, **props)
        self.device = self.proxy.device
        self.driver = driver(self.machine, self.proxy)
        self.header = 10 if driver is LegacyDriver else 12

    def send(self, data):
        queue = self.driver.queues[TX]
        head = queue.add(readable=[bytes(self.header) + data])
        queue.kick()
        return head

    def peer_reads(self):
        length = struct.unpack(">I", self.peer.recv(4, socket.MSG_WAITALL))[0]
        return self.peer.recv(length, socket.MSG_WAITALL)

    def peer_sends(self, data):
        self.peer.sendall(struct.pack(">I", len(data)) + data)

    def close(self):
        self.machine.close()
        self.peer.close()


@pytest.fixture(params=DRIVERS, ids=lambda driver: driver.__name__)
def driver(request):
    return request.param


@pytest.fixture
def make(driver):
    cards = []

    def build(*, msix=False, features=0, **props):
        card = Card(driver, **props)
        cards.append(card)
        card.driver.start(features, msix=msix)
        return card

    yield build
    for card in cards:
        card.close()


@pytest.mark.parametrize("ioeventfd", ["on", "off"])
@pytest.mark.parametrize("msix", [True, False], ids=["msix", "intx"])
def test_frames_pass_both_ways_and_interrupt(make, ioeventfd, msix):
    card = make(ioeventfd=ioeventfd, msix=msix)
    rx, tx = card.driver.queues[:2]
    head = card.send(frame(b"out"))
    assert card.peer_reads() == frame(b"out")
    assert tx.wait(head) == 0
    if msix:
        card.machine.wait_for(lambda: card.driver.interrupts(TX + 1))
    else:
        card.machine.wait_for(lambda: card.driver.intx_level)
        assert card.driver.read_isr() == 1
    room = rx.add(writable=[1600])
    rx.kick()
    card.peer_sends(frame(b"in"))
    assert rx.wait(room) == card.header + 60
    assert rx.read(room)[card.header :][:60] == frame(b"in")
    kicks = card.device.state_summary()["tx0"]
    assert (kicks["kicks_ioeventfd"] > 0) is (ioeventfd == "on")


def test_config_space_has_address_and_link(make):
    card = make()
    assert bytes(card.driver.read_config(i, 1) for i in range(6)) == MAC
    assert card.driver.read_config(6, 2) == n.S_LINK_UP


def test_second_card_gets_next_address(make):
    card = make()
    other = card.machine.plug_type("virtio-net-pci")
    assert other.device.mac == bytes.fromhex("525400123457")


def test_control_command_is_answered(make):
    card = make(features=1 << n.F_CTRL_VQ | 1 << n.F_CTRL_RX)
    assert card.driver.queues[CTRL].request([bytes([n.CTRL_RX, n.CTRL_RX_PROMISC]), b"\0"], [1]) == (1, bytes([n.OK]))


def test_link_change_interrupts_for_config(make):
    card = make(features=1 << n.F_STATUS)
    with card.machine.lock:
        card.device.set_link(False)
    assert card.driver.read_isr() & 2
    assert card.driver.read_config(6, 2) == 0


def test_stopped_vm_moves_no_frame_and_loses_none(make):
    card = make()
    rx = card.driver.queues[RX]
    room = rx.add(writable=[1600])
    rx.kick()
    card.machine.pause()
    card.peer_sends(frame(b"while stopped"))
    card.machine.loop.run_once(0.01)
    assert rx.collect() == 0
    head = card.driver.queues[TX].add(readable=[bytes(card.header) + frame(b"prepared")])
    card.machine.start()
    assert rx.wait(room) == card.header + 60
    assert card.driver.queues[TX].wait(head) == 0
    assert card.peer_reads() == frame(b"prepared")


def test_broken_ring_asks_for_reset_and_works_after_it(make):
    card = make()
    card.driver.queues[TX].add_raw([(1 << 50, 100, 0)])
    card.driver.queues[TX].kick()
    card.machine.wait_for(lambda: card.device.broken)
    assert card.driver.status & defs.STATUS_NEEDS_RESET
    card.driver.start()
    card.send(frame(b"again"))
    assert card.peer_reads() == frame(b"again")


def test_unplugged_card_gives_netdev_back(make):
    card = make()
    with card.machine.lock:
        card.machine.pci.unplug(card.proxy)
    lan = card.machine.backend("netdevs", "lan")
    assert lan.user is None
    again = card.machine.plug_type("virtio-net-pci", id="again", netdev=lan)
    assert lan.user.startswith("again")
    assert again.device.link_up


def test_property_names_are_qemus():
    (kind,) = [kind for cls in qdevpy_devices() for kind in device_types_for(cls) if kind.name == "virtio-net-pci"]
    expected = """netdev mac mq rx_queue_size tx_queue_size host_mtu speed duplex tx csum guest_csum gso guest_tso4 guest_tso6
        guest_ecn guest_ufo host_tso4 host_tso6 host_ecn host_ufo mrg_rxbuf status ctrl_vq ctrl_rx ctrl_vlan ctrl_rx_extra
        ctrl_mac_addr ctrl_guest_offloads guest_announce event_idx indirect_desc any_layout notify_on_empty ioeventfd vectors"""
    assert not set(expected.split()) - set(kind.properties)
