# SPDX-License-Identifier: Apache-2.0
"""A disk under full load is stopped, reset, unplugged, bound anew, moved a thousand times: nothing is lost, nothing is left."""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import attrs
import pytest
from load import FORMS, Load, machine_with_disk, plug

from qdevpy.backend.drive import Drive
from qdevpy.native.iothread import IOThread, Polling
from qdevpy.testing.driver import PCIDriver
from qdevpy.testing.machine import FakeMachine
from qdevpy.vm.machine import RunState

TIMES = 1000
WARM_UP = 100
PF_IO_WORKER = 0x10  # <linux/sched.h>: the kernel's own threads for io_uring


@attrs.frozen
class Resources:
    """What this process has of the host."""

    descriptors: int
    threads: int
    memory: int  # bytes resident

    @classmethod
    def now(cls) -> Resources:
        """As it is, once garbage is gone."""
        gc.collect()
        threads = 0
        for task in Path("/proc/self/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):
                threads += not int((task / "stat").read_text().rpartition(")")[2].split()[6]) & PF_IO_WORKER
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(len(os.listdir("/proc/self/fd")), threads, pages * os.sysconf("SC_PAGE_SIZE"))


class Life:
    """A machine, its disk and its driver, under load."""

    def __init__(self, machine: FakeMachine, drive: Drive, form: str, iothread: IOThread) -> None:
        self.machine = machine
        self.drive = drive
        self.form = form
        self.features = FORMS[form][2]
        self.ports, self.mmio = machine.ports.next, machine.mmio.next
        self.properties = {"num_queues": 1, "queue_size": 64, "iothread": iothread}
        self.driver = plug(machine, drive, form, **self.properties)
        self.load = Load(self.driver.queues[0])
        self.rings = machine.ram.next  # where rings of the next life are
        self.places = {index: self._places(bus) for index, (bus, _) in self.driver.bars.items()}
        self.load.start()

    def _places(self, bus: str) -> list[int]:
        allocator, size = (self.machine.ports, 0x100) if bus == "pio" else (self.machine.mmio, 0x4000)
        return [allocator.take(size, size) for _ in range(2)]

    def stop(self) -> None:
        """The machine stops and goes on; the driver does not notice (its vCPU is not one that could be held)."""
        machine = self.machine
        for state in (RunState.PAUSED, RunState.RUNNING):
            with machine.lock:
                machine.state = state
                self.driver.proxy.vm_state_changed(machine.running)

    def reset(self) -> None:
        """The driver resets the device in the middle of everything, and sets it up again."""
        with self.machine.lock:
            self.driver.set_status(0)
        self._bind(self.driver)

    def reset_machine(self) -> None:
        """As :meth:`reset`, from outside."""
        with self.machine.lock:
            self.machine.reset()
        self.load.abandon()  # before its BARs are put back, it has none
        self.driver.set_command(7)
        for index, (_, base) in self.driver.bars.items():
            self.driver.move_bar(index, base)
        self._bind(self.driver)

    def replug(self) -> None:
        """It goes, and another one comes in its place."""
        with self.machine.lock:
            self.machine.pci.unplug(self.driver.proxy)
        self.load.abandon()
        self.machine.ports.next, self.machine.mmio.next = self.ports, self.mmio
        self.machine.ram.next = self.rings
        self._clear()
        self.driver = plug(self.machine, self.drive, self.form, **self.properties)

        self.load.start(self.driver.queues[0])

    def move(self) -> None:
        """Its BARs move, back and forth, under the driver."""
        for index, (bus, base) in list(self.driver.bars.items()):
            places = self.places[index]
            new = places[base == places[0]]
            self.driver.bars[index] = (bus, new)
            self.driver.move_bar(index, new)
        self.load.kick_anew()

    def _bind(self, driver: PCIDriver) -> None:
        self.load.abandon()
        self.machine.ram.next = self.rings
        self._clear()
        driver.start(self.features, msix=True)
        self.load.start(driver.queues[0])

    def _clear(self) -> None:
        self.machine.memory.write(self.rings, bytes(0x8000))

    def wait_for_requests(self) -> None:
        """Some come back, whatever happened."""
        load, before = self.load, self.load.done
        self.machine.wait_for(lambda: load.done > before + 4 or load.error, "requests that come back", 60)
        if load.error is not None:
            raise load.error

    def end(self) -> None:
        """All requests come back; the driver lets go."""
        self.load.stop()
        with self.machine.lock:
            self.driver.set_status(0)
            assert self.driver.proxy.device.broken is None


@contextmanager
def life(folder: Path, form: str, aio: str) -> Iterator[Life]:
    with closing(IOThread("life", Polling(32768))) as thread, machine_with_disk(folder, aio=aio) as (machine, drive):
        made = Life(machine, drive, form, thread)
        try:
            yield made
        finally:
            with suppress(AssertionError):
                made.load.abandon()


@pytest.mark.parametrize("aio", ["threads", "io_uring"])
@pytest.mark.parametrize("form", list(FORMS))
def test_disk_under_load_survives_a_thousand_changes_and_leaves_nothing_behind(tmp_path: Path, form: str, aio: str) -> None:
    choose = random.Random(7)
    kinds = [Life.stop] * 8 + [Life.reset] * 5 + [Life.reset_machine] + [Life.replug] * 3 + [Life.move] * 3
    with life(tmp_path, form, aio) as disk:
        for turn in range(TIMES // 2):
            if turn == WARM_UP:
                disk.reset()
                before = resources_of(disk)
            choose.choice(kinds)(disk)
            disk.wait_for_requests()
        after = resources_of(disk)
        assert (after.descriptors, after.threads) == (before.descriptors, before.threads)
        assert after.memory - before.memory < 4 << 20
        disk.end()


def resources_of(disk: Life) -> Resources:
    """With the device idle: what it has under load comes and goes."""
    with disk.machine.lock:
        disk.driver.set_status(0)
    disk.load.abandon()
    found = Resources.now()
    disk._bind(disk.driver)
    return found
