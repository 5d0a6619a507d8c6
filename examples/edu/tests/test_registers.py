"""The device through its registers, in a machine without a CPU."""

import pytest
from qdevpy.plugin.manager import load_plugins
from qdevpy.testing.driver import PCIDriver
from qdevpy.testing.machine import RAM_SIZE

from qdevpy_edu.device import factorial

IDENTIFICATION, LIVENESS, FACTORIAL, STATUS, IRQ_STATUS, IRQ_RAISE, IRQ_ACK = 0x00, 0x04, 0x08, 0x20, 0x24, 0x60, 0x64
SOURCE, TARGET, COUNT, COMMAND = 0x80, 0x88, 0x90, 0x98
BUFFER = 0x40000


class Driver(PCIDriver):
    """Reads and writes registers of BAR 0."""

    def read(self, offset, size=4):
        return self.bar_read(0, offset, size)

    def write(self, offset, value, size=4):
        self.bar_write(0, offset, value, size)

    def transfer(self, source, target, count, command=1):
        for register, value in ((SOURCE, source), (TARGET, target), (COUNT, count), (COMMAND, command)):
            self.write(register, value, 8)
        self.machine.wait_for(lambda: not self.read(COMMAND, 8) & 1, "transfer")


def plug(machine, **properties):
    return Driver(machine, machine.plug_type(load_plugins().device_type("edu"), id="edu0", **properties))


@pytest.fixture
def driver(bare_machine):
    return plug(bare_machine)


def test_card_identifies_itself_and_lives(driver):
    assert driver.read(IDENTIFICATION) == 0x010000ED
    driver.write(LIVENESS, 0x12345678)
    assert driver.read(LIVENESS) == 0xEDCBA987


@pytest.mark.parametrize(("n", "result"), [(0, 1), (1, 1), (10, 3628800), (13, 1932053504), (34, 0), (0xFFFFFFFF, 0)])
def test_factorial_is_computed_in_the_background(bare_machine, driver, n, result):
    driver.write(FACTORIAL, n)
    assert driver.read(STATUS) & 1
    bare_machine.wait_for(lambda: not driver.read(STATUS) & 1, "computed")
    assert driver.read(FACTORIAL) == result == factorial(n)


def test_factorial_is_not_disturbed_while_it_is_computed(bare_machine, driver):
    driver.write(FACTORIAL, 5)
    driver.write(FACTORIAL, 6)
    bare_machine.wait_for(lambda: not driver.read(STATUS) & 1, "computed")
    assert driver.read(FACTORIAL) == 120


def test_factorial_interrupts_where_the_driver_asks_for_it(bare_machine, driver):
    driver.write(STATUS, 0xFF)
    assert driver.read(STATUS) == 0x80
    driver.write(FACTORIAL, 3)
    bare_machine.wait_for(lambda: driver.intx_level, "interrupt")
    assert driver.read(IRQ_STATUS) == 1


def test_interrupt_stays_until_all_its_bits_are_acknowledged(driver):
    driver.write(IRQ_RAISE, 0x6)
    driver.write(IRQ_ACK, 0x2)
    assert driver.intx_level
    assert driver.read(IRQ_STATUS) == 0x4
    driver.write(IRQ_ACK, 0x4)
    assert not driver.intx_level


def test_dma_goes_to_the_buffer_and_back(bare_machine, driver):
    bare_machine.memory.write(0x5000, bytes(range(100)))
    driver.transfer(0x5000, BUFFER + 8, 100)
    driver.transfer(BUFFER + 8, 0x6000, 100, command=3 | 4)
    assert bare_machine.memory.read(0x6000, 100) == bytes(range(100))
    assert driver.read(IRQ_STATUS) == 0x100
    assert driver.intx_level


def test_dma_addresses_have_no_more_bits_than_the_mask(bare_machine, driver):
    bare_machine.memory.write(0x5000, b"masked")
    driver.transfer(1 << 40 | 0x5000, BUFFER, 6)
    assert driver.proxy.buffer[:6] == b"masked"


@pytest.mark.parametrize(
    ("source", "target", "count"),
    [
        (0x5000, BUFFER, 4097),
        (0x5000, 0, 1),
        (0x5000, BUFFER + 4096, 1),
        (RAM_SIZE, BUFFER, 8),
        (0x5000, BUFFER, (1 << 64) - 1),
    ],
)
def test_dma_that_cannot_be_is_logged_and_moves_nothing(bare_machine, driver, caplog, source, target, count):
    bare_machine.memory.write(0x5000, bytes([0xFF]) * 4097)
    driver.transfer(source, target, count)
    assert driver.proxy.buffer == bytes(4096)
    assert "edu0" in caplog.text
    driver.transfer(0x5000, BUFFER, 1)
    assert driver.proxy.buffer[0] == 0xFF


def test_mask_can_be_set(bare_machine):
    driver = plug(bare_machine, dma_mask=0xFFFF)
    bare_machine.memory.write(0x5000, b"!")
    driver.transfer(0xF0005000, BUFFER, 1)
    assert driver.proxy.buffer[:1] == b"!"
