# SPDX-License-Identifier: Apache-2.0
"""Queues that move from one I/O thread to another while a driver uses them."""

from __future__ import annotations

import random
import resource
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from load import Load, machine_with_disk, plug

from qdevpy.native.iothread import IOThread, Polling
from qdevpy.virtio import defs
from qdevpy.virtio.queue import QueueState

MOVES = 1000


@pytest.fixture
def threads() -> Iterator[list[IOThread]]:
    """One that sleeps at once, two that poll."""
    with ExitStack() as cleanup:
        made = [IOThread(f"move{number}", polling) for number, polling in enumerate((None, Polling(32768), Polling(200_000)))]
        for thread in made:
            cleanup.callback(thread.close)
        yield made


@pytest.mark.parametrize("form", ["modern", "packed"])
def test_queue_that_moves_a_thousand_times_under_load_loses_nothing(tmp_path: Path, threads: list[IOThread], form: str) -> None:
    choose = random.Random(5)
    with machine_with_disk(tmp_path) as (machine, drive):
        driver = plug(machine, drive, form, num_queues=1)
        queue = driver.proxy.device.queues[0]
        load = Load(driver.queues[0])
        load.start()
        for _ in range(MOVES):
            before = load.done
            target = choose.choice([thread for thread in threads if thread is not queue.iothread])
            with machine.lock:
                queue.move_to(target)
                assert queue.state is QueueState.ATTACHED
            machine.wait_for(lambda n=before: load.done > n or load.error, "a request served by the new thread")
            if load.error:
                break
        load.stop()
        assert load.done >= MOVES
        assert driver.proxy.device.broken is None
        with machine.lock:
            driver.set_status(0)


def test_queues_of_a_disk_move_together_while_others_are_busy(tmp_path: Path, threads: list[IOThread]) -> None:
    with machine_with_disk(tmp_path) as (machine, drive):
        driver = plug(machine, drive, "modern", num_queues=3)
        loads = [Load(queue) for queue in driver.queues]
        for load in loads:
            load.start()
        for round_ in range(60):
            before = [load.done for load in loads]
            with machine.lock:
                driver.proxy.device.move_queues(threads[round_ % 3])
            machine.wait_for(
                lambda b=before: all(x.done > n or x.error for x, n in zip(loads, b, strict=True)), "every queue's turn"
            )
        for load in loads:
            load.stop()
        assert {queue.iothread for queue in driver.proxy.device.queues} == {threads[59 % 3]}


def test_queue_without_a_driver_moves_and_starts_on_its_new_thread(tmp_path: Path, threads: list[IOThread]) -> None:
    with machine_with_disk(tmp_path) as (machine, drive):
        driver = plug(machine, drive, "modern", num_queues=1)
        driver.set_status(0)
        queue = driver.proxy.device.queues[0]
        queue.move_to(threads[1])
        assert queue.state is QueueState.IDLE
        driver.start(msix=True)
        load = Load(driver.queues[0])
        load.start()
        machine.wait_for(lambda: load.done > 10, "requests")
        load.stop()
        assert threads[1].statistics()["sleeps"] + threads[1].statistics()["polls_hit"] > 0


def test_queue_that_the_host_has_no_descriptors_for_marks_its_device_broken(tmp_path: Path, threads: list[IOThread]) -> None:
    with machine_with_disk(tmp_path) as (machine, drive):
        driver = plug(machine, drive, "modern", num_queues=1)
        queue = driver.proxy.device.queues[0]
        before = queue.iothread
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))  # the queue's own is given back, and cannot be had again
        try:
            with (
                machine.lock,
                pytest.raises(OSError, match=r"queue 0 .*: cannot be moved to I/O thread 'move0': Too many open files"),
            ):
                queue.move_to(threads[0])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert queue.iothread is before
        assert driver.proxy.device.broken is not None
        assert driver.status & defs.STATUS_NEEDS_RESET
        driver.start(msix=True)
        load = Load(driver.queues[0])
        load.start()
        machine.wait_for(lambda: load.done > 10, "requests after a reset")
        load.stop()
