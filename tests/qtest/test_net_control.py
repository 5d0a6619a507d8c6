# SPDX-License-Identifier: Apache-2.0
"""The control queue, the receive filter that it sets, and the config space."""

import socket
import struct

import pytest
from net_rig import ALL, BROADCAST, LEGACY, MAC, NetRig, frame, without

from qdevpy.backend.netdev import NetDev, Offload, Port, PortKind
from qdevpy.backend.netdev_null import NullNetDev
from qdevpy.backend.netdev_stream import StreamNetDev
from qdevpy.errors import BackendError, PropertyError
from qdevpy.virtio import defs
from qdevpy_virtio_net import numbers as n

OTHER = bytes.fromhex("020000000099")
MULTICAST = bytes.fromhex("01005e000001")


class Stubborn(NetDev):
    """A host that has everything and grants nothing."""

    ports = 2
    vnet_header = True
    offloads = Offload(31)
    refuses = False

    def configure(self, header_length, offloads):
        raise self.fail("no offloads today")

    def enable_port(self, index, enabled):
        if self.refuses:
            raise self.fail("no queues today")


class Filtered:
    """A card that has left promiscuous mode, and a peer that knows which of its frames got through."""

    def __init__(self):
        ours, theirs = socket.socketpair()
        self.peer = ours
        netdev = StreamNetDev(id="lan")
        netdev.set_property("addr.type", "fd")
        netdev.set_property("addr.str", theirs.detach())
        self.rig = NetRig(netdev)
        self.rig.fill(200)
        assert self.mode(n.CTRL_RX_PROMISC, False) == n.OK

    def mode(self, command, on):
        return self.rig.command(n.CTRL_RX, command, bytes([on]))

    def passes(self, to, vlan=None):
        """Whether a frame reaches the driver: send it, and one that always does after it."""
        tag = b"" if vlan is None else struct.pack(">HH", 0x8100, vlan)
        data = to + bytes.fromhex("020000000001") + tag + b"\x88\xb5".ljust(60, b"x")
        fence = frame(b"fence", to=MAC)
        for each in (data, fence):
            self.peer.sendall(struct.pack(">I", len(each)) + each)
        got = self.rig.rx.take_frame()[0]
        if got == fence:
            return False
        assert got == data
        assert self.rig.rx.take_frame()[0] == fence
        return True

    def close(self):
        self.peer.close()
        self.rig.close()


@pytest.fixture
def net():
    made = Filtered()
    yield made
    made.close()


@pytest.fixture
def make():
    rigs = []

    def build(netdev=None, **options):
        rigs.append(NetRig(netdev or NullNetDev(id="lan"), **options))
        return rigs[-1]

    yield build
    for rig in rigs:
        rig.close()


@pytest.fixture
def rig(make):
    return make()


# -- filter


def test_filter_lets_own_address_and_broadcast_in_only(net):
    assert [net.passes(to) for to in (MAC, BROADCAST, OTHER, MULTICAST)] == [True, True, False, False]


def test_filter_promiscuous_lets_everything_in(net):
    net.mode(n.CTRL_RX_PROMISC, True)
    assert all(net.passes(to) for to in (OTHER, MULTICAST))
    assert net.passes(OTHER, vlan=7)


@pytest.mark.parametrize(
    ("mode", "to", "passes"),
    [
        (n.CTRL_RX_ALLMULTI, MULTICAST, True),
        (n.CTRL_RX_ALLMULTI, OTHER, False),
        (n.CTRL_RX_ALLUNI, OTHER, True),
        (n.CTRL_RX_ALLUNI, MULTICAST, False),
        (n.CTRL_RX_NOBCAST, BROADCAST, False),
    ],
)
def test_filter_mode_decides_and_can_be_left(net, mode, to, passes):
    before = net.passes(to)
    net.mode(mode, True)
    assert net.passes(to) is passes
    net.mode(mode, False)
    assert net.passes(to) is before


def test_filter_nouni_and_nomulti_win_over_tables(net):
    net.rig.command(n.CTRL_MAC, n.CTRL_MAC_TABLE_SET, struct.pack("<I", 0) + struct.pack("<I", 1) + MULTICAST)
    assert net.passes(MULTICAST)
    net.mode(n.CTRL_RX_NOMULTI, True)
    assert not net.passes(MULTICAST)
    net.mode(n.CTRL_RX_NOUNI, True)
    before = net.rig.counters("rx0")["filtered"]
    own = frame(to=MAC)
    net.peer.sendall(struct.pack(">I", len(own)) + own)
    net.rig.until(lambda: net.rig.counters("rx0")["filtered"] == before + 1)


def test_mac_table_adds_addresses_and_replaces_older_ones(net):
    table = struct.pack("<I", 1) + OTHER + struct.pack("<I", 1) + MULTICAST
    assert net.rig.command(n.CTRL_MAC, n.CTRL_MAC_TABLE_SET, table) == n.OK
    assert net.passes(OTHER)
    assert net.passes(MULTICAST)
    assert net.rig.command(n.CTRL_MAC, n.CTRL_MAC_TABLE_SET, bytes(8)) == n.OK
    assert not net.passes(OTHER)


def test_mac_table_too_long_lets_all_of_that_sort_in(net):
    table = struct.pack("<I", 65) + bytes(6 * 65) + struct.pack("<I", 0)
    assert net.rig.command(n.CTRL_MAC, n.CTRL_MAC_TABLE_SET, table) == n.OK
    assert net.passes(OTHER)
    assert not net.passes(MULTICAST)
    table = struct.pack("<I", 1) + OTHER + struct.pack("<I", 64) + MULTICAST * 64
    assert net.rig.command(n.CTRL_MAC, n.CTRL_MAC_TABLE_SET, table) == n.OK
    assert net.passes(bytes.fromhex("010000000002"))
    assert not net.passes(bytes.fromhex("020000000077"))


def test_mac_address_set_changes_config_and_filter_until_reset(net):
    assert net.rig.command(n.CTRL_MAC, n.CTRL_MAC_ADDR_SET, OTHER) == n.OK
    assert net.rig.device.get_config()[:6] == OTHER
    net.rig.reset()
    assert net.rig.device.get_config()[:6] == MAC


def test_vlan_filter_lets_added_ids_in(net):
    assert not net.passes(MAC, vlan=5)
    assert net.rig.command(n.CTRL_VLAN, n.CTRL_VLAN_ADD, struct.pack("<H", 5)) == n.OK
    assert net.passes(MAC, vlan=5)
    assert not net.passes(MAC, vlan=6)
    assert net.rig.command(n.CTRL_VLAN, n.CTRL_VLAN_DEL, struct.pack("<H", 5)) == n.OK
    assert not net.passes(MAC, vlan=5)


# -- commands


@pytest.mark.parametrize(
    ("cls", "cmd", "data"),
    [
        (n.CTRL_RX, n.CTRL_RX_PROMISC, b""),
        (n.CTRL_RX, n.CTRL_RX_PROMISC, b"\0\0"),
        (n.CTRL_RX, 6, b"\1"),
        (n.CTRL_MAC, n.CTRL_MAC_ADDR_SET, bytes(5)),
        (n.CTRL_MAC, n.CTRL_MAC_TABLE_SET, bytes(3)),
        (n.CTRL_MAC, n.CTRL_MAC_TABLE_SET, bytes(4)),
        (n.CTRL_MAC, n.CTRL_MAC_TABLE_SET, struct.pack("<I", 0xFFFFFFFF) + bytes(100)),
        (n.CTRL_MAC, n.CTRL_MAC_TABLE_SET, bytes(9)),
        (n.CTRL_MAC, 2, b""),
        (n.CTRL_VLAN, n.CTRL_VLAN_ADD, b"\0"),
        (n.CTRL_VLAN, n.CTRL_VLAN_ADD, struct.pack("<H", 4096)),
        (n.CTRL_VLAN, 2, b"\0\0"),
        (n.CTRL_ANNOUNCE, n.CTRL_ANNOUNCE_ACK, b""),
        (n.CTRL_ANNOUNCE, 1, b""),
        (n.CTRL_MQ, n.CTRL_MQ_VQ_PAIRS_SET, b"\1\0"),
        (n.CTRL_GUEST_OFFLOADS, n.CTRL_GUEST_OFFLOADS_SET, bytes(8)),
        (77, 0, b""),
    ],
)
def test_command_malformed_or_not_negotiated_is_refused(rig, cls, cmd, data):
    assert rig.command(cls, cmd, data) == n.ERR
    assert rig.device.broken is None


def test_command_too_long_is_refused_unread(rig):
    assert rig.command(n.CTRL_MAC, n.CTRL_MAC_TABLE_SET, bytes(1 << 20)) == n.ERR


def test_command_without_room_for_answer_breaks_device_only(rig):
    assert rig.command(n.CTRL_RX, n.CTRL_RX_PROMISC, b"\0", room=0) is None
    assert "control command" in rig.device.broken


@pytest.mark.parametrize(
    ("feature", "cls", "cmd", "data"),
    [
        (n.F_CTRL_RX, n.CTRL_RX, n.CTRL_RX_PROMISC, b"\0"),
        (n.F_CTRL_RX_EXTRA, n.CTRL_RX, n.CTRL_RX_ALLUNI, b"\0"),
        (n.F_CTRL_RX, n.CTRL_MAC, n.CTRL_MAC_TABLE_SET, bytes(8)),
        (n.F_CTRL_MAC_ADDR, n.CTRL_MAC, n.CTRL_MAC_ADDR_SET, OTHER),
        (n.F_CTRL_VLAN, n.CTRL_VLAN, n.CTRL_VLAN_ADD, b"\0\0"),
    ],
)
def test_command_of_feature_not_negotiated_is_refused(make, feature, cls, cmd, data):
    assert make().command(cls, cmd, data) == n.OK
    assert make(features=without(feature)).command(cls, cmd, data) == n.ERR


def test_control_queue_without_its_feature_is_not_served(make):
    rig = make(features=without(n.F_CTRL_VQ))
    assert rig.command(n.CTRL_RX, n.CTRL_RX_PROMISC, b"\0") is None


def test_announce_sets_status_until_acknowledged(rig):
    assert rig.device.announce()
    assert rig.config_changes == 1
    assert rig.device.get_config()[6] == n.S_LINK_UP | n.S_ANNOUNCE
    assert rig.command(n.CTRL_ANNOUNCE, n.CTRL_ANNOUNCE_ACK) == n.OK
    assert rig.device.get_config()[6] == n.S_LINK_UP


def test_announce_without_feature_is_refused(make):
    assert not make(features=without(n.F_GUEST_ANNOUNCE)).device.announce()


# -- features and config space


def test_features_without_vnet_header_have_no_offloads(rig):
    features = rig.device.host_features()
    assert [bit for bit in range(64) if features >> bit & 1] == [5, 15, 16, 17, 18, 19, 20, 21, 23, 24, 27, 28, 29, 40]


def test_features_without_control_queue_lose_what_needs_it(make):
    rig = make(ctrl_vq="off", start=False)
    assert not rig.device.host_features() & 0b1111_1110 << 16
    assert len(rig.device.queues) == 2


def test_config_ends_with_last_offered_field(make):
    assert len(make().device.get_config()) == 8
    assert len(make(status="off").device.get_config()) == 6
    assert make(host_mtu="1400").device.get_config()[8:] == struct.pack("<HH", 1, 1400)
    config = make(speed="10000", duplex="full").device.get_config()
    assert config[12:] == struct.pack("<IB", 10000, 1)
    assert make(duplex="half").device.get_config()[12:] == struct.pack("<IB", 0xFFFFFFFF, 0)


@pytest.mark.parametrize(
    ("features", "changed"),
    [(without(n.F_CTRL_MAC_ADDR, base=LEGACY), True), (LEGACY, False), (without(n.F_CTRL_MAC_ADDR), False), (ALL, False)],
)
def test_config_write_of_address_counts_for_old_drivers_only(make, features, changed):
    rig = make(features=features)
    for i, byte in enumerate(OTHER):
        rig.device.set_config(i, bytes([byte]))
    rig.device.set_config(6, b"\0\0")
    assert (rig.device.get_config()[:6] == OTHER) is changed


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rx_queue_size", "300", "expected 256, 512 or 1024"),
        ("tx_queue_size", "768", "expected 256, 512 or 1024"),
        ("mac", "01:00:00:00:00:01", "multicast"),
        ("duplex", "both", "half or full"),
        ("tx", "fast", "never by a timer"),
        ("host_mtu", "20", "68 or more"),
    ],
)
def test_property_without_sense_is_refused(name, value, message):
    with pytest.raises(PropertyError, match=message):
        NetRig(NullNetDev(id="lan"), **{name: value})


def test_netdev_serves_one_card(rig):
    with pytest.raises(BackendError, match="in use by nic"):
        rig.netdev.take("other")


def test_device_without_netdev_warns(caplog):
    rig = NetRig(None)
    rig.close()
    assert "has no netdev" in caplog.text


def test_host_that_refuses_is_a_warning_and_an_error_to_the_driver(make, caplog):
    netdev = Stubborn(id="lan")
    rig = make(netdev, mq="on")
    assert "no offloads today" in caplog.text
    assert rig.command(n.CTRL_GUEST_OFFLOADS, n.CTRL_GUEST_OFFLOADS_SET, bytes(8)) == n.ERR
    netdev.refuses = True
    assert rig.command(n.CTRL_MQ, n.CTRL_MQ_VQ_PAIRS_SET, b"\2\0") == n.ERR
    assert "no queues today" in caplog.text
    assert rig.command(n.CTRL_MQ, n.CTRL_MQ_VQ_PAIRS_SET, b"\1\0") == n.OK


def test_commands_of_wrong_length_are_refused_with_everything_negotiated(make):
    rig = make(Stubborn(id="lan"), mq="on")
    assert rig.command(n.CTRL_MQ, n.CTRL_MQ_VQ_PAIRS_SET, b"\1") == n.ERR
    assert rig.command(n.CTRL_GUEST_OFFLOADS, n.CTRL_GUEST_OFFLOADS_SET, bytes(4)) == n.ERR


def test_port_that_cannot_be_plugged_fails_realize_and_leaves_nothing():
    netdev = NullNetDev(id="lan")
    netdev.port = lambda index: Port(PortKind.DGRAM, 9999)
    with pytest.raises(BackendError, match=r"netdev 'lan': cannot be plugged into nic .*: Bad file descriptor"):
        NetRig(netdev)
    assert netdev.user is None


def test_link_change_without_status_feature_is_silent(make):
    rig = make(features=without(n.F_STATUS))
    rig.device.set_link(False)
    assert rig.config_changes == 0


def test_driver_sets_features_the_device_was_offered(rig):
    assert rig.device.has_feature(defs.F_VERSION_1)
    assert rig.device.has_feature(n.F_MAC)


def test_driver_that_adds_commands_while_they_are_served_does_not_keep_the_thread(make, monkeypatch):
    rig = make()
    ring = rig.rings[rig.device.control_index]
    served = []

    def command(request):
        served.append(request)
        ring.publish(0)  # another vCPU offers the same chain once more
        return True

    monkeypatch.setattr(rig.device._control, "command", command)
    assert rig.command(n.CTRL_RX, n.CTRL_RX_PROMISC, b"\1") == n.OK
    assert len(served) == 64
    monkeypatch.setattr(rig.device._control, "command", lambda request: not served.append(request))
    rig.loop.run_once(0)
    rig.loop.run_once(0)
    assert len(served) == 65
