# SPDX-License-Identifier: Apache-2.0
"""Drivers that break every rule: the device may ask for a reset, the process must not notice."""

import itertools
import os
import socket
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from net_rig import ALL, LEGACY, RAM, NetRig, frame, without

from qdevpy.backend.netdev_dgram import DgramNetDev
from qdevpy.backend.netdev_stream import StreamNetDev
from qdevpy.virtio import defs
from qdevpy_virtio_net import numbers as n

ADDRESSES = st.one_of(st.integers(0, RAM + 4096), st.sampled_from([0, RAM - 1, RAM, (1 << 64) - 1, 1 << 63]))
LENGTHS = st.one_of(st.integers(0, 3000), st.sampled_from([0, 1, 9, 10, 11, 12, 13, 0x10000, 0xFFFFFFFF, RAM]))
DESCRIPTORS = st.tuples(ADDRESSES, LENGTHS, st.integers(0, 7), st.integers(0, 300))
MASKS = [ALL, LEGACY, without(n.F_MRG_RXBUF), without(n.F_MRG_RXBUF, defs.F_RING_EVENT_IDX, base=LEGACY)]


class Wire:
    """A card on a datagram or stream socket pair."""

    def __init__(self, kind, features):
        self.peer, theirs = socket.socketpair(socket.AF_UNIX, kind)
        self.peer.setblocking(False)
        self.stream = kind == socket.SOCK_STREAM
        netdev = StreamNetDev(id="lan") if self.stream else DgramNetDev(id="lan")
        where = "addr" if self.stream else "local"
        netdev.set_property(f"{where}.type", "fd")
        netdev.set_property(f"{where}.str", theirs.detach())
        self.rig = NetRig(netdev, features=features)

    def send(self, data):
        try:
            self.peer.send((struct.pack(">I", len(data)) if self.stream else b"") + data)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            return

    def drain(self):
        try:
            while self.peer.recv(1 << 18):
                pass
        except (BlockingIOError, ConnectionResetError):
            return

    def close(self):
        self.rig.close()
        self.peer.close()


def settle(rig):
    """Until the I/O thread has looked at every kick, broken ring or not."""
    for ring in rig.rings:
        ring.queue.stop()


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM], ids=["dgram", "stream"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    features=st.sampled_from(MASKS),
    table=st.lists(DESCRIPTORS, min_size=1, max_size=12),
    heads=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 300)), max_size=12),
    jump=st.sampled_from([0, 0, 0, 1, 300, 0x8000]),
    frames=st.lists(st.integers(0, 4000), max_size=4),
)
def test_rings_of_any_content_do_no_harm(kind, features, table, heads, jump, frames):
    wire = Wire(kind, features)
    rig = wire.rig
    try:
        rig.memory.write(RAM - 65536, os.urandom(65536))
        for ring in rig.rings:
            for i, descriptor in enumerate(table):
                rig.memory.write(ring.desc + 16 * i, struct.pack("<QIHH", *descriptor))
        for size in frames:
            wire.send(frame(size=size)[:size])
        for which, head in heads:
            rig.rings[which].publish(head)
            rig.rings[which].kick()
        for ring in rig.rings:
            ring.avail_idx = (ring.avail_idx + jump) & 0xFFFF
            rig.memory.write(ring.avail + 2, struct.pack("<H", ring.avail_idx))
            ring.kick()
        wire.drain()
        settle(rig)
        rig.loop.run_once(0)
        rig.reset()
        assert rig.device.broken is None
    finally:
        wire.close()


@pytest.fixture(scope="module")
def shared_wire():
    wire = Wire(socket.SOCK_STREAM, ALL)
    yield wire
    wire.close()


@settings(max_examples=150, deadline=None)
@given(cls=st.integers(0, 6) | st.integers(0, 255), cmd=st.integers(0, 6) | st.integers(0, 255), data=st.binary(max_size=600))
def test_control_commands_of_any_content_are_answered(shared_wire, cls, cmd, data):
    assert shared_wire.rig.command(cls, cmd, data) in (n.OK, n.ERR)
    shared_wire.rig.next = 0x100000


@settings(max_examples=60, deadline=None)
@given(
    data=st.binary(max_size=400)
    | st.lists(st.binary(max_size=200), max_size=6).map(lambda all_: b"".join(struct.pack(">I", len(x)) + x for x in all_)),
    cuts=st.lists(st.integers(1, 400), max_size=5),
)
def test_streams_of_any_content_do_no_harm(data, cuts):
    wire = Wire(socket.SOCK_STREAM, ALL)
    try:
        wire.rig.fill(4)
        edges = sorted({0, *(c for c in cuts if c < len(data)), len(data)})
        for a, b in itertools.pairwise(edges):
            wire.peer.send(data[a:b])
        wire.peer.shutdown(socket.SHUT_WR)
        wire.rig.until(lambda: not wire.rig.device.link_up or len(wire.rig.rx.chains) == wire.rig.rx.used_idx)
        assert wire.rig.device.broken is None
    finally:
        wire.close()
