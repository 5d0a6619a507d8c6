# SPDX-License-Identifier: Apache-2.0
"""The data path over tap interfaces, in a network namespace of the test's own."""

import os
import socket
import struct

import pytest
from net_rig import MAC, frame, without
from net_tap import Tap, ip, network_namespace

from qdevpy.backend.netdev_tap import TapNetDev
from qdevpy.errors import BackendError
from qdevpy_virtio_net import numbers as n

SOL_PACKET, PACKET_VNET_HDR = 263, 15
NEEDS_CSUM, GSO_TCPV4 = 1, 1
HOST, GUEST = bytes([10, 9, 8, 1]), bytes([10, 9, 8, 2])


@pytest.fixture
def namespace():
    with network_namespace():
        yield


@pytest.fixture
def make(namespace):
    taps = []

    def build(**options):
        taps.append(Tap(**options))
        return taps[-1]

    yield build
    for tap in taps:
        tap.close()


def checksum(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(protocol, payload, sender, to):
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0, sender, to)
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + payload


def pseudo(protocol, length, sender, to):
    """The unfolded sum that a driver leaves in the checksum field."""
    return ~checksum(sender + to + struct.pack(">HH", protocol, length)) & 0xFFFF


def udp_frame(tap, payload, port):
    """From guest to host, the checksum left to the host."""
    size = 8 + len(payload)
    datagram = struct.pack(">HHHH", 4000, port, size, pseudo(17, size, GUEST, HOST)) + payload
    return tap.host_mac + MAC + b"\x08\0" + ipv4(17, datagram, GUEST, HOST)


def tcp_frame(to_mac, from_mac, payload, sender, to):
    size = 20 + len(payload)
    segment = struct.pack(">HHIIBBHHH", 5000, 5001, 1, 1, 0x50, 0x10, 1000, pseudo(6, size, sender, to), 0) + payload
    return to_mac + from_mac + b"\x08\0" + ipv4(6, segment, sender, to)


def vnet_header(flags=0, gso=0, header=0, size=0, start=0, offset=0):
    return struct.pack("<BBHHHH", flags, gso, header, size, start, offset)


@pytest.mark.parametrize("ioeventfd", [True, False], ids=["ioeventfd", "synchronous"])
@pytest.mark.parametrize("vnet_hdr", ["on", "off"])
def test_frames_pass_both_ways(make, ioeventfd, vnet_hdr):
    tap = make(ioeventfd=ioeventfd, vnet_hdr=vnet_hdr)
    tap.rig.transmit(frame(b"out"))
    assert tap.packets.recv(2000) == frame(b"out")
    tap.rig.fill(2)
    tap.packets.send(frame(b"in"))
    data, header = tap.rig.rx.take_frame()
    assert data == frame(b"in")
    assert struct.unpack_from("<H", header, 10) == (1,)


def test_offloads_with_vnet_header_are_offered(make):
    assert make().rig.device.host_features() & 0x7FC7 == 0x7FC7


def test_offloads_without_vnet_header_are_not_offered(make):
    assert make(vnet_hdr="off").rig.device.host_features() & 0x7FC7 == 0


@pytest.mark.parametrize("mergeable", [True, False])
def test_checksum_left_to_host_is_accepted_by_its_stack(make, mergeable):
    tap = make(features=without() if mergeable else without(n.F_MRG_RXBUF, 32))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(30)
        receiver.bind(("10.9.8.1", 0))
        data = udp_frame(tap, b"sum me up", receiver.getsockname()[1])
        tap.rig.transmit(data, header=vnet_header(NEEDS_CSUM, start=34, offset=6))
        assert receiver.recv(100) == b"sum me up"


def test_segmentation_left_to_host_arrives_in_one_piece(make):
    tap = make()
    tap.packets.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    data = tcp_frame(tap.host_mac, MAC, bytes(4000), GUEST, HOST)
    tap.rig.transmit(data, cuts=(12, 66), header=vnet_header(NEEDS_CSUM, GSO_TCPV4, 54, 1000, 34, 16))
    got = tap.packets.recv(1 << 16)
    assert got[10:] == data
    assert got[1] == GSO_TCPV4


@pytest.mark.parametrize(("features", "frames"), [(without(), 1), (without(n.F_GUEST_TSO4), 4)])
def test_receive_is_segmented_unless_driver_takes_it_whole(make, features, frames):
    tap = make(features=features)
    tap.packets.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    tap.rig.fill(64)
    data = tcp_frame(MAC, tap.host_mac, os.urandom(4000), HOST, GUEST)
    tap.packets.send(vnet_header(NEEDS_CSUM, GSO_TCPV4, 54, 1000, 34, 16) + data)
    got = [tap.rig.rx.take_frame() for _ in range(frames)]
    assert b"".join(each[0][54:] for each in got) == data[54:]
    assert [each[1][1] for each in got] == ([GSO_TCPV4] if frames == 1 else [0] * 4)


def test_guest_offloads_command_changes_what_driver_gets(make):
    tap = make()
    tap.packets.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    tap.rig.fill(64)
    assert tap.rig.command(n.CTRL_GUEST_OFFLOADS, n.CTRL_GUEST_OFFLOADS_SET, struct.pack("<Q", 1 << n.F_GUEST_CSUM)) == n.OK
    data = tcp_frame(MAC, tap.host_mac, os.urandom(4000), HOST, GUEST)
    tap.packets.send(vnet_header(NEEDS_CSUM, GSO_TCPV4, 54, 1000, 34, 16) + data)
    assert b"".join(tap.rig.rx.take_frame()[0][54:] for _ in range(4)) == data[54:]


def test_guest_offloads_command_with_unknown_bits_is_refused(make):
    tap = make(features=without(n.F_GUEST_UFO))
    for mask in (1 << 63, 1 << n.F_GUEST_UFO):
        assert tap.rig.command(n.CTRL_GUEST_OFFLOADS, n.CTRL_GUEST_OFFLOADS_SET, struct.pack("<Q", mask)) == n.ERR


def test_interface_down_drops_frames_and_recovers(make):
    tap = make(up=False)
    tap.rig.transmit(frame(b"lost"))
    tap.rig.tx.take()
    assert tap.rig.counters("tx0")["host_error"] == 1
    tap.up()
    tap.rig.transmit(frame(b"found"))
    assert tap.packets.recv(2000) == frame(b"found")


def test_interface_deleted_takes_link_down(make):
    tap = make()
    tap.rig.fill(2)
    ip("link", "del", "t0")
    tap.rig.until(lambda: not tap.rig.device.link_up)
    tap.rig.transmit(frame())
    tap.rig.tx.take()
    assert tap.rig.config_changes == 1


# -- several queues


def flood(tap):
    """Many flows to the guest."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for port in range(100):
            sender.sendto(b"flow", ("10.9.8.2", 1000 + port))


def test_queue_pairs_come_into_use_when_driver_asks(make):
    tap = make(queues=4, mq="on")
    device = tap.rig.device
    assert [queue.name for queue in device.queues] == ["rx0", "tx0", "rx1", "tx1", "rx2", "tx2", "rx3", "tx3", "ctrl"]
    assert device.get_config()[8:10] == b"\4\0"
    for ring in tap.rig.rings[0:8:2]:
        for _ in range(250):
            ring.receive(1526)
    flood(tap)
    tap.rig.until(lambda: tap.rig.rx.used_idx >= 100)
    assert tap.rig.rings[2].used_idx == 0
    assert tap.rig.command(n.CTRL_MQ, n.CTRL_MQ_VQ_PAIRS_SET, b"\2\0") == n.OK
    flood(tap)
    tap.rig.until(lambda: tap.rig.rx.used_idx + tap.rig.rings[2].used_idx >= 200)
    assert tap.rig.rings[2].used_idx > 10
    assert tap.rig.rings[4].used_idx == 0
    tap.rig.rings[3].send(bytes(12) + frame(b"second queue"))
    while tap.packets.recv(2000) != frame(b"second queue"):
        pass
    assert tap.rig.command(n.CTRL_MQ, n.CTRL_MQ_VQ_PAIRS_SET, b"\1\0") == n.OK


def test_queue_pairs_on_threads_of_their_own_move_frames_both_ways(make):
    mapping = [{"iothread": "io0"}, {"iothread": "io1"}]
    tap = make(queues=4, mq="on", card={"iothreads": ("io0", "io1"), "iothread-vq-mapping": mapping})
    queues = tap.rig.device.queues[:8]
    assert [queue.iothread.name for queue in queues] == ["io0", "io0", "io1", "io1"] * 2
    assert tap.rig.command(n.CTRL_MQ, n.CTRL_MQ_VQ_PAIRS_SET, b"\4\0") == n.OK
    for ring in tap.rig.rings[0:8:2]:
        for _ in range(250):
            ring.receive(1526)
    flood(tap)
    tap.rig.until(lambda: sum(ring.used_idx for ring in tap.rig.rings[0:8:2]) >= 100)
    for pair, ring in enumerate(tap.rig.rings[1:8:2]):
        ring.send(bytes(12) + frame(b"pair %d" % pair))
        while tap.packets.recv(2000) != frame(b"pair %d" % pair):
            pass
        ring.take()


@pytest.mark.parametrize("pairs", [0, 5, 0x8000])
def test_queue_pairs_beyond_those_there_are_refused(make, pairs):
    tap = make(queues=4, mq="on")
    assert tap.rig.command(n.CTRL_MQ, n.CTRL_MQ_VQ_PAIRS_SET, struct.pack("<H", pairs)) == n.ERR


def test_reset_goes_back_to_one_queue_pair(make):
    tap = make(queues=2, mq="on")
    assert tap.rig.command(n.CTRL_MQ, n.CTRL_MQ_VQ_PAIRS_SET, b"\2\0") == n.OK
    tap.rig.reset()
    assert tap.rig.device.active_pairs == 1


def test_driver_without_mq_finds_control_queue_at_2(make):
    tap = make(queues=2, mq="on", features=without(n.F_MQ))
    assert tap.rig.device.control_index == 2
    assert tap.rig.command(n.CTRL_RX, n.CTRL_RX_PROMISC, b"\0") == n.OK
    tap.rig.reset()
    for ring in tap.rig.rings:
        os.close(ring.fd)
    tap.rig.start()
    assert tap.rig.device.control_index == 4
    assert tap.rig.command(n.CTRL_MQ, n.CTRL_MQ_VQ_PAIRS_SET, b"\2\0") == n.OK


def test_tap_with_queues_and_card_without_mq_uses_one(make):
    tap = make(queues=2)
    assert len(tap.rig.device.queues) == 3
    tap.rig.fill(120)
    flood(tap)
    tap.rig.until(lambda: tap.rig.rx.used_idx >= 100)


# -- the back end alone


def test_open_twice_says_that_it_is_busy(make):
    make()
    second = TapNetDev(id="again")
    second.set_property("ifname", "t0")
    with pytest.raises(BackendError, match=r"netdev 'again': cannot open t0: .*another program"):
        second.open()


def test_open_with_other_queue_count_explains_flags(make):
    ip("tuntap", "add", "t9", "mode", "tap")
    netdev = TapNetDev(id="lan")
    netdev.set_property("ifname", "t9")
    netdev.set_property("queues", 2)
    with pytest.raises(BackendError, match="multi_queue"):
        netdev.open()


def test_scripts_run_with_the_interface_name(make, tmp_path):
    for name in ("up", "down"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$1" >> {tmp_path}/log\n')
        (tmp_path / name).chmod(0o755)
    netdev = TapNetDev(id="lan")
    netdev.set_property("script", str(tmp_path / "up"))
    netdev.set_property("downscript", str(tmp_path / "down"))
    netdev.open()
    assert netdev.ifname == "tap0"
    netdev.close()
    assert (tmp_path / "log").read_text() == "up tap0\ndown tap0\n"


@pytest.mark.parametrize(("script", "message"), [("/bin/false", "status 1"), ("/no/such/script", "No such file")])
def test_script_that_fails_is_an_error_and_leaves_nothing(make, script, message):
    netdev = TapNetDev(id="lan")
    netdev.set_property("script", script)
    with pytest.raises(BackendError, match=message):
        netdev.open()
    assert netdev.port(0) is None


def test_downscript_that_fails_is_a_warning(make, caplog):
    netdev = TapNetDev(id="lan")
    netdev.set_property("downscript", "/bin/false")
    netdev.open()
    netdev.close()
    assert "status 1" in caplog.text


def test_descriptor_that_was_inherited_tells_name_and_header(make):
    first = TapNetDev(id="first")
    first.set_property("sndbuf", "1M")
    first.open()
    second = TapNetDev(id="second")
    second.set_property("fd", str(os.dup(first.port(0).fd)))
    second.open()
    assert (second.ifname, second.vnet_header, second.ports) == ("tap0", True, 1)
    second.close()
    first.close()
