# SPDX-License-Identifier: Apache-2.0
"""A disk that is stopped, reset, unplugged and plugged under load, a few hundred times; tests/stress does it for longer."""

from __future__ import annotations

import ctypes
import gc
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from blk_driver import IN, OK, resources
from ring_forms import OFFER, PackedDriver, PackedInOrderDriver

from qdevpy.backend.drive import Drive
from qdevpy.pci import config
from qdevpy.testing.driver import LegacyDriver, ModernDriver
from qdevpy.testing.machine import FIRST_MMIO, FIRST_PORT, FakeMachine
from qdevpy.virtio import defs, pci_modern
from qdevpy.virtio.pci_types import device_types_for
from qdevpy_virtio_blk.config import F_MQ
from qdevpy_virtio_blk.device import VirtIOBlock

TYPES = {kind.name: kind for kind in device_types_for(VirtIOBlock)}
ROUNDS, REQUESTS, QUEUES = 300, 16, 2
FIRST_FREE = 0x200000  # above what the rings of a start take
DECODE = config.COMMAND_IO | config.COMMAND_MEMORY


class MallInfo2(ctypes.Structure):
    """glibc's ``struct mallinfo2``."""

    _fields_: ClassVar = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def allocated() -> int:
    """Bytes that malloc has given out; what is resident depends on how many arenas threads have made."""
    gc.collect()
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = MallInfo2
    info = mallinfo2()
    return int(info.uordblks + info.hblkhd)


class Bench:
    """A machine with a disk, its driver, and requests on their way.

    :ivar offered: ``(queue, head, sector)`` of requests that have to be finished
    """

    def __init__(self, machine: FakeMachine, image: Path, interface: type[Any]) -> None:
        self.machine, self.image, self.interface = machine, image, interface
        self.offered: list[tuple[Any, int, int]] = []
        self.plug()

    def plug(self) -> None:
        self.machine.ports.next, self.machine.mmio.next = FIRST_PORT, FIRST_MMIO
        backend = self.machine.open_backend(Drive(id="root"), file=str(self.image))
        self.proxy = self.machine.plug_type("virtio-blk-pci", id="disk0", drive=backend, num_queues=QUEUES, **OFFER)
        self.driver = self.interface(self.machine, self.proxy)
        self.start()

    def start(self) -> None:
        self.machine.ram.next = 0x10000
        self.driver.start(1 << F_MQ | (1 << defs.F_RING_RESET if self.interface is not LegacyDriver else 0))
        self.offered.clear()

    def load(self) -> None:
        """Requests on every queue, kicked."""
        self.machine.ram.next = FIRST_FREE
        for queue in self.driver.queues:
            for sector in range(REQUESTS):
                head = queue.add([struct.pack("<IIQ", IN, 0, sector)], [512, 1])
                self.offered.append((queue, head, sector))
            queue.kick()

    def finish(self) -> None:
        """Every request that was offered is done, and right."""
        for queue, head, sector in self.offered:
            queue.wait(head)
            assert queue.read(head) == bytes([sector]) * 512 + bytes([OK])
        self.offered.clear()

    # -- disturbances

    def pause(self) -> None:
        self.machine.pause()
        self.machine.start()
        self.finish()

    def turn_bus_mastering_off_and_on(self) -> None:
        self.driver.set_command(DECODE)
        self.driver.set_command(DECODE | config.COMMAND_MASTER)
        self.finish()

    def reset(self) -> None:
        self.driver.set_status(0)
        self.start()

    def reset_a_queue(self) -> None:
        if self.interface is LegacyDriver:
            return self.reset()
        self.driver.write(pci_modern.QUEUE_SELECT, 1, 2)
        self.driver.write(pci_modern.QUEUE_RESET, 1, 2)
        self.offered = [request for request in self.offered if request[0] is not self.driver.queues[1]]
        self.finish()
        self.machine.ram.next = FIRST_FREE // 2
        self.driver.queues[1] = self.driver.setup_queue(1)
        return None

    def unplug_and_plug(self) -> None:
        with self.machine.lock:
            self.machine.pci.unplug(self.proxy)
        self.plug()


@pytest.mark.parametrize("interface", [LegacyDriver, ModernDriver, PackedDriver, PackedInOrderDriver])
def test_disk_that_is_disturbed_again_and_again_loses_and_leaks_nothing(tmp_path: Path, interface: type[Any]) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"".join(bytes([sector]) * 512 for sector in range(64)))
    with FakeMachine(types=TYPES) as machine:
        bench = Bench(machine, image, interface)
        disturbances: list[Callable[[], None]] = [
            bench.pause,
            bench.turn_bus_mastering_off_and_on,
            bench.reset,
            bench.reset_a_queue,
            bench.unplug_and_plug,
        ]
        for round_ in range(ROUNDS):
            if round_ == 100:  # caches are full by then
                bench.driver.set_status(0)
                idle, memory = resources(), allocated()
                bench.start()
            bench.load()
            disturbances[round_ % len(disturbances)]()
        bench.load()
        bench.finish()
        bench.driver.set_status(0)
        assert resources() == idle
        assert allocated() < memory + (100 << 10)
