# SPDX-License-Identifier: Apache-2.0
"""The driver-side mock does what drivers do, so that tests of devices can lean on it."""

import pytest
from null_device import NullDevice
from virtio_pci_rig import plugged, types_of

from qdevpy.backend.drive import Drive
from qdevpy.qdev import property as prop
from qdevpy.testing.driver import LegacyDriver, ModernDriver, PCIDriver
from qdevpy.testing.machine import Allocator, FakeMachine
from qdevpy.testing.rings import INDIRECT, NEXT, WRITE
from qdevpy.virtio import defs

EVENT_IDX = 1 << defs.F_RING_EVENT_IDX
INDIRECT_DESC = 1 << defs.F_RING_INDIRECT_DESC
both = pytest.mark.parametrize("driver_class", [LegacyDriver, ModernDriver])


@both
@pytest.mark.parametrize("indirect", [False, True])
def test_chain_of_several_buffers_reaches_the_device_in_order(driver_class, indirect):
    with plugged(driver_class) as driver:
        driver.start(INDIRECT_DESC)
        written, data = driver.queues[1].request([b"ab", b"cd"], [1, 2, 5], indirect=indirect)
        assert (written, data) == (4, b"dcba" + bytes(4))


@both
def test_queue_may_wrap_around_many_times(driver_class):
    with plugged(driver_class) as driver:
        driver.start()
        for n in range(200):
            assert driver.queues[1].request([bytes([n, n + 1])], [2])[1] == bytes([n + 1, n])


@both
@pytest.mark.parametrize("features", [0, EVENT_IDX])
def test_kick_is_made_where_the_device_wants_it(driver_class, features):
    with plugged(driver_class, ioeventfd="off") as driver:
        driver.start(features)
        queue = driver.queues[1]
        for _ in range(3):
            head = queue.add([b"ping"], [4])
            assert queue.kick_if_wanted()
            queue.wait(head)


@pytest.mark.parametrize("features", [0, EVENT_IDX])
def test_kick_is_left_out_where_the_device_does_not_want_it(features):
    with plugged(ModernDriver) as driver:
        driver.start(features)
        queue = driver.queues[1]
        driver.device.queues[1].set_kicks_enabled(False)
        queue.add([b"first"], [5])
        queue.add([b"second"], [5])
        assert not queue.kick_if_wanted()


def test_event_idx_asks_for_one_interrupt_after_several_chains():
    with plugged(ModernDriver, ioeventfd="off") as driver:
        driver.start(EVENT_IDX, msix=True)
        queue = driver.queues[1]
        queue.request([b"first"], [5])  # the first interrupt always comes
        driver.interrupts(2)
        queue.set_used_event(queue.used_index + 1)
        queue.request([b"a"], [1])
        assert driver.interrupts(2) == 0
        queue.request([b"b"], [1])
        assert driver.interrupts(2) == 1
        assert queue.avail_event == queue.avail_idx


def test_wait_in_vain_ends_with_the_queues_name():
    with plugged(ModernDriver) as driver:
        driver.start()
        head = driver.queues[1].add([b"never kicked"], [1])
        with pytest.raises(TimeoutError, match=r"queue 1: chain 0: not within 0.05 s"):
            driver.queues[1].wait(head, 0.05)


def test_descriptors_can_be_written_whatever_they_say():
    with plugged(ModernDriver) as driver:
        driver.start(INDIRECT_DESC)
        queue = driver.queues[0]
        queue.write_descriptor(0, 1 << 50, 16, INDIRECT | NEXT | WRITE, 99)
        queue.offer(0)
        queue.kick()
        driver.machine.wait_for(lambda: driver.status & defs.STATUS_NEEDS_RESET, "NEEDS_RESET")


@both
def test_config_space_is_read_and_written(driver_class):
    with plugged(driver_class) as driver:
        driver.start(msix=True)
        driver.write_config(4, 0xDDCCBBAA, 4)
        assert driver.read_config(4, 4) == 0xDDCCBBAA


def test_drivers_of_functions_in_one_slot_do_not_share_addresses():
    with FakeMachine(types=types_of(NullDevice)) as machine:
        drivers = [
            ModernDriver(machine, machine.plug_type("null-pci", addr="3", multifunction="on")),
            ModernDriver(machine, machine.plug_type("null-pci", addr="3.1")),
        ]
        for driver in drivers:
            driver.start(msix=True)
        drivers[0].queues[1].request([b"ping"], [4])
        assert (drivers[0].interrupts(2), drivers[1].interrupts(2)) == (1, 0)
        assert drivers[1].queues[1].request([b"ping"], [4])[1] == b"gnip"


def test_interface_that_is_not_chosen_starts_nothing():
    with plugged(PCIDriver) as driver:
        for step in (driver.start, lambda: driver.notify(0)):
            with pytest.raises(NotImplementedError):
                step()


def test_allocator_that_is_used_up_says_so():
    allocator = Allocator(0x1001, 0x2000)
    assert allocator.take(1, 16) == 0x1010
    with pytest.raises(AssertionError, match="used up"):
        allocator.take(0x1000)


class Holder(NullDevice):
    type_name = "holder-device"
    base_name = "holder"
    drive: object = prop.drive(help="held")


def test_back_end_is_opened_by_the_machine_and_given_to_a_device_as_it_is(tmp_path):
    image = tmp_path / "image"
    image.write_bytes(bytes(1024))
    with FakeMachine(types=types_of(Holder)) as machine:
        drive = machine.open_backend(Drive(id="root"), file=str(image))
        proxy = machine.plug_type("holder-pci", drive=drive, feature_five="off")
        assert proxy.device.drive is drive
        assert machine.backend("drives", "root") is drive
        assert not proxy.device.feature_five
