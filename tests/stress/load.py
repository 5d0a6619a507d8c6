# SPDX-License-Identifier: Apache-2.0
"""A disk and a driver that keeps it busy from a thread of its own, and counts: every request comes back exactly once."""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qdevpy.backend.drive import Drive
from qdevpy.testing.driver import LegacyDriver, ModernDriver, PCIDriver
from qdevpy.testing.machine import FakeMachine
from qdevpy.testing.rings import WRITE, DriverQueue
from qdevpy.virtio import defs
from qdevpy.virtio.pci_types import device_types_for
from qdevpy_virtio_blk.device import VirtIOBlock

SECTORS = 64
IN, OUT = 0, 1
#: seconds without an answer after which a request, or its kick, counts as lost
PATIENCE = 30.0
#: what each driver negotiates beside VERSION_1
FORMS = {
    "legacy": (LegacyDriver, "pci-transitional", 1 << defs.F_RING_EVENT_IDX),
    "modern": (ModernDriver, "pci-non-transitional", 1 << defs.F_RING_EVENT_IDX),
    "packed": (ModernDriver, "pci-non-transitional", 1 << defs.F_RING_EVENT_IDX | 1 << defs.F_RING_PACKED),
}


class Slot:
    """Buffers of one request, used again and again."""

    def __init__(self, driver: PCIDriver, number: int) -> None:
        self.number = number
        self.memory = driver.machine.memory
        self.header, self.data, self.status = (driver.allocator.take(size, 16) for size in (16, 512, 16))

    def fill(self, turn: int) -> list[tuple[int, int, int]]:
        """Write every second time, else read what was written; the chain's buffers."""
        kind = OUT if turn % 2 == 0 else IN
        self.memory.write(self.header, struct.pack("<IIQ", kind, 0, self.number % SECTORS))
        self.memory.write(self.status, b"\xff")
        self.expected = struct.pack("<QQ", self.number, turn & ~1) * 32
        self.memory.write(self.data, self.expected if kind == OUT else bytes(512))
        return [(self.header, 16, 0), (self.data, 512, WRITE if kind == IN else 0), (self.status, 1, WRITE)]

    def check(self) -> None:
        """It was done, once, and the data is what was written the time before."""
        status, data = self.memory.read(self.status, 1), self.memory.read(self.data, 512)
        assert status == b"\0", f"request of slot {self.number}: status {status[0]}"
        assert data == self.expected, f"request of slot {self.number}: not the data that was written"


class Load:
    """A thread that keeps DEPTH requests in flight on QUEUE until it is told to stop.

    :ivar done: requests that came back
    """

    def __init__(self, queue: DriverQueue, depth: int = 8) -> None:
        self.queue = queue
        self.idle = [Slot(queue.driver, number + queue.index * depth) for number in range(depth)]
        self.turns = dict.fromkeys(self.idle, 0)
        self.outstanding: dict[int, Slot] = {}
        self.done = 0
        self.error: BaseException | None = None
        self._stop, self._kick = threading.Event(), threading.Event()
        self._abandoned = False
        self._fence = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"load-{queue.index}")

    def start(self, queue: DriverQueue | None = None) -> None:
        """Go on, on another set-up of the same queue where that is given; nothing is in flight."""
        if queue is not None:
            self.queue = queue
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name=f"load-{self.queue.index}")
        self._thread.start()

    def stop(self) -> None:
        """No more requests; returns when all have come back.

        :raises AssertionError: one was lost, came twice, or failed
        """
        self._stop.set()
        self._thread.join()
        if self.error is not None:
            raise self.error

    def abandon(self) -> None:
        """The device is about to be reset: stop looking, whatever is in flight; those requests never come back."""
        self._abandoned = True
        self._stop.set()
        self._thread.join()
        self._abandoned = False
        if self.error is not None:
            raise self.error
        self.idle += self.outstanding.values()
        for slot in self.outstanding.values():
            self.turns[slot] = 0  # what is on the disk is not known: begin with a write
        self.outstanding.clear()

    def kick_anew(self) -> None:
        """The notify register is elsewhere: a kick may have gone to where it was, as in life. The thread kicks once more."""
        self._kick.set()

    def _run(self) -> None:
        try:
            self._drive()
        except BaseException as error:
            self.error = error

    def _drive(self) -> None:
        last = time.monotonic()
        while True:
            stopping = self._stop.is_set()
            if self._abandoned or (stopping and not self.outstanding):
                return
            if not stopping:
                self._offer()
            if self._kick.is_set():
                self._kick.clear()
                self.queue.kick()
            if self._collect():
                last = time.monotonic()
            else:
                os.sched_yield()
                assert time.monotonic() - last < PATIENCE, f"{len(self.outstanding)} requests are lost, or their kick is"

    def _offer(self) -> None:
        while self.idle:
            slot = self.idle.pop()
            head = self.queue.add_raw(slot.fill(self.turns[slot]))
            assert head not in self.outstanding
            self.outstanding[head] = slot
            with self._fence:  # a full barrier: the chain is there before we look whether a kick is wanted (2.7.13.4.1)
                pass
            self.queue.kick_if_wanted()

    def _collect(self) -> int:
        count = self.queue.collect()
        for head in self.queue.order:
            slot = self.outstanding.pop(head, None)
            assert slot is not None, f"chain {head} came back twice, or was never offered"
            slot.check()
            self.turns[slot] += 1
            self.idle.append(slot)
            self.done += 1
        self.queue.order.clear()
        return count


@contextmanager
def machine_with_disk(folder: Path, **drive: Any) -> Iterator[tuple[FakeMachine, Drive]]:
    """A machine, and a drive in FOLDER that no device has yet."""
    image = folder / "disk.img"
    image.write_bytes(bytes(512 * SECTORS))
    types = {kind.name: kind for kind in device_types_for(VirtIOBlock, "test")}
    with FakeMachine(types=types) as machine:
        node = {"file": str(image), "node-name": "root"}  # one that does not go with its device
        yield machine, machine.open_backend(Drive(id="root"), **node, **drive)


def plug(machine: FakeMachine, drive: Drive, form: str, **properties: Any) -> PCIDriver:
    """A disk with the driver of a form, which has bound it."""
    driver_class, variant, features = FORMS[form]
    packed = {"packed": "on"} if form == "packed" else {}
    proxy = machine.plug_type(f"virtio-blk-{variant}", id="disk0", drive=drive, **packed, **properties)
    driver: PCIDriver = driver_class(machine, proxy)
    driver.start(features, msix=True)
    return driver
