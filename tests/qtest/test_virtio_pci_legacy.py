# SPDX-License-Identifier: Apache-2.0
"""The legacy interface, register by register (virtio 1.2, 4.1.4.10)."""

import pytest
from virtio_pci_rig import BIT_5, READY, plugged

from qdevpy.pci import config
from qdevpy.testing.driver import LegacyDriver
from qdevpy.virtio import defs, pci_legacy


@pytest.fixture
def driver():
    with plugged(LegacyDriver) as driver:
        yield driver


def select(driver, queue):
    driver.write(pci_legacy.QUEUE_SEL, queue, 2)


def test_device_offers_the_low_32_bits(driver):
    assert driver.offered & BIT_5
    assert driver.offered >> defs.F_NOTIFY_ON_EMPTY & 1
    assert driver.offered >> defs.F_RING_EVENT_IDX & 1


def test_features_not_offered_are_dropped(driver):
    driver.write(pci_legacy.GUEST_FEATURES, 0xFFFF_FFFF, 4)
    assert driver.read(pci_legacy.GUEST_FEATURES, 4) == driver.offered


def test_features_are_the_devices_from_driver_ok_on(driver):
    driver.start(BIT_5)
    assert driver.device.log[-2:] == [("features", BIT_5), ("status", 3, 7)]
    driver.write(pci_legacy.GUEST_FEATURES, 0, 4)
    assert driver.device.features == BIT_5


def test_queue_registers_of_no_queue_read_as_zero(driver):
    select(driver, 3)
    assert driver.read(pci_legacy.QUEUE_NUM, 2) == 0
    assert driver.read(pci_legacy.QUEUE_PFN, 4) == 0
    driver.write(pci_legacy.QUEUE_PFN, 5, 4)
    assert driver.read(pci_legacy.QUEUE_PFN, 4) == 0


def test_queue_size_and_page_read_back(driver):
    select(driver, 1)
    assert driver.read(pci_legacy.QUEUE_NUM, 2) == 64
    driver.write(pci_legacy.QUEUE_PFN, 0x100, 4)
    assert driver.read(pci_legacy.QUEUE_PFN, 4) == 0x100
    queue = driver.device.queues[1]
    assert (queue.desc, queue.avail, queue.used) == (0x100000, 0x100400, 0x101000)


def test_page_of_a_queue_in_use_does_not_change(driver):
    driver.start()
    select(driver, 1)
    before = driver.read(pci_legacy.QUEUE_PFN, 4)
    driver.write(pci_legacy.QUEUE_PFN, 0x7777, 4)
    assert driver.read(pci_legacy.QUEUE_PFN, 4) == before


def test_page_zero_resets_the_device(driver):
    driver.start()
    select(driver, 1)
    driver.write(pci_legacy.QUEUE_PFN, 0, 4)
    assert driver.status == 0
    select(driver, 0)
    assert driver.read(pci_legacy.QUEUE_PFN, 4) == 0


def test_ring_outside_memory_needs_a_reset_and_comes_back_after_one(driver):
    select(driver, 0)
    driver.set_status(READY)
    driver.write(pci_legacy.QUEUE_PFN, 0xFFFF_FFFF, 4)
    driver.set_status(READY | defs.STATUS_DRIVER_OK)
    assert driver.status & defs.STATUS_NEEDS_RESET
    driver.start()
    assert driver.queues[1].request([b"ping"], [4])[1] == b"gnip"


def test_config_space_is_behind_the_header_and_further_with_msix(driver):
    assert driver.read(20, 4) == 0x03020100
    driver.enable_msix()
    assert driver.read(24, 4) == 0x03020100
    assert driver.read(20, 2) == defs.NO_VECTOR
    driver.disable_msix()
    assert driver.read(20, 1) == 0


def test_config_space_writes_stay_inside_it(driver):
    driver.write(20 + 2, 0xAABB, 2)
    driver.write(20 + 9, 0xAABB, 2)
    assert bytes(driver.device.contents) == bytes([0, 1, 0xBB, 0xAA, 4, 5, 6, 7, 8, 9])
    assert driver.read(20 + 9, 4) == 9
    assert driver.read(20 + 12, 4) == 0


def test_isr_is_cleared_by_reading_and_lowers_the_line(driver):
    driver.start()
    driver.queues[1].request([b"ping"], [4])
    assert driver.intx_level
    assert driver.read_isr() == 1
    assert (driver.read_isr(), driver.intx_level) == (0, False)


def test_config_change_sets_both_isr_bits(driver):
    driver.start()
    driver.device.bindings.notify_config()
    assert driver.read_isr() == 3  # QEMU sets the queues' bit as well, and drivers have come to look at that alone


def test_vector_beyond_the_last_reads_back_as_none(driver):
    driver.enable_msix()
    for register in (pci_legacy.CONFIG_VECTOR, pci_legacy.QUEUE_VECTOR):
        driver.write(register, 3, 2)
        assert driver.read(register, 2) == 3
        driver.write(register, 4, 2)
        assert driver.read(register, 2) == defs.NO_VECTOR


def test_kick_of_no_queue_is_ignored(driver):
    driver.start()
    for queue in (3, 0xFFFF):
        driver.notify(queue)
    assert driver.queues[1].request([b"ping"], [4])[1] == b"gnip"


def test_status_reads_back_and_zero_resets(driver):
    driver.set_status(READY)
    assert driver.status == READY
    driver.set_status(0)
    assert driver.status == 0


def test_early_kick_settles_features_once(driver):
    driver.set_status(READY)
    driver.write(pci_legacy.GUEST_FEATURES, BIT_5, 4)
    driver.queues = [driver.setup_queue(0)]
    driver.queues[0].request([b"x"], [1])
    driver.write(pci_legacy.GUEST_FEATURES, 0, 4)
    driver.set_status(READY | defs.STATUS_DRIVER_OK)
    assert [entry for entry in driver.device.log if entry[0] == "features"] == [("features", BIT_5)]
    assert driver.device.features == BIT_5


def test_kick_before_any_status_starts_nothing(driver):
    driver.queues = [driver.setup_queue(0)]
    driver.queues[0].add([b"x"], [1])
    driver.notify(0)
    assert driver.queues[0].used_index == 0


def test_queue_set_up_after_driver_ok_is_served(driver):
    driver.start(queues=1)
    queue = driver.setup_queue(1)
    assert queue.request([b"ping"], [4])[1] == b"gnip"
    assert driver.device.queues[1].counters()["kicks_ioeventfd"] == 1


def test_kick_through_a_moved_bar_travels_by_ioeventfd(driver):
    driver.start()
    bus, base = driver.bars[0]
    driver.bars[0] = (bus, base + 0x1000)
    driver.move_bar(0, base + 0x1000)
    assert driver.queues[1].request([b"ping"], [4])[1] == b"gnip"
    assert driver.device.queues[1].counters()["kicks_ioeventfd"] == 1
    assert {event.address for event in driver.machine.accelerator.ioevents} == {base + 0x1010}


def test_bar_that_is_not_decoded_has_no_ioeventfd_and_no_answer(driver):
    driver.start()
    driver.set_command(config.COMMAND_MASTER | config.COMMAND_MEMORY)
    assert driver.machine.accelerator.ioevents == []
    assert driver.status == 0xFF
    driver.set_command(config.COMMAND_MASTER | config.COMMAND_IO)
    assert len(driver.machine.accelerator.ioevents) == 3
    assert driver.queues[1].request([b"ping"], [4])[1] == b"gnip"


def test_features_of_queues_that_run_are_not_settled_again(driver):
    # the modern interface's DRIVER_OK without FEATURES_OK, then the legacy interface's
    common = driver.proxy.common
    common.write(0x14, READY | defs.STATUS_DRIVER_OK, 1)
    driver.set_status(READY | defs.STATUS_DRIVER_OK)
    assert [entry for entry in driver.device.log if entry[0] == "features"] == []
