# SPDX-License-Identifier: Apache-2.0
"""A device with declared registers: callbacks, interrupts, DMA, timers, background work, and its failures."""

import asyncio
import os
import threading

import pytest

from qdevpy.errors import DMAError
from qdevpy.pci.endpoint import Access, MemoryBar, PCIEndpoint
from qdevpy.testing.driver import PCIDriver
from qdevpy.testing.machine import RAM_SIZE, FakeMachine

COMMAND_MEMORY, COMMAND_MASTER = 2, 4
MSI_ADDRESS = 0xFEE0_0000


class Robot(PCIEndpoint):
    """Does what a register tells it."""

    type_name = "robot"
    vendor_id, device_id = 0x1234, 0xB07
    msi_vectors = 4
    msi_masking = True
    msix_vectors = 3

    mmio = MemoryBar(0, 4096)
    order = mmio.register(0x00, 4, Access.WO)
    result = mmio.register(0x08, 8)
    fragile = mmio.register(0x10, 4)

    def do_realize(self):
        self.orders = {}
        self.clockwork = self.timer(self.tick)

    @order.on_write
    def carry_out(self, value):
        self.orders[value]()

    @fragile.on_read
    def break_down(self):
        return 1 // 0

    def tick(self):
        self.result += 1


@pytest.fixture
def machine():
    with FakeMachine() as made:
        yield made


@pytest.fixture
def robot(machine):
    device = machine.plug_device(Robot(id="r2"))
    device.driver = PCIDriver(machine, device)
    return device


def tell(robot, order):
    """Have the guest's write make the device do ORDER."""
    robot.orders[1] = order
    robot.driver.bar_write(0, 0, 1, 4)


# -- interrupts


def enable_msi(robot, vectors=1, mask=0):
    (at,) = robot.driver.capabilities(5)
    robot.driver.config_write(at + 4, MSI_ADDRESS, 4)
    robot.driver.config_write(at + 8, 0, 4)
    robot.driver.config_write(at + 12, 0x4000, 2)
    robot.driver.config_write(at + 16, mask, 4)
    robot.driver.config_write(at + 2, 1 | (vectors.bit_length() - 1) << 4, 2)
    return at


def sent(robot):
    """The data of all messages since last time."""
    found = []
    for fd, message in robot.machine.accelerator.irqfds.values():
        try:
            count = os.eventfd_read(fd)
        except BlockingIOError:
            continue
        found += [message.data] * count
    return sorted(found)


def test_interrupt_takes_the_pin_until_every_vector_is_lowered(robot):
    assert robot.interrupt.mode == "intx"
    robot.interrupt.raise_(0)
    robot.interrupt.raise_(1)
    robot.interrupt.lower(0)
    assert robot.driver.intx_level
    robot.interrupt.lower(1)
    assert not robot.driver.intx_level


def test_interrupt_is_an_msi_once_the_driver_enables_it(robot):
    robot.interrupt.raise_()
    enable_msi(robot, vectors=4)
    assert robot.interrupt.mode == "msi"
    assert not robot.driver.intx_level, "a function that uses MSI does not assert its pin"
    robot.interrupt.raise_(0)
    robot.interrupt.raise_(3)
    assert sent(robot) == [0x4000, 0x4003]


def test_driver_that_enables_fewer_msi_vectors_gets_the_others_as_the_first(robot):
    enable_msi(robot, vectors=2)
    robot.interrupt.raise_(1)
    robot.interrupt.raise_(3)
    assert sent(robot) == [0x4000, 0x4001]


def test_driver_that_asks_for_more_msi_vectors_gets_what_is_offered(robot):
    at = enable_msi(robot, vectors=32)
    assert robot.driver.config_read(at + 2, 2) >> 4 & 7 == 2


def test_masked_msi_is_pending_and_comes_when_it_is_unmasked(robot):
    at = enable_msi(robot, vectors=4, mask=1 << 2)
    robot.interrupt.raise_(2)
    assert sent(robot) == []
    assert robot.driver.config_read(at + 20, 4) == 1 << 2
    robot.driver.config_write(at + 16, 0, 4)
    assert sent(robot) == [0x4002]
    assert robot.driver.config_read(at + 20, 4) == 0


def test_msi_capability_is_laid_out_as_the_specification_has_it(robot):
    (at,) = robot.driver.capabilities(5)
    assert robot.driver.config_read(at + 2, 2) == 0x0184, "4 vectors, 64 bits, masking"
    robot.driver.config_write(at + 4, 0xFFFFFFFF, 4)
    robot.driver.config_write(at + 8, 0xFFFFFFFF, 4)
    robot.driver.config_write(at + 16, 0xFFFFFFFF, 4)
    assert [robot.driver.config_read(at + n, 4) for n in (4, 8, 16)] == [0xFFFFFFFC, 0xFFFFFFFF, 0xF]


def test_msix_is_taken_before_all_else(robot):
    enable_msi(robot)
    robot.driver.enable_msix()
    assert robot.interrupt.mode == "msix"
    robot.interrupt.raise_(2)
    assert [robot.driver.interrupts(vector) for vector in range(3)] == [0, 0, 1]


def test_reset_takes_interrupts_back_and_the_next_driver_gets_its_own(robot):
    robot.interrupt.raise_()
    enable_msi(robot)
    robot.reset()
    assert robot.interrupt.mode == "intx"
    assert not robot.driver.intx_level
    robot.driver = PCIDriver(robot.machine, robot)
    robot.driver.enable_msix()
    robot.interrupt.raise_(1)
    assert robot.driver.interrupts(1) == 1


# -- DMA


def test_dma_reads_and_writes_guest_memory(robot):
    robot.dma.write(0x8000, b"robot")
    robot.dma.store(0x8008, 0x11223344, 4)
    assert robot.dma.read(0x8000, 5) == b"robot"
    assert robot.dma.load(0x8008, 2) == 0x3344
    robot.dma.view(0x8000, 1)[0] = ord("R")
    assert robot.machine.memory.read(0x8000, 5) == b"Robot"


@pytest.mark.parametrize(("address", "length"), [(RAM_SIZE - 2, 4), (RAM_SIZE, 1), ((1 << 64) - 4, 8), (0x8000, 1 << 63)])
def test_dma_outside_memory_raises_and_names_the_range(robot, address, length):
    with pytest.raises(DMAError, match=rf"r2 \(robot\): DMA at {address:#x}, {length} bytes: not inside guest memory"):
        robot.dma.view(address, length)


def test_dma_without_bus_mastering_raises_and_says_what_to_do(robot):
    robot.driver.set_command(COMMAND_MEMORY)
    with pytest.raises(DMAError, match="bus mastering is off"):
        robot.dma.read(0x8000, 1)
    with pytest.raises(DMAError):
        robot.dma.write(0x8000, b"x")


def test_dma_error_that_is_not_caught_breaks_the_device_only(robot, caplog):
    tell(robot, lambda: robot.dma.read(RAM_SIZE, 1))
    assert robot.broken.startswith("write of 0x1 to order (mmio offset 0x0, 4 bytes): DMAError: ")


# -- failures


def test_device_that_raises_is_reported_once_and_reads_as_ones_until_reset(robot, caplog):
    robot.driver.bar_write(0, 8, 5, 8)
    assert robot.driver.bar_read(0, 0x10, 4) == 0xFFFFFFFF
    assert robot.driver.bar_read(0, 8, 8) == (1 << 64) - 1
    robot.driver.bar_write(0, 8, 6, 8)
    robot.driver.bar_read(0, 0x10, 4)

    assert robot.result == 5
    (record,) = [each for each in caplog.records if each.levelname == "ERROR"]
    assert "r2 (robot): in read of fragile (mmio offset 0x10, 4 bytes)" in record.message
    assert record.exc_info[0] is ZeroDivisionError

    robot.reset()
    robot.driver.set_command(0)
    robot.driver = PCIDriver(robot.machine, robot)
    robot.driver.bar_write(0, 8, 7, 8)
    assert robot.driver.bar_read(0, 8, 8) == 7


def test_broken_device_keeps_its_configuration_space(robot):
    robot.driver.bar_read(0, 0x10, 4)
    assert robot.driver.config_read(0, 2) == 0x1234
    robot.driver.set_command(COMMAND_MASTER)
    assert robot.bus_master


def test_failure_in_a_configuration_write_breaks_the_device(robot, monkeypatch, caplog):
    monkeypatch.setattr(Robot, "command_changed", lambda self, old, new: 1 // 0)
    robot.driver.set_command(0)
    assert "write of 0x0 to the configuration space (offset 0x4, 2 bytes): ZeroDivisionError" in robot.broken


def test_failure_in_a_reset_breaks_the_device_until_one_succeeds(robot, monkeypatch, caplog):
    monkeypatch.setattr(Robot, "do_reset", lambda self: 1 // 0)
    robot.reset()
    assert robot.broken == "reset: ZeroDivisionError: integer division or modulo by zero"
    monkeypatch.undo()
    robot.reset()
    assert robot.broken is None


# -- timers and background work


def test_timer_is_called_in_virtual_time_and_not_after_a_reset(machine, robot):
    robot.clockwork.start(0.001)
    assert robot.clockwork.when is not None
    machine.wait_for(lambda: robot.result == 1, "tick")
    robot.clockwork.start(0.001)
    robot.reset()
    assert robot.clockwork.when is None


def test_timer_that_raises_breaks_the_device(machine, robot, monkeypatch, caplog):
    robot.timer(lambda: 1 // 0).start(0)
    machine.wait_for(lambda: robot.broken, "broken")
    assert robot.broken.startswith("timer: ZeroDivisionError")


def test_background_result_comes_on_the_main_loop(machine, robot):
    threads = []

    def work(n):
        threads.append(threading.current_thread())
        return n * 2

    def then(result):
        threads.append(threading.current_thread())
        robot.result = result

    robot.background(work, 21, then=then)
    assert robot.requests_in_flight == 1
    machine.wait_for(lambda: robot.result == 42, "result")
    assert robot.requests_in_flight == 0
    assert threads[0] is not threading.main_thread()
    assert threads[1] is threading.main_thread()


def test_coroutines_run_side_by_side(machine, robot):
    meeting = []

    async def meet(n):
        meeting.append(n)
        while len(meeting) < 2:
            await asyncio.sleep(0)
        return n

    results = []
    for n in (1, 2):
        robot.background(meet, n, then=results.append)
    machine.wait_for(lambda: sorted(results) == [1, 2], "both")


def test_background_work_that_raises_breaks_the_device(machine, robot, caplog):
    robot.background(lambda: 1 // 0)
    machine.wait_for(lambda: robot.broken, "broken")
    assert robot.broken.startswith("background work: ZeroDivisionError")


def test_reset_drops_results_of_work_that_is_under_way(machine, robot):
    may_end, results = threading.Event(), []
    robot.background(may_end.wait, then=results.append)
    robot.reset()
    may_end.set()
    robot.background(lambda: "later", then=results.append)
    machine.wait_for(lambda: results, "the later one")
    assert results == ["later"]


def test_unplugged_device_leaves_no_thread_behind(machine, robot):
    async def forever():
        await asyncio.Event().wait()

    robot.background(lambda: None)
    robot.background(forever, lasting=True)
    assert robot.requests_in_flight <= 1, "a stop does not wait for lasting work"
    with machine.lock:
        robot.parent_bus.unplug(robot)
    assert not [thread for thread in threading.enumerate() if "robot" in thread.name]
