# SPDX-License-Identifier: Apache-2.0
"""vhost-user back ends that go and come back: no request is lost, none is answered twice."""

import os
import struct

import pytest
import vhost_server as vs
from vhost_rig import Rig, config_space

from qdevpy.vhost.frontend import State
from qdevpy.virtio import defs
from qdevpy_virtio_blk import config

WITHOUT_INFLIGHT = {"protocol": vs.EVERYTHING & ~vs.P_INFLIGHT}
BOTH = pytest.mark.parametrize("offers", [{}, WITHOUT_INFLIGHT], ids=["inflight", "relay"])


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Chardevs try again at once, not after a second."""
    from qdevpy.vm.loop import MainLoop

    later = MainLoop.call_later
    monkeypatch.setattr(MainLoop, "call_later", lambda loop, seconds, call: later(loop, min(seconds, 0.01), call))


@pytest.fixture(autouse=True)
def nothing_fails_silently(caplog):
    """A callback that raises is logged, and the machine goes on; here it is a failure."""
    yield
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


@BOTH
def test_requests_before_and_after_a_restart_are_served(tmp_path, offers):
    with Rig(tmp_path, offers=offers) as rig:
        rig.start(msix=True)
        for sector in range(3):
            assert rig.write(sector, 1) == 0
        rig.restart_server()
        rig.wait_state(State.SERVING)
        for sector in range(3, 6):
            assert rig.write(sector, 1) == 0
        assert rig.disk.writes == dict.fromkeys(range(6), 1)


@BOTH
def test_requests_offered_while_the_back_end_is_away_are_served_when_it_comes(tmp_path, offers):
    with Rig(tmp_path, offers=offers) as rig:
        rig.start(msix=True)
        rig.kill_server()
        assert rig.state is State.ORPHANED
        heads = [rig.add_write(sector, 1) for sector in range(5)]
        rig.queue(0).kick()
        rig.start_server()
        assert [rig.finish(head) for head in heads] == [0] * 5
        assert rig.disk.writes == dict.fromkeys(range(5), 1)


@BOTH
def test_requests_in_flight_at_the_death_are_each_answered_once(tmp_path, offers):
    with Rig(tmp_path, offers=offers) as rig:
        rig.start(msix=True)
        assert rig.write(200, 1) == 0
        rig.server.hold = True
        heads = [rig.add_write(sector, sector + 1) for sector in range(10)]
        rig.queue(0).kick()
        rig.wait(lambda: len(rig.server.rings[0].held) == 10, "the back end took them")
        for _ in range(4):  # in order
            rig.server.answer_one(0, 0)
        rig.restart_server()
        assert [rig.finish(head) for head in heads] == [0] * 10
        assert sorted(rig.disk.writes) == [*range(10), 200]
        assert rig.queue(0).order.count(heads[7]) == 1
        assert len(rig.queue(0).order) == 11
        assert rig.queue(0).used_index == 11


@BOTH
def test_requests_answered_out_of_order_before_the_death_are_not_answered_again(tmp_path, offers):
    with Rig(tmp_path, offers=offers) as rig:
        rig.start(msix=True)
        rig.server.hold = True
        heads = [rig.add_write(sector, 1) for sector in range(6)]
        rig.queue(0).kick()
        rig.wait(lambda: len(rig.server.rings[0].held) == 6, "the back end took them")
        rig.server.answer_one(0, 4)
        rig.server.answer_one(0, 2)
        rig.restart_server()
        assert [rig.finish(head) for head in heads] == [0] * 6
        assert sorted(rig.queue(0).order) == sorted(heads)
        assert rig.disk.writes == dict.fromkeys(range(6), 1)


def test_every_queue_resumes(tmp_path):
    with Rig(tmp_path, num_queues=4) as rig:
        rig.start(msix=True)
        rig.server.hold = True
        heads = {(queue, n): rig.add_write(10 * queue + n, 1, queue) for queue in range(4) for n in range(3)}
        for queue in range(4):
            rig.queue(queue).kick()
        rig.wait(lambda: sum(len(ring.held) for ring in rig.server.rings.values()) == 12, "the back end took them")
        rig.restart_server()
        assert [rig.finish(head, queue) for (queue, _), head in heads.items()] == [0] * 12
        assert len(rig.disk.writes) == 12


def test_completion_whose_signal_was_lost_with_the_back_end_is_signalled_by_its_successor(tmp_path):
    with Rig(tmp_path) as rig:
        rig.start(msix=True)
        rig.server.do(lambda: rig.server.rings[0].set_fd("call", -1))  # dies between the used ring and the signal
        rig.add_write(1, 1)
        rig.queue(0).kick()
        rig.wait(lambda: rig.queue(0).used_index == 1, "the used ring")
        assert rig.driver.interrupts(1) == 0
        rig.restart_server()
        rig.driver.wait_interrupt(1)


@pytest.mark.parametrize("at", [
    vs.GET_FEATURES, vs.GET_PROTOCOL_FEATURES, vs.SET_PROTOCOL_FEATURES, vs.GET_QUEUE_NUM, vs.SET_BACKEND_REQ_FD, vs.SET_OWNER,
    vs.GET_CONFIG, vs.SET_FEATURES, vs.SET_MEM_TABLE, vs.SET_INFLIGHT_FD, vs.SET_VRING_NUM, vs.SET_VRING_BASE, vs.SET_VRING_ADDR,
    vs.SET_VRING_CALL, vs.SET_VRING_ERR, vs.SET_VRING_KICK, vs.SET_VRING_ENABLE, vs.SET_STATUS,
])  # fmt: skip
def test_back_end_that_dies_again_while_it_comes_back_is_followed_by_one_that_does_not(tmp_path, at):
    with Rig(tmp_path) as rig:
        rig.start(msix=True)
        assert rig.write(0, 1) == 0
        rig.restart_server(dies_at=at)
        head = rig.add_write(1, 1)
        rig.queue(0).kick()
        rig.wait(lambda: rig.server.requests()[-1:] == [at], "it came that far")
        rig.server.do(lambda: setattr(rig.server, "dies_at", None))
        assert rig.finish(head) == 0
        assert rig.disk.writes[1] == 1


@pytest.mark.parametrize("at", [vs.GET_FEATURES, vs.SET_MEM_TABLE, vs.SET_VRING_KICK])
def test_back_end_that_dies_while_the_driver_starts_is_followed_by_one_that_does_not(tmp_path, at):
    with Rig(tmp_path) as rig:
        rig.server.do(lambda: setattr(rig.server, "dies_at", at))
        if at == vs.GET_FEATURES:
            rig.server.hang_up()
        rig.start(msix=True)
        rig.wait(lambda: at in rig.server.requests(), "it came that far")
        assert rig.driver.status & defs.STATUS_NEEDS_RESET == 0
        rig.server.do(lambda: setattr(rig.server, "dies_at", None))
        assert rig.write(1, 1) == 0


def test_back_end_that_dies_when_it_is_asked_to_stop_loses_nothing(tmp_path):
    with Rig(tmp_path, offers=WITHOUT_INFLIGHT) as rig:
        rig.start(msix=True)
        rig.server.hold = True
        heads = [rig.add_write(sector, 1) for sector in range(3)]
        rig.queue(0).kick()
        rig.wait(lambda: len(rig.server.rings[0].held) == 3, "the back end took them")
        rig.server.answer_one(0, 0)
        rig.server.dies_at = vs.GET_VRING_BASE
        rig.machine.pause()
        assert rig.state is State.AWAY
        assert rig.device.frontend.handover.in_flight(0) == 2
        rig.server.dies_at = None
        rig.server.hold = False
        rig.wait_state(State.READY)
        rig.machine.start()
        assert [rig.finish(head) for head in heads] == [0] * 3


def test_machine_stops_and_goes_on_without_a_back_end(tmp_path):
    with Rig(tmp_path) as rig:
        rig.start(msix=True)
        rig.kill_server()
        rig.machine.pause()
        assert rig.state is State.AWAY
        rig.machine.start()
        assert rig.state is State.ORPHANED
        head = rig.add_write(1, 1)
        rig.queue(0).kick()
        rig.start_server()
        assert rig.finish(head) == 0


def test_driver_resets_and_starts_without_a_back_end(tmp_path):
    with Rig(tmp_path) as rig:
        rig.start(msix=True)
        assert rig.write(1, 1) == 0
        rig.kill_server()
        rig.driver.set_status(0)
        assert rig.state is State.AWAY
        rig.start(msix=True)
        assert rig.state is State.ORPHANED
        head = rig.add_write(2, 2)
        rig.queue(0).kick()
        rig.start_server()
        assert rig.finish(head) == 0
        assert rig.device.queues[0].positions == (0, 0)


def test_disk_is_unplugged_without_a_back_end(tmp_path):
    with Rig(tmp_path) as rig:
        rig.start(msix=True)
        rig.kill_server()
        rig.machine.pci.unplug(rig.proxy)
        assert rig.machine.accelerator.ioevents == []
        assert rig.chardev.user is None


def test_successor_without_a_feature_in_use_needs_a_reset_by_the_driver(tmp_path, caplog):
    flush = 1 << config.F_FLUSH
    with Rig(tmp_path, offers={"features": vs.F_VERSION_1 | vs.F_PROTOCOL | flush}) as rig:
        rig.start(flush, msix=True)
        rig.restart_server(features=vs.F_VERSION_1 | vs.F_PROTOCOL)
        rig.wait(lambda: rig.driver.status & defs.STATUS_NEEDS_RESET, "NEEDS_RESET")
        assert "the back end lacks features 0x200" in caplog.text
        rig.driver.set_status(0)
        assert rig.driver.offered & flush == 0
        rig.start(msix=True)
        assert rig.write(1, 1) == 0


def test_successor_with_fewer_queues_is_hung_up_on(tmp_path, caplog):
    with Rig(tmp_path, num_queues=4) as rig:
        rig.start(msix=True)
        rig.restart_server(queues=2)
        rig.wait(lambda: "serves 2 queues; there are 4" in caplog.text, "the warning")
        assert rig.state is State.ORPHANED
        head = rig.add_write(1, 1, 3)
        rig.queue(3).kick()
        rig.restart_server()
        assert rig.finish(head, 3) == 0


def test_successor_with_another_size_is_told_to_the_driver(tmp_path):
    with Rig(tmp_path) as rig:
        rig.start(msix=True)
        rig.driver.interrupts(0)
        rig.server.close()
        rig.disk.data += bytes(512 * 10)
        rig.start_server()
        rig.server.config[:] = config_space(266)
        rig.wait(lambda: rig.driver.read_config(0, 4) == 266, "the new size")
        assert rig.driver.interrupts(0) == 1


def test_server_socket_takes_the_next_back_end(tmp_path):
    """The other way round is the chardev's business; here: the device that listens."""
    from qdevpy.backend.chardev_socket import SocketChardev

    with Rig(tmp_path) as rig:
        assert isinstance(rig.chardev, SocketChardev)
        assert rig.chardev.comes_again


@BOTH
@pytest.mark.parametrize("round_", range(3))
def test_disk_survives_many_deaths_under_load(tmp_path, round_, offers):
    with Rig(tmp_path, num_queues=2, offers=offers) as rig:
        rig.start(msix=True)
        expected = {}
        for death in range(8):
            heads = []
            for n in range(6):
                sector, fill, queue = (death * 6 + n) % 200, (death + n + round_) % 255 + 1, n % 2
                expected[sector] = fill
                heads.append((queue, rig.add_write(sector, fill, queue)))
                rig.queue(queue).kick()
                if n == death % 6:
                    rig.server.close()
                    rig.start_server()
            assert [rig.finish(head, queue) for queue, head in heads] == [0] * 6
        for sector, fill in expected.items():
            assert rig.disk.data[512 * sector] == fill


def test_relay_serves_a_request_that_others_have_overtaken_more_than_once_around_the_ring(tmp_path):
    """Its entry of the available ring is overwritten by then: only who counted knows that it is in flight."""
    with Rig(tmp_path, offers=WITHOUT_INFLIGHT, queue_size=8) as rig:
        rig.start(msix=True)
        rig.server.hold = True
        slow = rig.add_write(100, 7)
        rig.queue(0).kick()
        rig.wait(lambda: len(rig.server.rings[0].held) == 1, "the back end took it")
        for sector in range(20):
            head = rig.add_write(sector, 1)
            rig.queue(0).kick()
            rig.wait(lambda: len(rig.server.rings[0].held) == 2, "the back end took one more")
            rig.server.answer_one(0, 1)
            assert rig.finish(head) == 0
        rig.restart_server()
        assert rig.finish(slow) == 0
        assert rig.disk.writes == dict.fromkeys([*range(20), 100], 1)


def test_direct_back_end_without_memory_resumes_from_the_used_index(tmp_path):
    """A client that never connects again has no relay; its machine may stop and go on."""
    with Rig(tmp_path, offers=WITHOUT_INFLIGHT, reconnect=0) as rig:
        rig.start(msix=True)
        assert rig.write(1, 1) == 0
        assert rig.device.queues[0].is_native is False
        rig.machine.pause()
        rig.machine.start()
        assert rig.write(2, 2) == 0


def test_driver_that_offers_a_descriptor_twice_to_a_relay_needs_a_reset(tmp_path):
    with Rig(tmp_path, offers=WITHOUT_INFLIGHT) as rig:
        rig.start(msix=True)
        rig.server.hold = True
        head = rig.add_write(1, 1)
        rig.queue(0).offer(head)
        rig.queue(0).kick()
        rig.wait(lambda: rig.driver.status & defs.STATUS_NEEDS_RESET, "NEEDS_RESET")
        rig.server.hold = False
        rig.start(msix=True)
        assert rig.write(2, 2) == 0


@pytest.mark.parametrize("head", [5, 0xFFFF, 0x10000])
def test_back_end_that_uses_what_is_not_in_flight_leaves_a_device_that_needs_a_reset(tmp_path, head):
    with Rig(tmp_path, offers=WITHOUT_INFLIGHT) as rig:
        rig.start(msix=True)
        assert rig.write(1, 1) == 0

        def use_it():
            ring = rig.server.rings[0]
            rig.server._store(ring.used + 4 + 8 * (ring.used_idx % ring.num), struct.pack("<II", head, 1))
            rig.server._store(ring.used + 2, (ring.used_idx + 1).to_bytes(2, "little"))
            os.eventfd_write(ring.fds["call"], 1)

        rig.server.do(use_it)
        rig.wait(lambda: rig.driver.status & defs.STATUS_NEEDS_RESET, "NEEDS_RESET")
        assert rig.queue(0).used_index == 1
        rig.start(msix=True)
        assert rig.write(2, 2) == 0
