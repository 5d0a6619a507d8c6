# SPDX-License-Identifier: Apache-2.0
"""Networks, character devices, I/O threads, PCI and virtio over QMP."""

from __future__ import annotations

import socket
import struct
import time
from typing import Any

import pytest
from monitor_rig import MakeQmp, Qmp

from qdevpy.monitor.announce import rarp_frame
from qdevpy.native.core import lib
from qdevpy.native.iothread import IOThread, Polling
from qdevpy.vm.event_types import NicRxFilterChanged

CARDS = """
netdevs: {n0: {type: hubport, hubid: 1}}
devices: [virtio-net-pci: {id: nic0, netdev: n0, mac: "52:54:00:00:00:01"}, virtio-net-pci: {}]
"""


def card(call: Qmp, name: str = "nic0") -> Any:
    found = call.machine.find_device(name)
    assert found is not None
    return found.device  # type: ignore[attr-defined]


def test_netdev_comes_and_goes(qmp: MakeQmp) -> None:
    call = qmp()
    call("netdev_add", type="hubport", id="h0", hubid=3)
    assert ("netdevs", "h0") in call.machine.backends
    assert call.error("netdev_add", type="hubport", id="h0", hubid=3) == "Duplicate ID 'h0'"
    call("netdev_del", id="h0")
    assert call.error("netdev_del", id="h0") == "Device 'h0' not found"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"type": "nope", "id": "n2"}, "Parameter 'type' does not accept value 'nope'"),
        ({"type": "hubport", "id": "n2"}, "Parameter 'hubid' is missing"),
        ({"type": "hubport", "id": "n2", "hubid": 1, "zz": 1}, "Parameter 'zz' is unexpected"),
        ({"type": "hubport", "hubid": 1}, "Parameter 'id' is missing"),
        ({"type": "null", "id": "1 x"}, "Parameter 'id' expects an identifier"),
        ({"type": "stream", "id": "s", "addr": {"type": "unix", "path": "/nonexistent/x"}}, "cannot connect to /nonexistent/x"),
    ],
)
def test_netdev_that_cannot_be_is_an_error(qmp: MakeQmp, arguments: dict[str, Any], message: str) -> None:
    assert message in qmp().error("netdev_add", **arguments)


def test_netdev_that_goes_takes_its_cards_link_down(qmp: MakeQmp) -> None:
    call = qmp(CARDS)
    assert card(call).link_up
    call("netdev_del", id="n0")
    assert not card(call).link_up
    call("netdev_add", type="hubport", id="n0", hubid=1)


@pytest.mark.parametrize("name", ["nic0", "n0"])
def test_set_link_by_card_or_netdev(qmp: MakeQmp, name: str) -> None:
    call = qmp(CARDS)
    call("set_link", name=name, up=False)
    assert not card(call).link_up
    call("set_link", name=name, up=True)
    assert card(call).link_up


def test_set_link_knows_cards_without_id_by_model_and_number(qmp: MakeQmp) -> None:
    call = qmp(CARDS)
    call("set_link", name="virtio-net-pci.1", up=False)
    assert call.error("set_link", name="virtio-net-pci.0", up=False) == "Device 'virtio-net-pci.0' not found"


def stream_card(qmp: MakeQmp) -> tuple[Qmp, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    call = qmp(
        f"""
netdevs: {{s0: {{type: stream, addr.type: fd, addr.str: "{theirs.detach()}"}}}}
devices: [virtio-net-pci: {{id: nic0, netdev: s0, mac: "52:54:00:00:00:01"}}]
"""
    )
    return call, ours


def test_announce_self_sends_frames_until_its_id_is_stopped(qmp: MakeQmp) -> None:
    call, peer = stream_card(qmp)
    frame = rarp_frame(bytes.fromhex("525400000001"))
    with peer:
        call("announce-self", initial=1, max=5, rounds=1000, step=1, id="bob")
        expected = struct.pack(">I", 60) + frame
        assert peer.recv(64, socket.MSG_WAITALL) == expected
        end = time.monotonic() + 10
        peer.setblocking(False)
        received = b""
        while len(received) < 128 and time.monotonic() < end:
            call.machine.loop.run_once(0.01)
            try:
                received += peer.recv(64)
            except BlockingIOError:
                continue
        assert received[:64] == expected

        call("announce-self", initial=1, max=5, rounds=0, step=1, id="bob")
        assert call.machine.announcements == {}


def test_announce_self_goes_out_of_datagram_sockets_too(qmp: MakeQmp) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.settimeout(10)
    call = qmp(
        f"""
netdevs: {{d0: {{type: dgram, local.type: fd, local.str: "{theirs.detach()}"}}}}
devices: [virtio-net-pci: {{id: nic0, netdev: d0, mac: "52:54:00:00:00:01"}}]
"""
    )
    with ours:
        call("announce-self", initial=1, max=5, rounds=1, step=1, interfaces=["nic0"])
        assert ours.recv(100) == rarp_frame(bytes.fromhex("525400000001"))
    call("set_link", name="nic0", up=False)
    assert not card(call).send(bytes(60))
    assert not card(call).send(b"short")


def test_announce_self_of_other_interfaces_sends_nothing(qmp: MakeQmp) -> None:
    call, peer = stream_card(qmp)
    with peer:
        call("announce-self", initial=1, max=5, rounds=1, step=1, interfaces=["other"])
        peer.setblocking(False)
        with pytest.raises(BlockingIOError):
            peer.recv(1)


def test_rarp_frame_is_an_ethernet_frame_from_the_card() -> None:
    frame = rarp_frame(bytes.fromhex("525400000001"))
    assert len(frame) == 60
    assert frame[:14] == bytes.fromhex("ffffffffffff 525400000001 8035")


def test_query_rx_filter_shows_the_filter_and_arms_the_event_once(qmp: MakeQmp) -> None:
    call = qmp(CARDS)
    device = card(call)
    device.features = 1 << 19  # CTRL_VLAN
    device.filter.set_all_vlans(False)
    with call.machine.lock:
        device.filter.set_vlan(7, True)
        device.filter.set_table([bytes(6)], [b"\1\0\x5e\0\0\1"])
        device.filter_changed()
        device.filter_changed()

    first, second = call("query-rx-filter")

    assert [e for e in call.events if isinstance(e, NicRxFilterChanged)] == [
        NicRxFilterChanged("nic0", "/machine/peripheral/nic0/virtio-backend")
    ]
    assert (first["name"], second["name"]) == ("nic0", "virtio-net-pci.1")
    assert first["main-mac"] == "52:54:00:00:00:01"
    assert (first["promiscuous"], first["vlan"], first["vlan-table"]) == (True, "normal", [7])
    assert (first["unicast-table"], first["multicast-table"]) == (["00:00:00:00:00:00"], ["01:00:5e:00:00:01"])
    assert (second["vlan"], len(second["vlan-table"])) == ("all", 4096)
    with call.machine.lock:
        device.filter_changed()
    assert len(call.events) == 2
    assert call.error("query-rx-filter", name="zz") == "invalid net client name: zz"


# -- I/O threads


def test_iothreads_come_and_go(qmp: MakeQmp) -> None:
    call = qmp("objects: {io0: {type: iothread}}")
    call("object-add", qom_type="iothread", id="io1", poll_max_ns=77)
    first, second = call("query-iothreads")
    assert (first["id"], first["poll-max-ns"], second["id"], second["poll-max-ns"]) == ("io0", 32768, "io1", 77)
    assert first["thread-id"] != second["thread-id"]
    call("object-del", id="io1")
    assert [entry["id"] for entry in call("query-iothreads")] == ["io0"]


def test_options_of_an_iothread_change_while_it_runs(qmp: MakeQmp) -> None:
    call = qmp("objects: {io0: {type: iothread, poll-grow: 3}}")
    thread = call.machine.iothread("io0")
    assert polling(thread) == Polling(32768, 3, 0)
    for name, value in {"poll-max-ns": 0, "poll-grow": 5, "poll-shrink": 7, "aio-max-batch": 64}.items():
        call("qom-set", path="/objects/io0", property=name, value=value)
    shown = call("query-iothreads")[0]
    assert [shown[name] for name in ("poll-max-ns", "poll-grow", "poll-shrink", "aio-max-batch")] == [0, 5, 7, 64]
    assert polling(thread) == Polling(0, 5, 7)
    assert lib.qd_loop_max_batch(thread.pointer) == 64
    call.error("qom-set", path="/objects/io0", property="poll-max-ns", value=-1)
    call.error("qom-set", path="/objects/io0", property="poll-max-ns", value=1 << 63)
    assert call("qom-get", path="/objects/io0", property="poll-max-ns") == 0


DISK = """
objects: {io0: {type: iothread}}
drives: {d0: {driver: null-co, size: 4096}, d1: {driver: null-co, size: 4096}}
devices: [virtio-blk-pci: {id: disk0, drive: d0, num-queues: 2}]
"""


def test_device_of_a_node_moves_to_an_iothread_and_back(qmp: MakeQmp) -> None:
    call = qmp(DISK)
    node = call("query-block")[0]["inserted"]["node-name"]
    queues = call.machine.find_device("disk0").device.queues  # type: ignore[union-attr, attr-defined]
    call("x-blockdev-set-iothread", node_name=node, iothread="io0", force=True)
    assert {queue.iothread for queue in queues} == {call.machine.iothread("io0")}
    call("object-del", id="io0")
    assert queues[0].iothread.thread_id > 0  # it goes on for those that it serves
    call("x-blockdev-set-iothread", node_name=node, iothread=None, force=True)
    assert {queue.iothread for queue in queues} == {call.machine.iothread(None)}


def test_node_that_cannot_move_is_an_error(qmp: MakeQmp) -> None:
    call = qmp(DISK)
    node = call("query-block")[0]["inserted"]["node-name"]
    assert call.error("x-blockdev-set-iothread", node_name="x", iothread="io0") == "Cannot find device='' nor node-name='x'"
    assert call.error("x-blockdev-set-iothread", node_name=node, iothread="io0") == (
        f"Node {node} is associated with a BlockBackend and could be in use (use force=true to override this check)"
    )
    assert call.error("x-blockdev-set-iothread", node_name=node, iothread="io9", force=True) == "Cannot find iothread io9"
    assert call.error("x-blockdev-set-iothread", node_name=node) == "Parameter 'iothread' is missing"


def polling(thread: IOThread) -> Polling:
    found = lib.qd_loop_polling(thread.pointer)
    return Polling(found.max_ns, found.grow, found.shrink)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"qom_type": "iothread", "id": "io0"}, "attempt to add duplicate property 'io0' to object (type 'container')"),
        ({"qom_type": "nope", "id": "x"}, "Parameter 'qom-type' does not accept value 'nope'"),
        ({"qom_type": "iothread", "id": "1 o"}, "Parameter 'id' expects an identifier"),
        ({"qom_type": "iothread", "id": "x", "y": 1}, "Parameter 'y' is unexpected"),
    ],
)
def test_object_that_cannot_be_is_an_error(qmp: MakeQmp, arguments: dict[str, Any], message: str) -> None:
    call = qmp("objects: {io0: {type: iothread}}")
    assert call.error("object-add", **arguments) == message
    assert call.error("object-del", id="nope") == "object 'nope' not found"


# -- PCI


def test_query_pci_lists_functions_by_address(qmp: MakeQmp) -> None:
    (bus,) = qmp(CARDS)("query-pci")
    assert bus["bus"] == 0
    by_place = {(entry["slot"], entry["function"]): entry for entry in bus["devices"]}
    assert by_place[0, 0]["class_info"] == {"class": 0x600, "desc": "Host bridge"}
    nic = next(entry for entry in bus["devices"] if entry["qdev_id"] == "nic0")
    assert nic["id"] == {"device": 0x1000, "vendor": 0x1AF4, "subsystem": 1, "subsystem-vendor": 0x1AF4}
    assert nic["class_info"]["desc"] == "Ethernet controller"
    assert {region["bar"]: region["type"] for region in nic["regions"]} == {0: "io", 1: "memory", 4: "memory"}


# -- virtio


def test_virtio_device_is_shown_with_status_and_features(qmp: MakeQmp) -> None:
    call = qmp(CARDS)
    assert call("x-query-virtio") == [
        {"path": "/machine/peripheral-anon/device[0]/virtio-backend", "name": "virtio-net"},
        {"path": "/machine/peripheral/nic0/virtio-backend", "name": "virtio-net"},
    ]
    path = "/machine/peripheral/nic0/virtio-backend"
    device = card(call)
    device.status, device.features = 7, 1 << 32 | 1 << 17

    status = call("x-query-virtio-status", path=path)

    assert (status["device-id"], status["num-vqs"], status["started"]) == (1, 3, True)
    assert [text.partition(":")[0] for text in status["status"]["statuses"]] == [
        "VIRTIO_CONFIG_S_DRIVER_OK",
        "VIRTIO_CONFIG_S_DRIVER",
        "VIRTIO_CONFIG_S_ACKNOWLEDGE",
    ]
    assert status["guest-features"]["dev-features"] == ["VIRTIO_NET_F_CTRL_VQ"]
    assert [text.partition(":")[0] for text in status["guest-features"]["transports"]] == ["VIRTIO_F_VERSION_1"]
    assert "VIRTIO_NET_F_MAC" in status["host-features"]["dev-features"]
    device.status = 0


def test_virtio_queue_is_shown_with_its_next_chain(qmp: MakeQmp) -> None:
    call = qmp(CARDS)
    path = "/machine/peripheral/nic0/virtio-backend"
    assert call.error("x-query-virtio-queue-element", path=path, queue=0) == "Region caches not initialized"
    queue = card(call).queues[0]
    memory = call.machine.memory
    queue.desc, queue.avail, queue.used, queue.enabled = 0x1000, 0x3000, 0x4000, True
    memory.write(0x1000, struct.pack("<QIHH", 0x5000, 10, 1, 1) + struct.pack("<QIHH", 0x6000, 20, 2, 0))
    memory.write(0x3000, struct.pack("<HHH", 1, 5, 0))

    status = call("x-query-virtio-queue-status", path=path, queue=0)
    element = call("x-query-virtio-queue-element", path=path, queue=0)

    assert (status["vring-num"], status["vring-desc"], status["last-avail-idx"]) == (256, 0x1000, 0)
    assert element["descs"] == [
        {"addr": 0x6000, "len": 20, "flags": ["write"]},
        {"addr": 0x5000, "len": 10, "flags": ["next"]},
    ]
    assert (element["index"], element["avail"], element["used"]) == (0, {"flags": 1, "idx": 5, "ring": 0}, {"flags": 0, "idx": 0})
    queue.desc = 1 << 50
    assert call.error("x-query-virtio-queue-element", path=path, queue=0) == "Cannot map descriptor ring"
    queue.enabled = False


def test_packed_virtio_queue_is_shown_without_wrap_counters_and_chains(qmp: MakeQmp) -> None:
    call = qmp(CARDS)
    path = "/machine/peripheral/nic0/virtio-backend"
    device = card(call)
    device.features = 1 << 32 | 1 << 34
    device.queues[0].positions = (0x8000 | 7, 5)

    status = call("x-query-virtio-queue-status", path=path, queue=0)

    assert (status["last-avail-idx"], status["used-idx"]) == (7, 5)
    assert call.error("x-query-virtio-queue-element", path=path, queue=0) == "Packed ring not supported"
    assert device.queues[0].positions == (0x8000 | 7, 5)
    device.features = 0


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("x-query-virtio-status", {"path": "/machine"}, "Path /machine is not a VirtIODevice"),
        ("x-query-virtio-queue-status", {"queue": 99}, "Invalid virtqueue number 99"),
        ("x-query-virtio-vhost-queue-status", {"queue": 0}, "Error: vhost device has not started yet"),
        ("x-query-virtio-queue-status", {"queue": 1 << 20}, "Parameter 'queue' expects uint16_t"),
    ],
)
def test_virtio_question_that_makes_no_sense_is_an_error(
    qmp: MakeQmp, name: str, arguments: dict[str, Any], message: str
) -> None:
    path = {"path": "/machine/peripheral/nic0/virtio-backend"}
    assert qmp(CARDS).error(name, **(path | arguments)) == message
