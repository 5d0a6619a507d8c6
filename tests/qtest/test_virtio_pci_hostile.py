# SPDX-License-Identifier: Apache-2.0
"""A hostile guest: any access to any register, in any order, is harmless, and the device works after a reset.

Nothing may raise (a register callback that raises is logged, so the log is looked at), and the accelerator's
ioeventfds and irqfds stay in step with what is configured.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from null_device import NullDevice, SpinDevice
from virtio_pci_rig import plugged

from qdevpy.pci import config
from qdevpy.testing.driver import LegacyDriver, ModernDriver
from qdevpy.virtio import defs

SIZES = st.sampled_from([1, 2, 4, 8])
VALUES = st.one_of(
    st.integers(0, (1 << 64) - 1),
    st.integers(0, 0x40),
    st.sampled_from([0, 1, 3, 7, 15, 0xFFFF, 0xFFFF_FFFF, 1 << 32, (1 << 64) - 1]),
    st.integers(0, 0xFFF).map(lambda page: page << 12),  # addresses of guest memory
)
LEGACY_OFFSETS = st.integers(0, 40)
MODERN_OFFSETS = st.one_of(
    st.sampled_from([0, 4, 8, 12, 16, 18, 20, 21, 22, 24, 26, 28, 30, 32, 36, 40, 44, 48, 52]),
    st.integers(0, 0x40),
    st.integers(0xFF0, 0x1010),
    st.integers(0x1FF8, 0x2010),
    st.integers(0x2FF8, 0x3020),
    st.integers(0x3FF0, 0x4010),
)
CONFIG_OFFSETS = st.one_of(st.sampled_from([4, 6, 0x10, 0x14, 0x20, 0x24, 0x3C]), st.integers(0, 260))
STEPS = st.one_of(
    st.tuples(st.just("legacy"), LEGACY_OFFSETS, VALUES, SIZES),
    st.tuples(st.just("modern"), MODERN_OFFSETS, VALUES, SIZES),
    st.tuples(st.just("msix"), st.integers(0, 0x1008), VALUES, SIZES),
    st.tuples(st.just("config"), CONFIG_OFFSETS, VALUES, st.sampled_from([1, 2, 4])),
    st.tuples(st.just("status"), st.just(0), st.sampled_from([0, 1, 3, 4, 7, 11, 12, 15, 128, 255]), st.just(1)),
    st.tuples(st.just("ring"), st.integers(0, 0x4000), VALUES, SIZES),
    st.tuples(st.just("kick"), st.integers(0, 4), VALUES, SIZES),
    st.tuples(st.sampled_from(["pause", "continue", "loop", "reset", "interrupt"]), st.just(0), st.just(0), st.just(1)),
)


@contextmanager
def no_traceback():
    """Nothing inside logs an exception."""
    caught: list[logging.LogRecord] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info:
                caught.append(record)

    handler = Handler()
    logging.getLogger("qdevpy").addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger("qdevpy").removeHandler(handler)
    assert [logging.Formatter().format(record) for record in caught] == []


def step(driver, name, offset, value, size):
    """One of the guest's moves; reads follow writes, for their side effects."""
    machine = driver.machine
    value &= (1 << 8 * size) - 1
    match name:
        case "legacy" | "modern" | "msix":
            bar = {"legacy": 0, "msix": 1, "modern": 4}[name]
            if bar in driver.bars:
                driver.bar_write(bar, offset, value, size)
                driver.bar_read(bar, offset, size)
        case "config":
            driver.config_write(offset, value, size)
            driver.config_read(offset, size)
        case "status":
            driver.set_status(value)
        case "ring":
            machine.memory.write(driver.queues[0].desc + offset, value.to_bytes(size, "little"))
        case "kick":
            driver.notify(offset)
        case "pause":
            machine.pause()
        case "continue":
            machine.start()
        case "loop":
            machine.run_loop_once()
        case "reset":
            machine.reset()
        case "interrupt":
            for queue in driver.device.queues:
                driver.device.bindings.notify_queue(queue)
            driver.device.bindings.notify_config()


def check(driver):
    """What must hold whatever the guest did."""
    device, accel, notifiers = driver.device, driver.machine.accelerator, driver.proxy.notifiers
    serving = device.status & defs.STATUS_DRIVER_OK and driver.machine.running
    if not serving:
        assert accel.ioevents == []
    fds = [n.fd for n in notifiers.notifiers.values()]
    assert all(event.fd in fds for event in accel.ioevents)
    assert len({(e.bus, e.address, e.datamatch) for e in accel.ioevents}) == len(accel.ioevents)
    msix = driver.proxy.msix
    assert {fd for fd, _ in accel.irqfds.values()} <= {msix.fd(v) for v in range(msix.vectors)}


def works_after_reset(driver):
    """A well-behaved driver finds a device as good as new."""
    machine = driver.machine
    machine.start()
    machine.reset()
    driver.set_command(config.COMMAND_IO | config.COMMAND_MEMORY | config.COMMAND_MASTER)
    for index, (_, base) in driver.bars.items():
        driver.move_bar(index, base)
    driver.start(msix=True)
    assert driver.queues[1].request([b"ping"], [4])[1] == b"gnip"
    assert driver.interrupts(2) == 1
    driver.queues[0].request([b"ping"], [4])
    driver.wait_interrupt(1)


@pytest.mark.parametrize("driver_class", [LegacyDriver, ModernDriver])
@pytest.mark.parametrize("device_class", [NullDevice, SpinDevice])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(steps=st.lists(STEPS, max_size=50), started=st.booleans())
def test_any_accesses_are_harmless_and_the_device_works_after_a_reset(driver_class, device_class, steps, started):
    with no_traceback(), plugged(driver_class, device_class) as driver:
        driver.start(msix=started)
        for move in steps:
            step(driver, *move)
            check(driver)
        works_after_reset(driver)


@pytest.mark.parametrize("driver_class", [LegacyDriver, ModernDriver])
def test_every_register_written_with_every_size_is_harmless(driver_class):
    with no_traceback(), plugged(driver_class, modern_pio_notify="on") as driver:
        driver.start(msix=True)
        for bar, length in ((0, 0x40), (2, 4), (4, 0x40), (1, 0x60)):
            for offset in range(length):
                for size in (1, 2, 4, 8):
                    for value in (0, 1, 0xFFFF_FFFF_FFFF_FFFF):
                        driver.bar_write(bar, offset, value & ((1 << 8 * size) - 1), size)
                        driver.bar_read(bar, offset, size)
        check(driver)
        works_after_reset(driver)


def test_bars_on_top_of_each_other_are_harmless():
    with no_traceback(), plugged(ModernDriver) as driver:
        driver.start(msix=True)
        for index in (1, 4):
            driver.move_bar(index, 0xF000_0000)
        for offset in range(0, 0x3100, 4):
            driver.machine.space.write("mmio", 0xF000_0000 + offset, 0xFFFF_FFFF, 4)
        check(driver)
        works_after_reset(driver)


def test_two_devices_with_their_bars_at_one_place_are_harmless(caplog):
    with plugged(ModernDriver) as driver:
        twin = driver.machine.plug_type("null-pci", id="null1")
        other = ModernDriver(driver.machine, twin)
        driver.start()
        other.start()
        other.move_bar(4, driver.bars[4][1])  # the same ioeventfds: the accelerator refuses
        assert "no ioeventfd for its queues" in caplog.text
        driver.notify(0)
        other.move_bar(4, other.bars[4][1])
        assert other.queues[1].request([b"ping"], [4])[1] == b"gnip"
        assert driver.queues[1].request([b"ping"], [4])[1] == b"gnip"


def test_reset_of_a_device_in_the_middle_of_its_own_kick_is_harmless():
    with no_traceback(), plugged(ModernDriver, SpinDevice) as driver:
        driver.start()
        driver.device.handle_output = lambda queue: driver.set_status(0)
        driver.queues[1].add([b"ping"], [4])
        driver.notify(1)
        assert driver.status == 0
        del driver.device.handle_output
        works_after_reset(driver)
