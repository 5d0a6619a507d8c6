# SPDX-License-Identifier: Apache-2.0
"""vhost-user-blk against a back end of our own: negotiation, requests, registers."""

import struct
import threading

import pytest
import vhost_server as vs
from vhost_rig import NUM_QUEUES, SECTORS, WRITEBACK, Rig, config_space

from qdevpy.errors import BackendError, RealizeError
from qdevpy.testing.driver import LegacyDriver
from qdevpy.vhost.frontend import State
from qdevpy.virtio import defs
from qdevpy_virtio_blk import config

EVENT_IDX = 1 << defs.F_RING_EVENT_IDX
MQ = 1 << config.F_MQ
WCE = 1 << config.F_CONFIG_WCE


@pytest.fixture
def rig(tmp_path):
    with Rig(tmp_path) as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_fails_silently(caplog):
    """A callback that raises is logged, and the machine goes on; here it is a failure."""
    yield
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


def test_disk_written_and_read_comes_from_the_back_end(rig):
    rig.start(msix=True)
    assert rig.write(3, 0x5A) == 0
    assert rig.disk.data[512 * 3 : 512 * 4] == b"\x5a" * 512
    assert rig.read(3) == b"\x5a" * 512
    assert rig.driver.interrupts(1) >= 1
    assert rig.state is State.SERVING


def test_disk_without_msix_raises_its_interrupt_line(rig):
    rig.start()
    assert rig.write(0, 1) == 0
    rig.wait(lambda: rig.driver.intx_level, "INTx")
    assert rig.driver.read_isr() == 1


def test_driver_with_the_legacy_interface_is_served(rig):
    rig.driver = LegacyDriver(rig.machine, rig.proxy)
    rig.start(msix=True)
    assert rig.write(7, 7) == 0
    assert rig.read(7) == bytes([7]) * 512


def test_messages_come_in_the_order_that_the_protocol_wants(rig):
    rig.start(msix=True)
    assert rig.server.requests() == [
        vs.GET_FEATURES, vs.GET_PROTOCOL_FEATURES, vs.SET_PROTOCOL_FEATURES, vs.GET_QUEUE_NUM, vs.SET_BACKEND_REQ_FD,
        vs.SET_OWNER, vs.GET_CONFIG,
        vs.SET_STATUS, vs.RESET_DEVICE,  # the driver's reset
        vs.SET_FEATURES, vs.SET_MEM_TABLE, vs.GET_INFLIGHT_FD, vs.SET_INFLIGHT_FD,
        vs.SET_VRING_NUM, vs.SET_VRING_BASE, vs.SET_VRING_ADDR, vs.SET_VRING_CALL, vs.SET_VRING_ERR, vs.SET_VRING_KICK,
        vs.SET_VRING_ENABLE, vs.SET_STATUS,
    ]  # fmt: skip


def test_back_end_without_protocol_features_cannot_be_a_disk(tmp_path):
    offers = {"features": vs.F_VERSION_1}
    with pytest.raises(BackendError, match="does not give away the config space"), Rig(tmp_path, offers=offers, reconnect=0):
        pass


@pytest.mark.parametrize("protocol", [vs.P_CONFIG, vs.P_CONFIG | vs.P_MQ, vs.EVERYTHING & ~vs.P_REPLY_ACK])
def test_back_end_with_few_protocol_features_serves(tmp_path, protocol):
    with Rig(tmp_path, offers={"protocol": protocol}) as rig:
        rig.start(msix=True)
        assert rig.write(1, 1) == 0


def test_features_are_those_that_both_have(tmp_path):
    offered = vs.F_VERSION_1 | vs.F_PROTOCOL | vs.F_INDIRECT | WCE | 1 << config.F_FLUSH | 1 << 63
    with Rig(tmp_path, offers={"features": offered}) as rig:
        assert rig.driver.offered == offered & ~vs.F_PROTOCOL & ~(1 << 63)
        rig.start(WCE, msix=True)
        sent = [payload for number, payload, _ in rig.server.log[-1] if number == vs.SET_FEATURES]
        assert sent == [struct.pack("=Q", vs.F_VERSION_1 | vs.F_PROTOCOL | WCE)]


def test_back_end_without_version_1_is_refused_with_what_to_do(tmp_path):
    offers = {"features": vs.F_PROTOCOL}
    with pytest.raises(RealizeError, match="no VIRTIO_F_VERSION_1; set disable-modern=on"), Rig(tmp_path, offers=offers):
        pass
    with Rig(tmp_path, offers=offers, disable_modern=True) as rig:
        rig.driver = LegacyDriver(rig.machine, rig.proxy)
        rig.start()
        assert rig.write(1, 1) == 0


def test_queues_are_one_a_cpu_and_no_more_than_the_back_end_has(tmp_path):
    with Rig(tmp_path, offers={"queues": 4}) as rig:
        assert rig.device.num_queues == 1  # the machine has one
    with pytest.raises(RealizeError, match="num-queues 5: the back end serves at most 4"), Rig(tmp_path, num_queues=5):
        pass


def test_every_queue_of_several_is_served(tmp_path):
    with Rig(tmp_path, num_queues=4, offers={"features": vs.F_VERSION_1 | vs.F_PROTOCOL | MQ}) as rig:
        rig.start(MQ, msix=True)
        assert rig.driver.read_config(NUM_QUEUES, 2) == 4
        for index in range(4):
            assert rig.write(index, index + 1, index) == 0
            assert rig.read(index, index) == bytes([index + 1]) * 512
        kicks = [payload for number, payload, fds in rig.server.log[-1] if number == vs.SET_VRING_KICK and fds == 1]
        assert kicks == [struct.pack("=Q", index) for index in range(4)]


def test_queues_that_the_driver_leaves_alone_are_not_started(tmp_path):
    with Rig(tmp_path, num_queues=4) as rig:
        rig.start(queues=1)
        assert rig.write(0, 1) == 0
        assert rig.server.requests().count(vs.SET_VRING_KICK) == 1


def test_config_space_is_the_back_ends_but_for_queues_and_write_cache(rig):
    assert rig.driver.read_config(0, 4) == SECTORS
    assert rig.driver.read_config(8 + 4, 4) == 126
    assert rig.driver.read_config(WRITEBACK, 1) == 1
    assert rig.driver.read_config(NUM_QUEUES, 2) == 1


def test_config_change_of_the_back_end_reaches_the_driver(rig):
    rig.start(msix=True)
    rig.driver.interrupts(0)
    rig.server.config[:] = config_space(99)
    answer = rig.server.ask(struct.pack("=III", 2, 1 | vs.NEED_REPLY, 0))
    rig.wait(lambda: rig.driver.read_config(0, 4) == 99, "the new capacity")
    assert rig.driver.interrupts(0) == 1
    assert answer == b""


def test_write_cache_is_switched_at_the_back_end_where_that_was_negotiated(tmp_path):
    with Rig(tmp_path, offers={"features": vs.F_VERSION_1 | vs.F_PROTOCOL | WCE}) as rig:
        rig.start()
        rig.driver.write_config(WRITEBACK, 0, 1)
        assert rig.driver.read_config(WRITEBACK, 1) == 1
        assert vs.SET_CONFIG not in rig.server.requests()
        rig.start(WCE)
        rig.driver.write_config(WRITEBACK, 0, 1)
        assert rig.driver.read_config(WRITEBACK, 1) == 0
        assert rig.server.config[WRITEBACK] == 0
        rig.driver.set_status(0)
        assert rig.driver.read_config(WRITEBACK, 1) == 1


def test_vector_that_changes_while_it_runs_is_where_interrupts_go(rig):
    rig.start(msix=True)
    assert rig.write(0, 1) == 0
    rig.driver.write(0x16, 0, 2)  # queue_select
    rig.driver.write(0x1A, 0, 2)  # queue_msix_vector
    rig.driver.interrupts(0)
    rig.driver.interrupts(1)
    assert rig.write(1, 1) == 0
    rig.driver.wait_interrupt(0)
    assert rig.driver.interrupts(1) == 0


def test_stop_and_cont_go_on_where_the_back_end_stopped(rig):
    rig.start(msix=True)
    for sector in range(5):
        assert rig.write(sector, 1) == 0
    rig.machine.pause()
    assert rig.state is State.READY
    assert rig.device.queues[0].positions == (5, 5)
    head = rig.add_write(9, 9)
    rig.queue(0).kick()
    assert rig.disk.writes.get(9) is None
    rig.machine.start()
    assert rig.finish(head) == 0
    assert rig.disk.writes[9] == 1


def test_driver_that_resets_and_starts_again_is_served_from_the_beginning(rig):
    for _ in range(3):
        rig.start(msix=True)
        assert rig.write(1, 1) == 0
        assert rig.device.queues[0].positions[0] == 0
    rig.driver.set_status(0)
    assert rig.state is State.READY
    assert rig.machine.accelerator.ioevents == []


def test_driver_on_another_thread_is_not_mistaken_for_a_back_end_that_speaks_unasked(rig, caplog):
    """The main loop sees an answer arrive that the vCPU's thread has read before it gets the lock."""
    done = threading.Event()

    def reset_often():
        for _ in range(300):
            rig.driver.set_status(0)
        done.set()

    thread = threading.Thread(target=reset_often)
    thread.start()
    rig.wait(done.is_set, "all resets")
    thread.join()
    assert "hung up" not in caplog.text


def test_bus_mastering_off_stops_the_back_end(rig):
    rig.start(msix=True)
    rig.driver.set_command(3)
    assert rig.state is State.READY
    head = rig.add_write(2, 2)
    rig.driver.set_command(7)
    assert rig.finish(head) == 0


def test_ring_outside_of_memory_needs_a_reset_and_is_not_shown_to_the_back_end(rig):
    rig.driver.negotiate(1 << defs.F_VERSION_1)
    rig.driver.write(0x16, 0, 2)
    for register in (0x20, 0x28, 0x30):
        rig.driver.write(register, 0, 4)
        rig.driver.write(register + 4, 0x100, 4)
    rig.driver.write(0x1C, 1, 2)
    rig.driver.set_status(rig.driver.status | defs.STATUS_DRIVER_OK)
    assert rig.driver.status & defs.STATUS_NEEDS_RESET
    assert vs.SET_VRING_ADDR not in rig.server.requests()
    rig.start(msix=True)
    assert rig.write(1, 1) == 0


def test_back_end_that_finds_a_ring_broken_leaves_a_device_that_needs_a_reset(rig):
    rig.start(msix=True)
    rig.server.do(lambda: __import__("os").eventfd_write(rig.server.rings[0].fds["err"], 1))
    rig.wait(lambda: rig.driver.status & defs.STATUS_NEEDS_RESET, "NEEDS_RESET")
    assert rig.state is State.READY
    rig.start(msix=True)
    assert rig.write(1, 1) == 0


def test_unplugged_disk_leaves_nothing_and_the_chardev_for_another(rig):
    rig.start(msix=True)
    assert rig.write(1, 1) == 0
    rig.machine.pci.unplug(rig.proxy)
    assert rig.machine.accelerator.ioevents == []
    assert rig.chardev.user is None
    assert rig.server.requests()[-3:] == [vs.GET_VRING_BASE, vs.SET_STATUS, vs.RESET_DEVICE]


def test_chardev_that_is_no_unix_socket_is_refused(tmp_path):
    from qdevpy.backend.chardev_null import NullChardev
    from qdevpy.testing.machine import FakeMachine
    from qdevpy.virtio.pci_types import device_types_for
    from qdevpy_virtio_blk.vhost_user import VhostUserBlock

    with FakeMachine() as machine:
        chardev = machine.open_backend(NullChardev(id="n0"))
        with pytest.raises(BackendError, match="chardev 'n0' is no UNIX socket"):
            machine.plug_type(device_types_for(VhostUserBlock, "test")[0], chardev=chardev)
        with pytest.raises(RealizeError, match="chardev is not set"):
            machine.plug_type(device_types_for(VhostUserBlock, "test")[0])
        assert chardev.user is None
