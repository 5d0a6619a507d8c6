# SPDX-License-Identifier: Apache-2.0
"""A queue is measured as long as somebody looks, and no longer."""

import time

import pytest
from qmp_parts import PATIENCE, Client, RunningMachine, backend, chardev, device

from qdevpy.native.core import ffi
from qdevpy.native.meter import Meter


@pytest.fixture
def machine(tmp_path):
    """A machine whose disk's queue the driver has set up, as far as one can see from outside."""
    running = RunningMachine(
        chardev("mon0", server="on", path=tmp_path / "qmp"),
        machine="pc",
        memory=16 << 20,
        drives={"root": backend("root", "drive", driver="null-co", size="1M")},
        devices=(device("virtio-blk-pci", id="disk0", drive="root"),),
    )
    running.address = tmp_path / "qmp"
    with running:
        (running.queue,) = running.machine.find_device("disk0").device.queues
        running.call(lambda: setattr(running.queue, "enabled", True))
        yield running


def is_tapped(machine):
    return machine.call(lambda: machine.queue.pointer.ring.tapped != ffi.NULL)


def wait_until_untapped(machine):
    end = time.monotonic() + PATIENCE
    while is_tapped(machine):
        assert time.monotonic() < end, "the meter stays"


def test_nobody_who_does_not_ask_has_queues_measured(machine):
    with Client(machine.address) as client:
        client.command("x-query-counters")
        assert not is_tapped(machine)


def test_meter_goes_when_its_client_dies(machine):
    client = Client(machine.address)
    client.command("x-query-counters", latencies=True)
    assert is_tapped(machine)

    client.close()

    wait_until_untapped(machine)


def test_meter_of_one_client_stays_when_another_goes(machine):
    with Client(machine.address) as one:
        one.command("x-query-counters", latencies=True)
        with Client(machine.address) as other:
            other.command("x-query-counters", latencies=True)
            other.command("query-status")
        one.command("query-status")
        assert is_tapped(machine)
    wait_until_untapped(machine)


def test_meter_goes_with_its_queue(machine):
    with Client(machine.address) as client:
        client.command("x-query-counters", latencies=True)
        machine.call(lambda: machine.machine.find_device("disk0").parent_bus.unplug(machine.machine.find_device("disk0")))
        names = {each["name"] for each in client.command("x-query-counters", latencies=True)["devices"]}
    assert "disk0" not in names


def test_meter_may_be_put_on_and_taken_off_again_and_again(machine):
    def work():
        for _ in range(3):
            meter = Meter(machine.queue.pointer)
            assert (meter.latencies(), meter.read_bytes, meter.written_bytes) == ({}, 0, 0)
            meter.remove()

    machine.call(work)
    assert not is_tapped(machine)
