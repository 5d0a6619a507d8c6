# SPDX-License-Identifier: Apache-2.0
"""The data path over streams: framing, partial writes, connections that come and go; and the null back end."""

import os
import socket
import struct

import pytest
from net_rig import NetRig, frame

from qdevpy.backend.netdev_null import NullNetDev
from qdevpy.backend.netdev_stream import StreamNetDev
from qdevpy.errors import BackendError
from qdevpy_virtio_net import numbers as n


def framed(data):
    return struct.pack(">I", len(data)) + data


def read_frame(peer):
    (length,) = struct.unpack(">I", read_exactly(peer, 4))
    return read_exactly(peer, length)


def read_exactly(peer, size):
    data = b""
    while len(data) < size:
        part = peer.recv(size - len(data))
        assert part, "the card hung up"
        data += part
    return data


def take_all(peer):
    """What has been sent so far."""
    data = b""
    peer.setblocking(False)
    try:
        while part := peer.recv(1 << 16):
            data += part
    except BlockingIOError:
        return data
    raise AssertionError("the card hung up")


def stream(**options):
    made = StreamNetDev(id="lan")
    for name, value in options.items():
        made.set_property(name.replace("_", "."), value)
    return made


class Wire:
    """A card on one end of a socket pair, the test on the other."""

    def __init__(self, **options):
        ours, theirs = socket.socketpair()
        ours.settimeout(30)
        self.peer = ours
        self.rig = NetRig(stream(addr_type="fd", addr_str=str(theirs.detach())), **options)

    def close(self):
        self.peer.close()
        self.rig.close()


@pytest.fixture(params=["ioeventfd", "synchronous"])
def wire(request):
    made = Wire(ioeventfd=request.param == "ioeventfd")
    yield made
    made.close()


def test_transmit_frame_has_length_before_it(wire):
    wire.rig.transmit(frame(b"one"))
    wire.rig.transmit(frame(b"two"))
    assert read_exactly(wire.peer, 128) == framed(frame(b"one")) + framed(frame(b"two"))


def test_transmit_to_full_stream_is_continued_in_the_middle_of_a_frame(wire):
    wire.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    frames = [frame(os.urandom(1 + 40 * i), size=60000) for i in range(40)]
    for data in frames:
        wire.rig.transmit(data, cuts=(7, 100, 5000))
    assert [read_frame(wire.peer) for _ in frames] == frames
    wire.rig.until(lambda: wire.rig.tx.used_idx == len(frames))


def test_transmit_1024_pieces_over_stream_arrives_whole():
    wire = Wire(tx_queue_size=1024)
    try:
        data = frame(os.urandom(2000), size=2100)
        wire.rig.transmit(data, tuple(range(2, 2 * 1024, 2)))
        assert read_frame(wire.peer) == data
    finally:
        wire.close()


def test_receive_frames_cut_anywhere_arrive_whole(wire):
    wire.rig.fill(64)
    data = b"".join(framed(frame(b"%d" % i)) for i in range(3))
    for i in range(0, len(data), 5):
        wire.peer.sendall(data[i : i + 5])
    assert [wire.rig.rx.take_frame()[0] for _ in range(3)] == [frame(b"%d" % i) for i in range(3)]


def test_receive_without_buffers_waits_for_them(wire):
    wire.peer.sendall(b"".join(framed(frame(b"%d" % i)) for i in range(10)))
    for i in range(10):
        wire.rig.fill(1)
        assert wire.rig.rx.take_frame()[0] == frame(b"%d" % i)


def test_receive_long_frame_waits_for_enough_mergeable_buffers(wire):
    wire.rig.fill(1, 512)
    data = frame(os.urandom(3000), size=3014)
    wire.peer.sendall(framed(data))
    wire.rig.fill(6, 512)
    assert wire.rig.rx.take_frame()[0] == data


def test_receive_runt_passes_empty_one_is_dropped_and_stream_stays_in_step(wire):
    wire.rig.fill(2)
    wire.peer.sendall(framed(b"") + framed(b"runt") + framed(frame(b"good")))
    assert wire.rig.rx.take_frame()[0] == b"runt"
    assert wire.rig.rx.take_frame()[0] == frame(b"good")


def test_receive_impossible_length_ends_connection_and_link(wire):
    wire.rig.fill(2)
    wire.peer.sendall(struct.pack(">I", 1 << 30))
    wire.rig.until(lambda: not wire.rig.device.link_up)
    assert wire.peer.recv(1) == b""
    assert wire.rig.config_changes == 1


def test_peer_gone_takes_link_down_and_frames_are_dropped(wire):
    wire.rig.fill(1)
    wire.peer.close()
    wire.rig.until(lambda: not wire.rig.device.link_up)
    wire.rig.transmit(frame())
    wire.rig.tx.take()
    assert wire.rig.counters("tx0")["link_down"] == 1


def test_peer_gone_is_noticed_by_transmit_too(wire):
    wire.peer.close()
    wire.rig.transmit(frame())
    wire.rig.tx.take()
    wire.rig.until(lambda: not wire.rig.device.link_up)


def test_peer_gone_with_waiting_frames_completes_them(wire):
    for _ in range(100):
        wire.rig.transmit(frame(size=9000))
    wire.peer.close()
    wire.rig.until(lambda: wire.rig.tx.used_idx == 100)


def test_reset_in_the_middle_of_a_frame_keeps_stream_in_step(wire):
    frames = [frame(b"%d" % i, size=50000) for i in range(20)]
    for data in frames:
        wire.rig.transmit(data)
    wire.rig.reset()
    for ring in wire.rig.rings:
        os.close(ring.fd)
    wire.rig.start()
    wire.rig.transmit(frame(b"after"))
    got = read_frame(wire.peer)
    sent = 0
    while got == frames[sent]:
        sent += 1
        got = read_frame(wire.peer)
    assert 0 < sent < len(frames)
    assert got == frame(b"after")


def test_reset_in_the_middle_of_a_frame_then_hang_up_forgets_it(wire):
    for _ in range(20):
        wire.rig.transmit(frame(size=50000))
    wire.rig.reset()
    wire.peer.close()
    for ring in wire.rig.rings:
        os.close(ring.fd)
    wire.rig.start()
    wire.rig.fill(1)
    wire.rig.transmit(frame())
    wire.rig.tx.take()
    wire.rig.until(lambda: not wire.rig.device.link_up)


def test_stopped_vm_finishes_frame_when_it_goes_on(wire):
    frames = [frame(b"%d" % i, size=50000) for i in range(20)]
    for data in frames:
        wire.rig.transmit(data)
    wire.rig.pause()
    done = wire.rig.tx.used_idx
    data = take_all(wire.peer)
    assert wire.rig.tx.used_idx == done < len(frames)
    wire.peer.settimeout(30)
    wire.rig.resume()
    expected = b"".join(map(framed, frames))
    assert data + read_exactly(wire.peer, len(expected) - len(data)) == expected


def test_server_takes_one_connection_after_the_other(tmp_path):
    path = str(tmp_path / "lan")
    rig = NetRig(stream(addr_path=path, server="on"))
    try:
        assert not rig.device.link_up
        for name in (b"first", b"second"):
            with socket.socket(socket.AF_UNIX) as peer:
                peer.settimeout(30)
                peer.connect(path)
                rig.until(lambda: rig.device.link_up)
                rig.fill(1)
                peer.sendall(framed(frame(name)))
                assert rig.rx.take_frame()[0] == frame(name)
                rig.transmit(frame(name))
                assert read_frame(peer) == frame(name)
                rig.fill(1)
            rig.until(lambda: not rig.device.link_up)
        assert rig.device.get_config()[6] & n.S_LINK_UP == 0
    finally:
        rig.close()
    assert not os.path.exists(path)


def test_client_reconnects_when_asked(tmp_path):
    path = str(tmp_path / "lan")
    with socket.socket(socket.AF_UNIX) as server:
        server.settimeout(30)
        server.bind(path)
        server.listen(1)
        rig = NetRig(stream(addr_path=path, reconnect="1"))
        rig.machine.loop.call_later = lambda seconds, callback: rig.loop.call_soon(callback)
        try:
            assert rig.device.link_up
            rig.fill(2)
            server.accept()[0].close()
            rig.until(lambda: rig.config_changes == 2)
            peer = server.accept()[0]
            with peer:
                peer.sendall(framed(frame(b"again")))
                assert rig.rx.take_frame()[0] == frame(b"again")
        finally:
            rig.close()


@pytest.mark.parametrize("netdev", [NullNetDev, lambda **options: None], ids=["null", "no netdev"])
def test_null_drops_everything_with_link_up(netdev):
    rig = NetRig(netdev(id="lan"))
    try:
        assert rig.device.link_up
        for _ in range(300):
            rig.transmit(frame(), kick=False)
            if len(rig.tx.free) < 2:
                rig.tx.kick()
                while rig.tx.chains:
                    rig.tx.take()
        rig.tx.kick()
        while rig.tx.chains:
            rig.tx.take()
        assert rig.counters("tx0")["link_down"] == 300
    finally:
        rig.close()


def test_stream_with_a_header_of_its_own_is_refused_as_it_has_no_room_for_one(wire, monkeypatch):
    monkeypatch.setattr(StreamNetDev, "vnet_header", True)
    with pytest.raises(BackendError, match="Invalid argument"):
        wire.rig.device._netdev_changed()
