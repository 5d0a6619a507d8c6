# SPDX-License-Identifier: Apache-2.0
"""Device code that does not come back is named, while it does not."""

import threading

import pytest

from qdevpy.pci.endpoint import Access, MemoryBar, PCIEndpoint
from qdevpy.testing.driver import PCIDriver
from qdevpy.testing.machine import FakeMachine
from qdevpy.vm import watchdog

ENOUGH = 10.0


class Stuck(PCIEndpoint):
    """Goes on until it has been named."""

    type_name = "stuck"
    mmio = MemoryBar(0, 4096)
    knob = mmio.register(0, 4, Access.WO)
    quick = mmio.register(4, 4)

    def do_realize(self):
        self.named = threading.Event()

    @knob.on_write
    def turn(self, value):
        assert self.named.wait(ENOUGH), "nobody noticed"


@pytest.fixture
def stuck(monkeypatch, caplog):
    monkeypatch.setattr(watchdog.Watchdog.__init__, "__defaults__", (0.02,))
    with FakeMachine() as machine:
        device = machine.plug_device(Stuck(id="s0"))
        device.driver = PCIDriver(machine, device)
        warn = watchdog.log.warning

        def tell(*words):
            warn(*words)
            device.named.set()

        monkeypatch.setattr(watchdog.log, "warning", tell)
        yield device


def test_access_that_takes_too_long_is_named_with_its_place(stuck, caplog):
    stuck.driver.bar_write(0, 0, 7, 4)

    (record,) = caplog.records
    place = "write of 0x7 to knob (mmio offset 0x0, 4 bytes)"
    assert record.message.startswith(f"s0 (stuck), of test_watchdog: in {place} for more than 0.02 s")
    assert "in turn" in record.message
    assert stuck.broken is None


def test_timer_that_takes_too_long_is_named(stuck, caplog):
    stuck.timer(lambda: stuck.turn(0)).start(0)
    stuck.machine.wait_for(stuck.named.is_set, "named")
    assert "s0 (stuck), of test_watchdog: in timer for more than" in caplog.text


def test_two_threads_that_are_stuck_are_named_once_each(stuck, caplog):
    def wait():
        stuck.contain(lambda: stuck.named.wait(ENOUGH), "other work")
        stuck.contain(lambda: both.wait(ENOUGH), "more work")

    both = threading.Event()
    other = threading.Thread(target=wait)
    other.start()
    stuck.contain(lambda: both.wait(0.5), "long work")
    both.set()
    other.join()
    told = [record.message.split(" for more")[0].split(": in ")[1] for record in caplog.records]
    assert sorted(told) == ["long work", "more work", "other work"]


def test_accesses_that_come_back_are_not_named_however_many(stuck, caplog):
    for value in range(1000):
        stuck.driver.bar_write(0, 4, value, 4)
    assert not caplog.records


def test_watchdog_ends_with_the_machine(stuck):
    stuck.driver.bar_read(0, 4, 4)
    assert "watchdog" in [thread.name for thread in threading.enumerate()]
    stuck.machine.close()
    assert "watchdog" not in [thread.name for thread in threading.enumerate()]
