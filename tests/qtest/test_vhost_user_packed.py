# SPDX-License-Identifier: Apache-2.0
"""Packed rings at a vhost-user back end: what it is told; it serves none here."""

import struct

import pytest
import vhost_server as vs
from vhost_rig import Rig

from qdevpy.vhost.frontend import State
from qdevpy.virtio import defs

PACKED = 1 << defs.F_RING_PACKED
WRAPPED = 0x8000  # both wrap counters start at 1 (virtio 1.2, 2.8.1)


class Onlooker(vs.Server):
    """Keeps its hands off the rings."""

    def _start_ring(self, ring):
        ring.started = True

    def _serve_ring(self, ring):
        pass

    def _set_addresses(self, payload):
        index, _, desc, used, avail, _ = struct.unpack("=IIQQQQ", payload)
        ring = self._ring(index)
        ring.desc, ring.used, ring.avail = desc, used, avail


@pytest.fixture
def rig(tmp_path, monkeypatch):
    import vhost_rig

    monkeypatch.setattr(vhost_rig, "Server", Onlooker)
    with Rig(tmp_path, packed=True, offers={"features": vs.F_VERSION_1 | vs.F_PROTOCOL | PACKED}) as made:
        yield made


def bases(rig):
    found = [struct.unpack("=II", payload)[1] for number, payload, _ in rig.server.log[-1] if number == vs.SET_VRING_BASE]
    return [(base & 0xFFFF, base >> 16) for base in found]


def test_packed_ring_is_offered_and_begins_with_both_wrap_counters(rig):
    assert rig.driver.offered & PACKED
    rig.start(PACKED)
    assert bases(rig) == [(WRAPPED, WRAPPED)]
    ring, queue, ram = rig.server.rings[0], rig.device.queues[0], rig.machine.memory.regions[0]
    assert (ring.desc, ring.avail, ring.used) == (ram.hva + queue.desc, ram.hva + queue.avail, ram.hva + queue.used)


def test_packed_ring_goes_on_where_the_back_end_stopped(rig):
    rig.start(PACKED)
    rig.server.replies[vs.GET_VRING_BASE] = lambda message, fds: (message[:16] + struct.pack("=HH", 5 | WRAPPED, 3), fds)
    rig.machine.pause()
    assert rig.device.queues[0].positions == (5 | WRAPPED, 3)
    rig.machine.start()
    assert bases(rig) == [(WRAPPED, WRAPPED), (5 | WRAPPED, 3)]


@pytest.mark.parametrize("base", [(500, 3), (5, 0x7FFF), (0xFFFF, 0xFFFF)])
def test_position_outside_of_a_packed_ring_is_not_believed(rig, base):
    rig.start(PACKED)
    rig.server.replies[vs.GET_VRING_BASE] = lambda message, fds: (message[:16] + struct.pack("=HH", *base), fds)
    rig.machine.pause()
    assert rig.device.queues[0].positions == (WRAPPED, WRAPPED)


def test_packed_ring_goes_on_with_a_successor_that_knows_what_is_in_flight(rig):
    rig.start(PACKED)
    rig.restart_server()
    rig.wait_state(State.SERVING)
    assert vs.SET_INFLIGHT_FD in rig.server.requests()
    assert not rig.driver.status & defs.STATUS_NEEDS_RESET


def test_packed_rings_are_not_offered_through_a_relay(tmp_path):
    features = vs.F_VERSION_1 | vs.F_PROTOCOL | PACKED
    offers = {"features": features, "protocol": vs.EVERYTHING & ~vs.P_INFLIGHT}
    with Rig(tmp_path, packed=True, offers=offers) as rig:
        assert not rig.driver.offered & PACKED


def test_packed_ring_whose_back_end_is_gone_for_good_needs_a_reset(tmp_path, monkeypatch):
    import vhost_rig

    monkeypatch.setattr(vhost_rig, "Server", Onlooker)
    features = vs.F_VERSION_1 | vs.F_PROTOCOL | PACKED
    offers = {"features": features, "protocol": vs.EVERYTHING & ~vs.P_INFLIGHT}
    with Rig(tmp_path, packed=True, reconnect=0, offers=offers) as rig:
        rig.start(PACKED)
        rig.kill_server()
        assert rig.driver.status & defs.STATUS_NEEDS_RESET
