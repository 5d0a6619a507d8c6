# SPDX-License-Identifier: Apache-2.0
"""A virtio-blk device without a transport, and the driver's side of its queues."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from qdevpy.backend.drive import Drive
from qdevpy.native.iothread import IOThread
from qdevpy.native.memory import GuestMemory
from qdevpy.native.space import AddressSpace
from qdevpy.virtio import defs
from qdevpy.virtio.queue import VirtQueue
from qdevpy.vm.loop import MainLoop
from qdevpy.vm.run_control import RunState
from qdevpy.vm.watchdog import Watchdog
from qdevpy_virtio_blk import engines
from qdevpy_virtio_blk._native import lib
from qdevpy_virtio_blk.device import VirtIOBlock

IN, OUT, FLUSH, FLUSH_OUT, GET_ID, DISCARD, WRITE_ZEROES = 0, 1, 4, 5, 8, 11, 13
OK, IOERR, UNSUPP, NOT_WRITTEN = 0, 1, 2, 0xEE
VERSION_1 = 1 << defs.F_VERSION_1
EVENT_IDX = 1 << defs.F_RING_EVENT_IDX
INDIRECT = 1 << defs.F_RING_INDIRECT_DESC

#: engines to test; where one is missing, its tests say so
ENGINES = [
    pytest.param(name, id=name, marks=pytest.mark.skipif(lib.blk_probe(number) != 0, reason=f"no {name} here"))
    for number, name in enumerate(engines.ENGINES)
]

#: the same, and an image in memory, which is served without an engine for the most part
DISKS = [*ENGINES, "memory"]


def options_of(aio: str) -> dict[str, str]:
    """Options of a drive, one of :data:`DISKS`. Linux AIO works with O_DIRECT only."""
    if aio == "memory":
        return {"aio": "threads"}
    return {"aio": aio} | ({"cache.direct": "on"} if aio == "native" else {})


@contextmanager
def image_of(aio: str, folder: Path) -> Iterator[Path]:
    """Where an image for one of :data:`DISKS` is."""
    if aio != "memory":
        yield folder / "disk.img"
        return
    fd = os.memfd_create("disk.img", os.MFD_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


PF_EXITING = 0x4  # include/linux/sched.h
PF_IO_WORKER = 0x10  # <linux/sched.h>

RAM = 16 << 20
RINGS, RING_BYTES, BUFFERS = 0x1000, 0x10000, 0x100000


def is_ours(task: Path) -> bool:
    """Whether a thread is neither the kernel's own for io_uring nor one that has been joined and is on its way out.

    Both by its flags: an io_uring worker's name ("iou-wrk-...") it has only once it has run.
    """
    _, _, fields = (task / "stat").read_text().rpartition(")")
    return not int(fields.split()[6]) & (PF_IO_WORKER | PF_EXITING)


def resources() -> tuple[int, int]:
    """Descriptors and threads of this process, without the kernel's own for io_uring, which end some time after the ring."""
    threads = 0
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            threads += is_ours(task)
    return len(os.listdir("/proc/self/fd")), threads


def wait_for_resources(most: tuple[int, int]) -> None:
    """Until there are no more than MOST; a thread of Python's that was joined is there for a moment more."""
    deadline = time.monotonic() + 10
    while any(now > then for now, then in zip(resources(), most, strict=True)):
        assert time.monotonic() < deadline, f"descriptors and threads: {resources()}, before {most}"


@attrs.define
class Request:
    """One chain on its way."""

    head: int
    status_at: int
    reads: Sequence[tuple[int, int]]
    written: int | None = None


class Ring:
    """The driver's side of one queue; split ring, virtio 1.2, 2.7."""

    def __init__(self, disk: BlkRig, queue: VirtQueue, size: int) -> None:
        self.disk, self.queue, self.size = disk, queue, size
        base = RINGS + queue.index * RING_BYTES
        self.desc, self.avail, self.used = base, base + 16 * size, (base + 18 * size + 6 + 3) & ~3
        self.irq = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.notifier = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        disk.cleanup.callback(os.close, self.irq)
        disk.cleanup.callback(os.close, self.notifier)
        self.clear()

    def clear(self) -> None:
        """Forget everything, as after a reset."""
        self.avail_idx = self.seen = 0
        self.free = list(range(self.size))
        self.chains: dict[int, list[int]] = {}
        self.requests: dict[int, Request] = {}
        self.disk.memory.write(self.desc, bytes(RING_BYTES))

    def start(self) -> None:
        queue = self.queue
        queue.size, queue.desc, queue.avail, queue.used, queue.enabled = self.size, self.desc, self.avail, self.used, True
        queue.start()
        queue.set_irq_fd(self.irq)
        if self.disk.ioeventfd:
            queue.attach(self.notifier)

    def stop(self) -> None:
        self.queue.detach()
        self.queue.stop()

    def add(self, out: Sequence[tuple[int, int]], into: Sequence[tuple[int, int]], *, indirect: bool = False) -> int:
        """Offer a chain of (address, length); returns its head."""
        parts = [(address, n, 0) for address, n in out] + [(address, n, 2) for address, n in into]
        heads = [self.free.pop(0) for _ in ([0] if indirect else parts)]
        links = range(1, len(parts) + 1) if indirect else [*heads[1:], 0]
        table = b"".join(
            struct.pack("<QIHH", address, n, flags | (i < len(parts) - 1), link)
            for i, ((address, n, flags), link) in enumerate(zip(parts, links, strict=True))
        )
        memory = self.disk.memory
        if indirect:
            place = self.disk.buffer(table)
            memory.write(self.desc + 16 * heads[0], struct.pack("<QIHH", place, len(table), 4, 0))
        else:
            for i, slot in enumerate(heads):
                memory.write(self.desc + 16 * slot, table[16 * i : 16 * i + 16])
        self.chains[heads[0]] = heads
        memory.write(self.avail + 4 + 2 * (self.avail_idx % self.size), struct.pack("<H", heads[0]))
        self.avail_idx = (self.avail_idx + 1) & 0xFFFF
        memory.write(self.avail + 2, struct.pack("<H", self.avail_idx))
        return heads[0]

    def kick(self) -> None:
        if self.disk.ioeventfd:
            os.eventfd_write(self.notifier, 1)
        else:
            self.queue.kick()

    def word(self, address: int) -> int:
        return struct.unpack("<H", self.disk.memory.read(address, 2))[0]

    def collect(self) -> list[Request]:
        """Requests that the device has given back since the last call."""
        done = []
        while self.seen != self.word(self.used + 2):
            head, written = struct.unpack("<II", self.disk.memory.read(self.used + 4 + 8 * (self.seen % self.size), 8))
            self.seen = (self.seen + 1) & 0xFFFF
            self.free += self.chains.pop(head)
            request = self.requests.pop(head)
            request.written = written
            done.append(request)
        return done

    # -- requests

    def submit(
        self,
        kind: int,
        sector: int = 0,
        data: bytes = b"",
        read: int = 0,
        *,
        cut_out: Sequence[int] = (),
        cut_in: Sequence[int] = (),
        indirect: bool = False,
        align: int = 1,
        shift: int = 0,
    ) -> Request:
        """Offer a request without a kick.

        :param cut_out: lengths of the leading readable buffers; what is left is one more. Empty: header, data
        :param cut_in: likewise of the writable ones. Empty: data, status
        """
        header = struct.pack("<IIQ", kind, 0, sector)
        out = self.disk.buffer(header + data, align, shift)
        into = self.disk.buffer(b"\xee" * (read + 1), align, shift)
        readable = pieces(out, len(header) + len(data), cut_out or [16])
        writable = pieces(into, read + 1, cut_in or [read])
        head = self.add(readable, writable, indirect=indirect)
        request = Request(head, into + read, [(into, read)])
        self.requests[head] = request
        return request

    def finish(self, count: int) -> list[Request]:
        """Wait for COUNT requests."""
        done: list[Request] = []
        while len(done) < count:
            os.sched_yield()
            done += self.collect()
        return done

    def status(self, request: Request) -> int:
        return self.disk.memory.read(request.status_at, 1)[0]

    def data(self, request: Request) -> bytes:
        return b"".join(self.disk.memory.read(address, n) for address, n in request.reads)

    def run(self, *given: Any, **options: Any) -> tuple[int, bytes]:
        """One request, from offer to status and data."""
        request = self.submit(*given, **options)
        self.kick()
        self.finish(1)
        return self.status(request), self.data(request)


def pieces(address: int, length: int, cuts: Sequence[int]) -> list[tuple[int, int]]:
    """(address, length) of the parts that CUTS makes; empty ones are left out."""
    found = []
    for cut in [*cuts, length]:
        part = min(cut, length)
        if part:
            found.append((address, part))
        address += part
        length -= part
    return found


class BlkRig:
    """The device, a machine as far as it needs one, and rings.

    :param properties: of the device; those of the drive as ``drive_NAME``
    """

    def __init__(
        self,
        image: Path,
        *,
        features: int = VERSION_1,
        ioeventfd: bool = True,
        ring_size: int = 64,
        drive: dict[str, Any] | None = None,
        **properties: Any,
    ) -> None:
        with ExitStack() as cleanup:
            self.cleanup = cleanup
            self.ioeventfd = ioeventfd
            self.stops: list[RunState] = []
            self.memory = GuestMemory()
            cleanup.callback(self.memory.close)
            self.memory.add_ram(0, RAM)
            self.space = AddressSpace()
            cleanup.callback(self.space.close)
            self.loop = MainLoop(self.space.lock)
            cleanup.callback(self.loop.close)
            self.iothread = IOThread("test")
            cleanup.callback(self.iothread.close)
            self.drive = Drive(id="root")
            for name, value in ({"file": str(image)} | (drive or {})).items():
                self.drive.set_property(name, value)
            self.drive.open()
            cleanup.callback(self.drive.close)
            self.config_changes = 0
            self.device = self._device(properties)
            cleanup.callback(self.device.unrealize)
            self._next = BUFFERS
            self.driver_ok(features)
            self.rings = [Ring(self, queue, ring_size) for queue in self.device.queues]
            for ring in self.rings:
                ring.start()
            cleanup.callback(self.stop)
            self.cleanup = cleanup.pop_all()

    def _device(self, properties: dict[str, Any]) -> VirtIOBlock:
        self.events: list[tuple[Any, ...]] = []
        device = VirtIOBlock(id="disk0")
        device.machine = SimpleNamespace(  # type: ignore[assignment]
            watchdog=Watchdog(),
            memory=self.memory,
            loop=self.loop,
            iothread=lambda name: self.iothread,
            cpus=1,
            emit=lambda *event: self.events.append(event),
            request_stop=self.stops.append,
        )
        properties = {"werror": "report"} | properties
        device.bindings = SimpleNamespace(  # type: ignore[assignment]
            notify_config=self._config_changed, status_changed=lambda old, new: None, notify_queue=lambda queue: None
        )
        for name, value in properties.items():
            device.set_property(name if "_" in name and name in device.all_properties() else name.replace("_", "-"), value)
        device.drive = self.drive
        device.realize()
        return device

    def _config_changed(self) -> None:
        self.config_changes += 1

    def driver_ok(self, features: int) -> None:
        """What a transport does up to DRIVER_OK."""
        self.device.features = features
        self.device.vdev.features = features
        self.device.vdev.set_use_msix(True)
        self.device.write_status(defs.STATUS_ACKNOWLEDGE | defs.STATUS_DRIVER | defs.STATUS_DRIVER_OK)

    def stop(self) -> None:
        for ring in self.rings:
            ring.stop()

    def restart(self) -> None:
        """The driver resets the device and starts it anew, with empty rings."""
        features = self.device.features
        self.stop()
        self.device.reset()
        self.driver_ok(features)
        for ring in self.rings:
            ring.clear()
            ring.start()

    def buffer(self, data: bytes, align: int = 1, shift: int = 0) -> int:
        """Guest memory with DATA in it; never used again until it wraps round."""
        place = -(-self._next // align) * align + shift
        if place + len(data) > RAM:
            self._next = BUFFERS
            return self.buffer(data, align, shift)
        self._next = place + len(data)
        self.memory.write(place, data)
        return place

    def wait(self, condition: Callable[[], bool]) -> None:
        """Until CONDITION holds, with the main loop running; pytest's timeout ends a wait in vain."""
        while not condition():
            self.loop.run_once(0.01)

    def run(self, *given: Any, **options: Any) -> tuple[int, bytes]:
        """One request on the first queue."""
        return self.rings[0].run(*given, **options)

    def close(self) -> None:
        self.cleanup.close()

    def __enter__(self) -> BlkRig:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
