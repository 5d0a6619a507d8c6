# SPDX-License-Identifier: Apache-2.0
"""The data path over datagram sockets: layouts, headers, buffers, backpressure."""

import os
import socket
import struct

import pytest
from net_rig import ALL, LEGACY, MAC, NetRig, frame, without

from qdevpy.backend.netdev_dgram import DgramNetDev
from qdevpy.virtio import defs
from qdevpy_virtio_net import numbers as n


class Peer:
    """The other end: a datagram socket of its own, as another program's."""

    def __init__(self, where):
        self.local, self.remote = str(where / "card"), str(where / "peer")
        self.socket = None
        self.bind()

    def bind(self):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.remote)
        self.socket.settimeout(30)

    def gone(self):
        self.socket.close()
        os.unlink(self.remote)

    def send(self, data):
        self.socket.sendto(data, self.local)

    def recv(self):
        return self.socket.recv(1 << 17)

    def netdev(self):
        made = DgramNetDev(id="lan")
        made.set_property("local.path", self.local)
        made.set_property("remote.path", self.remote)
        return made


@pytest.fixture
def peer(tmp_path):
    made = Peer(tmp_path)
    yield made
    made.socket.close()


@pytest.fixture
def make(peer):
    rigs = []

    def build(**options):
        rigs.append(NetRig(peer.netdev(), **options))
        return rigs[-1]

    yield build
    for rig in rigs:
        rig.close()


@pytest.fixture(params=["ioeventfd", "synchronous"])
def rig(request, make):
    return make(ioeventfd=request.param == "ioeventfd")


def test_transmit_frame_reaches_peer_without_header(rig, peer):
    rig.transmit(frame(b"hello"))
    assert peer.recv() == frame(b"hello")
    _, written, _ = rig.tx.take()
    assert written == 0


@pytest.mark.parametrize("cuts", [(12,), (1, 2, 3), (5, 12, 13, 40), (6,), (12, 26)])
def test_transmit_any_layout_reaches_peer_whole(rig, peer, cuts):
    rig.transmit(frame(b"any layout", size=100), cuts)
    assert peer.recv() == frame(b"any layout", size=100)


def test_transmit_1024_pieces_reaches_peer_whole(make, peer):
    rig = make(tx_queue_size=1024)
    data = frame(os.urandom(1000), size=1014)
    rig.transmit(data, tuple(range(4, 12 + 1000, 4)))
    assert peer.recv() == data


@pytest.mark.parametrize("features", [ALL, LEGACY, without(n.F_MRG_RXBUF), without(n.F_MRG_RXBUF, base=LEGACY)])
def test_receive_header_has_negotiated_length_and_is_clean(make, peer, features):
    rig = make(features=features)
    assert rig.header == (10 if features == without(n.F_MRG_RXBUF, base=LEGACY) else 12)
    rig.fill(1)
    peer.send(frame(b"in"))
    data, header = rig.rx.take_frame(rig.header)
    assert data == frame(b"in")
    assert header == bytes(10) + (struct.pack("<H", 1) if rig.header == 12 else b"")


@pytest.mark.parametrize("pieces", [1, 2, 7, 40])
def test_receive_any_layout_delivers_frame(rig, peer, pieces):
    rig.fill(1, 1600, pieces)
    data = frame(os.urandom(1400), size=1414)
    peer.send(data)
    assert rig.rx.take_frame()[0] == data


def test_receive_long_frame_with_mergeable_buffers_spreads_over_chains(rig, peer):
    rig.fill(48, 256)
    data = frame(os.urandom(9000), size=9014)
    peer.send(data)
    got, header = rig.rx.take_frame()
    assert got == data
    assert struct.unpack_from("<H", header, 10) == (36,)


def test_receive_long_frame_without_mergeable_buffers_is_dropped(make, peer):
    rig = make(features=without(n.F_MRG_RXBUF))
    rig.fill(2, 200)
    peer.send(frame(size=400))
    peer.send(frame(b"short"))
    assert rig.rx.take_frame()[0] == frame(b"short")
    assert rig.counters("rx0")["too_long"] == 1


def test_receive_frame_longer_than_whole_ring_is_dropped(make, peer):
    rig = make()
    rig.fill(256, 100)
    peer.send(frame(size=30000))
    peer.send(frame(b"short"))
    assert rig.rx.take_frame()[0] == frame(b"short")
    assert rig.counters("rx0")["too_long"] == 1


def test_receive_frame_needing_more_buffers_waits_for_them(rig, peer):
    rig.fill(2, 100)
    data = frame(os.urandom(800), size=814)
    peer.send(data)
    peer.send(frame(b"next"))
    for _ in range(9):
        rig.rx.receive(100)
    assert rig.rx.take_frame()[0] == data
    assert rig.rx.take_frame()[0] == frame(b"next")


def test_receive_without_buffers_stops_reading_until_kick(rig, peer):
    rig.fill(1)
    peer.send(frame(b"0"))
    assert rig.rx.take_frame()[0] == frame(b"0")
    peer.socket.settimeout(0)
    sent = 0
    try:
        while sent < 10000:
            peer.send(frame(b"x%d" % sent))
            sent += 1
    except BlockingIOError:
        pass
    assert sent < 1000, "the host's buffers are not bounded"
    rig.fill(sent)
    for i in range(sent):
        assert rig.rx.take_frame()[0] == frame(b"x%d" % i)


def test_receive_short_frame_passes_while_promiscuous_only(rig, peer):
    rig.fill(3)
    peer.send(b"runt")
    assert rig.rx.take_frame()[0] == b"runt"
    assert rig.command(n.CTRL_RX, n.CTRL_RX_PROMISC, b"\0") == n.OK
    peer.send(b"runt")
    good = frame(b"good", to=MAC)
    peer.send(good)
    assert rig.rx.take_frame()[0] == good
    assert rig.counters("rx0")["too_short"] == 1


def test_transmit_to_full_socket_waits_and_loses_nothing(rig, peer):
    frames = [frame(b"%d" % i) for i in range(200)]
    for data in frames:
        rig.transmit(data)
    assert [peer.recv() for _ in frames] == frames
    rig.until(lambda: rig.tx.used_idx == len(frames))


def test_transmit_more_than_a_burst_completes(make, peer):
    rig = make(tx_queue_size=1024, ioeventfd=False)
    rig.device.set_link(False)
    for _ in range(1000 // 256):
        for _ in range(256):
            rig.transmit(frame(), kick=False)
        rig.tx.kick()
        for _ in range(256):
            rig.tx.take()
    assert rig.counters("tx0")["link_down"] == 768


def test_transmit_without_peer_drops_and_recovers(rig, peer):
    peer.gone()
    rig.transmit(frame(b"lost"))
    rig.tx.take()
    peer.bind()
    rig.transmit(frame(b"found"))
    assert peer.recv() == frame(b"found")
    assert rig.counters("tx0")["link_down"] == 1


def test_transmit_to_restarted_peer_reaches_it(rig, peer):
    rig.transmit(frame(b"1"))
    assert peer.recv() == frame(b"1")
    peer.gone()
    peer.bind()
    rig.transmit(frame(b"2"))
    assert peer.recv() == frame(b"2")


def test_transmit_peer_gone_in_the_middle_of_a_batch_drops_the_rest(rig, peer):
    frames = [frame(b"%d" % i) for i in range(100)]
    for data in frames:
        rig.transmit(data, kick=False)
    rig.tx.kick()
    assert peer.recv() == frames[0]
    peer.gone()
    rig.until(lambda: rig.tx.used_idx == len(frames))
    counters = rig.counters("tx0")
    assert counters["frames"] > 0
    assert counters["link_down"] > 0
    assert counters["frames"] + counters["link_down"] == len(frames)


def test_transmit_peer_replaced_in_the_middle_of_a_batch_gets_the_rest(rig, peer):
    frames = [frame(b"%d" % i) for i in range(100)]
    for data in frames:
        rig.transmit(data, kick=False)
    rig.tx.kick()
    assert peer.recv() == frames[0]
    with peer.socket:
        os.rename(peer.remote, peer.remote + ".old")
        peer.bind()
    got = [peer.recv()]
    while got[-1] != frames[-1]:
        got.append(peer.recv())
    assert got == frames[-len(got) :]
    rig.until(lambda: rig.tx.used_idx == len(frames))
    assert rig.counters("tx0")["frames"] == len(frames)


def test_transmit_runt_and_giant_are_dropped(rig, peer):
    rig.transmit(b"short")
    rig.transmit(frame(size=70000))
    rig.transmit(frame(b"good"))
    assert peer.recv() == frame(b"good")
    counters = rig.counters("tx0")
    assert (counters["too_short"], counters["too_long"]) == (1, 1)


def test_transmit_chain_shorter_than_header_breaks_device_only(rig):
    rig.tx.send(b"12345")
    rig.until(lambda: rig.device.broken is not None)
    assert "header" in rig.device.broken
    rig.reset()
    assert rig.device.broken is None


def test_receive_buffer_shorter_than_header_breaks_device_only(rig, peer):
    rig.rx.receive(8)
    peer.send(frame())
    rig.until(lambda: rig.device.broken is not None)
    assert rig.device.status & defs.STATUS_NEEDS_RESET


def test_link_down_drops_both_ways_and_tells_driver(rig, peer):
    rig.fill(4)
    rig.device.set_link(False)
    assert rig.config_changes == 1
    assert rig.device.get_config()[6] & n.S_LINK_UP == 0
    rig.transmit(frame(b"lost"))
    rig.tx.take()
    peer.send(frame(b"lost"))
    rig.until(lambda: rig.counters("rx0")["link_down"] == 1)
    rig.device.set_link(True)
    assert rig.device.get_config()[6] & n.S_LINK_UP
    peer.send(frame(b"up"))
    assert rig.rx.take_frame()[0] == frame(b"up")
    rig.transmit(frame(b"up too"))
    assert peer.recv() == frame(b"up too")


def test_stopped_vm_receives_nothing_until_it_goes_on(rig, peer):
    rig.fill(4)
    rig.pause()
    peer.send(frame(b"late"))
    rig.transmit(frame(b"late too"))
    peer.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        peer.recv()
    assert rig.rx.used_idx == 0
    peer.socket.settimeout(30)
    rig.resume()
    assert rig.rx.take_frame()[0] == frame(b"late")
    assert peer.recv() == frame(b"late too")


def test_reset_with_full_socket_and_restart_works(rig, peer):
    for i in range(100):
        rig.transmit(frame(b"%d" % i))
    rig.reset()
    peer.socket.setblocking(False)
    got = 0
    try:
        while peer.recv():
            got += 1
    except BlockingIOError:
        pass
    assert 0 < got < 100
    peer.socket.settimeout(30)
    for ring in rig.rings:
        os.close(ring.fd)
    rig.start()
    rig.transmit(frame(b"again"))
    assert peer.recv() == frame(b"again")


def test_interrupt_comes_once_for_a_batch_and_not_where_unwanted(make, peer):
    rig = make(ioeventfd=False, features=without(defs.F_RING_EVENT_IDX))
    rig.memory.write(rig.tx.avail, struct.pack("<H", 1))
    for i in range(4):
        rig.transmit(frame(b"%d" % i), kick=False)
    rig.tx.kick()
    assert (rig.tx.used_idx, rig.tx.interrupts) == (4, 0)
    rig.memory.write(rig.tx.avail, struct.pack("<H", 0))
    for i in range(4):
        rig.transmit(frame(b"%d" % i), kick=False)
    rig.tx.kick()
    assert (rig.tx.used_idx, rig.tx.interrupts) == (8, 1)
