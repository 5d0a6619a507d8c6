# SPDX-License-Identifier: Apache-2.0
"""The modern interface, structure by structure (virtio 1.2, 4.1.4)."""

import pytest
from virtio_pci_rig import BIT_5, BIT_55, READY, VERSION_1, plugged

from qdevpy.testing.driver import LegacyDriver, ModernDriver
from qdevpy.virtio import defs, pci_modern
from qdevpy.virtio.pci_window import DATA, OFFSET, SIZE

FEATURES_OK = defs.STATUS_FEATURES_OK


@pytest.fixture
def driver():
    with plugged(ModernDriver) as driver:
        yield driver


def select(driver, queue):
    driver.write(pci_modern.QUEUE_SELECT, queue, 2)


# -- features


def test_device_offers_64_bits_without_the_legacy_ones(driver):
    assert driver.offered & (BIT_5 | BIT_55 | VERSION_1) == BIT_5 | BIT_55 | VERSION_1
    assert not driver.offered & (1 << defs.F_NOTIFY_ON_EMPTY | 1 << defs.F_ANY_LAYOUT)


@pytest.mark.parametrize("window", [2, 3, 0xFFFF_FFFF])
def test_feature_windows_beyond_64_bits_are_zero_and_read_only(driver, window):
    driver.write(pci_modern.DEVICE_FEATURE_SELECT, window, 4)
    driver.write(pci_modern.DRIVER_FEATURE_SELECT, window, 4)
    driver.write(pci_modern.DRIVER_FEATURE, 0xFFFF_FFFF, 4)
    assert driver.read(pci_modern.DEVICE_FEATURE, 4) == 0
    assert driver.read(pci_modern.DRIVER_FEATURE, 4) == 0


def test_features_accepted_are_the_devices(driver):
    assert driver.negotiate(BIT_5 | BIT_55 | VERSION_1)
    assert driver.device.features == BIT_5 | BIT_55 | VERSION_1
    assert driver.device.log[-2] == ("features", BIT_5 | BIT_55 | VERSION_1)


@pytest.mark.parametrize("bit", [6, 24, 27, 33, 34, 63])
def test_feature_that_is_not_offered_is_refused(driver, bit):
    assert not driver.negotiate(VERSION_1 | 1 << bit)
    assert driver.device.features == 0


def test_modern_only_device_insists_on_version_1():
    with plugged(ModernDriver, variant="pci-non-transitional") as driver:
        assert not driver.negotiate(BIT_5)
        assert driver.negotiate(BIT_5 | VERSION_1)


def test_transitional_device_does_without_version_1(driver):
    assert driver.negotiate(BIT_5)


def test_features_are_fixed_by_features_ok(driver):
    driver.negotiate(VERSION_1)
    driver.write(pci_modern.DRIVER_FEATURE, 0, 4)
    assert driver.read(pci_modern.DRIVER_FEATURE, 4) == 1


def test_features_are_not_changed_under_running_queues(driver):
    driver.start()
    status = driver.status
    driver.set_status(status & ~FEATURES_OK)
    driver.write(pci_modern.DRIVER_FEATURE_SELECT, 0, 4)
    driver.write(pci_modern.DRIVER_FEATURE, BIT_5, 4)
    driver.set_status(status)
    assert not driver.status & FEATURES_OK
    assert driver.device.features == VERSION_1


# -- queues


def test_number_of_queues_reads(driver):
    assert driver.read(pci_modern.NUM_QUEUES, 2) == 3


def test_registers_of_no_queue_read_as_zero_and_swallow_writes(driver):
    select(driver, 3)
    for offset in range(pci_modern.QUEUE_SIZE, 0x38, 2):
        driver.write(offset, 1, 2)
        assert driver.read(offset, 2) == 0


@pytest.mark.parametrize(("size", "kept"), [(32, 32), (1, 1), (64, 64), (0, 64), (48, 64), (128, 64), (0xFFFF, 64)])
def test_queue_size_is_a_power_of_two_up_to_the_maximum(driver, size, kept):
    select(driver, 1)
    driver.write(pci_modern.QUEUE_SIZE, size, 2)
    assert driver.read(pci_modern.QUEUE_SIZE, 2) == kept


@pytest.mark.parametrize("register", [pci_modern.QUEUE_DESC, pci_modern.QUEUE_DRIVER, pci_modern.QUEUE_DEVICE])
def test_addresses_are_written_in_halves_or_whole(driver, register):
    select(driver, 1)
    driver.write(register, 0x1234_5678, 4)
    driver.write(register + 4, 0x9ABC, 4)
    assert driver.read(register, 8) == 0x9ABC_1234_5678
    assert driver.read(register + 4, 4) == 0x9ABC
    driver.write(register, 0xFFFF_FFFF_FFFF_FFFF, 8)
    assert driver.read(register, 4) == 0xFFFF_FFFF


def test_smaller_queue_works(driver):
    driver.negotiate(VERSION_1)
    queue = driver.setup_queue(1, 2)
    driver.queues = [queue]
    driver.set_status(READY | FEATURES_OK | defs.STATUS_DRIVER_OK)
    for _ in range(5):
        assert queue.request([b"ping"], [4])[1] == b"gnip"


def test_enabled_queue_keeps_size_and_addresses(driver):
    driver.start()
    select(driver, 1)
    before = [driver.read(offset, 4) for offset in range(0x20, 0x38, 4)]
    driver.write(pci_modern.QUEUE_SIZE, 2, 2)
    driver.write(pci_modern.QUEUE_ENABLE, 0, 2)
    for offset in range(0x20, 0x38, 4):
        driver.write(offset, 0, 4)
    assert [driver.read(offset, 4) for offset in range(0x20, 0x38, 4)] == before
    assert (driver.read(pci_modern.QUEUE_SIZE, 2), driver.read(pci_modern.QUEUE_ENABLE, 2)) == (64, 1)
    assert driver.queues[1].request([b"ping"], [4])[1] == b"gnip"


RING_RESET = 1 << defs.F_RING_RESET


def start_three_queues(driver, features):
    driver.negotiate(features)
    driver.queues = [driver.setup_queue(index, 4) for index in range(3)]
    driver.set_status(READY | FEATURES_OK | defs.STATUS_DRIVER_OK)


def test_queue_that_is_reset_alone_can_be_set_up_again(driver):
    start_three_queues(driver, VERSION_1 | RING_RESET)
    assert driver.queues[1].request([b"ping"], [4])[1] == b"gnip"
    select(driver, 1)
    driver.write(pci_modern.QUEUE_RESET, 1, 2)
    assert [driver.read(offset, 2) for offset in (pci_modern.QUEUE_RESET, pci_modern.QUEUE_ENABLE)] == [0, 0]
    assert driver.read(pci_modern.QUEUE_SIZE, 2) == 64
    driver.queues[2].request([b"the others work"], [5])

    again = driver.setup_queue(1, 8)
    for _ in range(10):
        assert again.request([b"ping"], [4])[1] == b"gnip"
    assert driver.status & defs.STATUS_DRIVER_OK


def test_queue_reset_is_ignored_where_it_was_not_negotiated(driver):
    start_three_queues(driver, VERSION_1)
    select(driver, 1)
    driver.write(pci_modern.QUEUE_RESET, 1, 2)
    assert driver.read(pci_modern.QUEUE_ENABLE, 2) == 1
    assert driver.queues[1].request([b"ping"], [4])[1] == b"gnip"


def test_notify_offset_is_the_queues_number(driver):
    for queue in range(3):
        select(driver, queue)
        assert driver.read(pci_modern.QUEUE_NOTIFY_OFF, 2) == queue


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("ioeventfd", ["on", "off"])
def test_kick_of_2_and_4_bytes_is_taken(size, ioeventfd):
    with plugged(ModernDriver, ioeventfd=ioeventfd) as driver:
        driver.start()
        for index, queue in enumerate(driver.queues):
            head = queue.add([b"ping"], [4])
            driver.write(index * driver.multiplier, index, size, pci_modern.CAP_NOTIFY)
            queue.wait(head)
            assert driver.device.queues[index].counters()["kicks_ioeventfd"] == (1 if ioeventfd == "on" else 0)


def test_queue_that_is_not_enabled_is_left_alone(driver):
    driver.start(queues=1)
    driver.notify(1)
    driver.machine.run_loop_once()
    assert driver.device.log[-1] == ("status", 11, 15)


def test_ring_outside_memory_needs_a_reset(driver):
    driver.negotiate(VERSION_1)
    select(driver, 1)
    driver.write(pci_modern.QUEUE_DESC, 1 << 40, 8)
    driver.write(pci_modern.QUEUE_ENABLE, 1, 2)
    driver.set_status(READY | FEATURES_OK | defs.STATUS_DRIVER_OK)
    assert driver.status & defs.STATUS_NEEDS_RESET
    assert driver.read_isr() & 2
    driver.start()
    assert driver.queues[1].request([b"ping"], [4])[1] == b"gnip"


# -- status, config space


def test_reset_forgets_everything_that_was_written(driver):
    driver.start(msix=True)
    driver.set_status(0)
    assert driver.status == 0
    assert driver.read(pci_modern.CONFIG_VECTOR, 2) == defs.NO_VECTOR
    assert driver.read(pci_modern.DRIVER_FEATURE, 4) == 0
    for queue in range(3):
        select(driver, queue)
        assert driver.read(pci_modern.QUEUE_ENABLE, 2) == 0
        assert driver.read(pci_modern.QUEUE_VECTOR, 2) == defs.NO_VECTOR
        assert driver.read(pci_modern.QUEUE_DESC, 8) == 0


def test_config_space_reads_and_writes_inside_its_bounds(driver):
    assert driver.read_config(1, 4) == 0x04030201
    driver.write_config(8, 0xAABB, 2)
    driver.write_config(9, 0xCCDD, 2)
    assert driver.read_config(8, 4) == 0xAABB
    assert driver.read_config(0x100, 4) == 0


def test_generation_goes_up_with_every_change(driver):
    driver.start()
    before = driver.read(pci_modern.CONFIG_GENERATION, 1)
    driver.device.bindings.notify_config()
    assert driver.read(pci_modern.CONFIG_GENERATION, 1) == before + 1
    for _ in range(255):
        driver.device.bindings.notify_config()
    assert driver.read(pci_modern.CONFIG_GENERATION, 1) == before


def test_config_change_before_driver_ok_interrupts_nobody(driver):
    driver.negotiate(VERSION_1)
    driver.device.bindings.notify_config()
    assert driver.read_isr() == 0


def test_bytes_between_structures_read_as_zero(driver):
    for offset in (0x38, 0xFFC, 0x1001, 0x2800, 0x3000, 0x3800):
        driver.bar_write(4, offset, 0xFFFF_FFFF, 4)
        assert driver.bar_read(4, offset, 4) == 0


# -- interrupts


def test_each_queue_has_the_vector_that_it_was_given(driver):
    driver.start(msix=True)
    for index, queue in enumerate(driver.queues):
        queue.request([b"ping"], [4])
        driver.wait_interrupt(index + 1)
    driver.device.bindings.notify_config()
    assert driver.interrupts(0) == 1
    assert not driver.intx_level
    assert driver.read_isr() == 0


def test_vector_beyond_the_last_reads_back_as_none(driver):
    select(driver, 1)
    for register in (pci_modern.CONFIG_VECTOR, pci_modern.QUEUE_VECTOR):
        driver.write(register, 3, 2)
        assert driver.read(register, 2) == 3
        driver.write(register, 4, 2)
        assert driver.read(register, 2) == defs.NO_VECTOR


def test_masked_vector_waits_in_the_pending_bits(driver):
    driver.start(msix=True)
    driver.mask_vector(2, True)
    driver.queues[1].request([b"ping"], [4])
    assert driver.is_pending(2)
    assert driver.interrupts(2) == 0
    driver.mask_vector(2, False)
    assert not driver.is_pending(2)
    assert driver.interrupts(2) == 1


def test_function_mask_holds_all_vectors_back(driver):
    driver.start(msix=True)
    driver.enable_msix(function_mask=True)
    driver.queues[0].request([b"ping"], [4])
    driver.machine.wait_for(lambda: driver.is_pending(1), "pending bit")
    driver.enable_msix()
    driver.wait_interrupt(1)


def test_queue_without_a_vector_is_silent_with_msix(driver):
    driver.start(msix=True)
    select(driver, 1)
    driver.write(pci_modern.QUEUE_VECTOR, defs.NO_VECTOR, 2)
    driver.queues[1].request([b"ping"], [4])
    assert [driver.interrupts(vector) for vector in range(4)] == [0, 0, 0, 0]
    assert not driver.intx_level


def test_queues_may_share_a_vector(driver):
    driver.start(msix=True)
    for queue in range(3):
        select(driver, queue)
        driver.write(pci_modern.QUEUE_VECTOR, 3, 2)
    driver.queues[1].request([b"ping"], [4])
    assert driver.interrupts(3) == 1
    driver.queues[0].request([b"ping"], [4])
    driver.wait_interrupt(3)


def test_msix_switched_off_while_running_falls_back_to_intx(driver):
    driver.start(msix=True)
    driver.disable_msix()
    driver.queues[1].request([b"ping"], [4])
    assert driver.intx_level
    assert driver.read_isr() == 1
    assert not driver.intx_level


def test_intx_asserted_before_msix_is_released_by_it(driver):
    driver.start()
    driver.queues[1].request([b"ping"], [4])
    assert driver.intx_level
    driver.enable_msix()
    assert not driver.intx_level


def test_device_without_vectors_uses_intx():
    with plugged(ModernDriver, vectors=0) as driver:
        driver.start()
        select(driver, 1)
        driver.write(pci_modern.QUEUE_VECTOR, 0, 2)
        assert driver.read(pci_modern.QUEUE_VECTOR, 2) == defs.NO_VECTOR
        driver.queues[1].request([b"ping"], [4])
        assert driver.read_isr() == 1


@pytest.mark.parametrize("msix", [True, False])
def test_guest_notifiers_interrupt_the_guest(driver, msix):
    import os

    driver.start(msix=msix)
    fds = driver.device.bindings.set_guest_notifiers(True)
    assert len(fds) == 3
    os.eventfd_write(fds[1], 1)
    if msix:
        assert driver.interrupts(2) == 1
    else:
        driver.machine.wait_for(lambda: driver.intx_level, "INTx")
        assert driver.read_isr() == 1
    assert driver.device.bindings.set_guest_notifiers(False) == []


def test_guest_notifiers_follow_the_vectors_that_the_driver_chooses(driver):
    import os

    driver.start(msix=True)
    changes = []
    fds = driver.device.bindings.set_guest_notifiers(True, lambda index, fd: changes.append((index, fd)))
    os.eventfd_write(fds[1], 1)
    assert driver.interrupts(2) == 1
    select(driver, 1)
    driver.write(pci_modern.QUEUE_VECTOR, 0, 2)
    ((index, fd),) = changes
    assert index == 1
    assert fd != fds[1]
    assert driver.interrupts(0) == 1, "what was signalled the old way in the meantime must not be lost"
    os.eventfd_write(fd, 1)
    assert driver.interrupts(0) == 1

    driver.write(pci_modern.QUEUE_VECTOR, defs.NO_VECTOR, 2)  # a notifier of our own, until there is a vector again
    assert len(changes) == 2
    driver.write(pci_modern.QUEUE_VECTOR, 2, 2)
    assert changes[2] == (1, fds[1])
    assert driver.device.bindings.set_guest_notifiers(False) == []
    driver.write(pci_modern.QUEUE_VECTOR, 0, 2)
    assert len(changes) == 3


# -- the window in configuration space (4.1.4.9)


def window(driver, bar, offset, size):
    at = next(at for at in driver.capabilities(9) if driver.config_read(at + 3, 1) == pci_modern.CAP_PCI)
    driver.config_write(at + 4, bar, 1)
    driver.config_write(at + OFFSET, offset, 4)
    driver.config_write(at + SIZE, size, 4)
    return at + DATA


@pytest.mark.parametrize("decoded", [True, False])
def test_window_reaches_registers_whether_bars_are_decoded_or_not(driver, decoded):
    if not decoded:
        driver.set_command(0)
    data = window(driver, 4, pci_modern.NUM_QUEUES, 2)
    assert driver.config_read(data, 2) == 3
    data = window(driver, 4, pci_modern.QUEUE_SELECT, 2)
    driver.config_write(data, 2, 2)
    assert driver.proxy.common.queue_select == 2
    data = window(driver, 4, 0x2000, 4)
    assert driver.config_read(data, 4) == 0x03020100
    driver.config_write(data, 0xAABBCCDD, 4)
    assert driver.device.contents[:4] == bytes.fromhex("ddccbbaa")


def test_window_kicks(driver):
    driver.start()
    queue = driver.queues[1]
    head = queue.add([b"ping"], [4])
    data = window(driver, 4, 0x3000 + 4, 2)
    driver.config_write(data, 1, 2)
    queue.wait(head)


@pytest.mark.parametrize(
    ("bar", "offset", "size"),
    [(4, 0, 3), (4, 0, 8), (4, 1, 2), (4, 0x4000, 4), (4, 0xFFFF_FFFF, 1), (1, 0, 4), (7, 0, 4), (4, 0, 0)],
)
def test_window_to_where_nothing_is_does_nothing(driver, bar, offset, size):
    data = window(driver, bar, offset, size)
    driver.config_write(data, 0x1234_5678, 4)
    assert driver.config_read(data, 4) == 0x1234_5678


# -- both interfaces on one device


def test_legacy_registers_of_a_transitional_device_follow_the_modern_driver(driver):
    driver.start()
    assert driver.bar_read(0, 18, 1) == driver.status
    head = driver.queues[1].add([b"ping"], [4])
    driver.bar_write(0, 16, 1, 2)
    assert driver.queues[1].wait(head) == 4
    assert driver.device.queues[1].counters()["kicks_ioeventfd"] == 0
    driver.bar_write(0, 4, 0, 4)
    assert driver.device.features == VERSION_1
    driver.bar_write(0, 18, 0, 1)
    assert driver.status == 0


def test_only_the_interface_in_use_has_ioeventfds():
    for driver_class, bus in ((LegacyDriver, "pio"), (ModernDriver, "mmio")):
        with plugged(driver_class) as driver:
            driver.start()
            assert {event.bus for event in driver.machine.accelerator.ioevents} == {bus}
