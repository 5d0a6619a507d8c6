# SPDX-License-Identifier: Apache-2.0
"""What ``qdevpy bench`` measures of disks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Self

import attrs

from qdevpy.bench.guest import Guest
from qdevpy.bench.measurement import P50, P99, P999, REQUESTS, THROUGHPUT, VCPU_BUSY, Measurement
from qdevpy.bench.program import BenchError, Launch, qemu_options
from qdevpy.bench.suite import PEER, QDEVPY, Figure, Place, Rig, Row, Setting, Start, Suite, Target

IMAGE_SIZE = 128 << 20
#: the guest finds the number of each such block at its beginning (guest/bench_blk.c)
STAMP_BLOCK = 4096

DEPTHS = (8, 32, 128)
OPERATIONS = ("read", "write")


def make_image(path: Path) -> Path:
    """An image without holes, every block of which begins with its number."""
    if not path.exists():
        blank = bytes(STAMP_BLOCK - 8)
        with path.open("wb") as file:
            for number in range(IMAGE_SIZE // STAMP_BLOCK):
                file.write(number.to_bytes(8, "little") + blank)
    return path


def _options(setting: Setting, place: Place, *, direct: bool = False, properties: str = "") -> Sequence[str]:
    values = setting.values
    image = make_image((place.disk if direct else place.memory) / "disk.img")
    cache = "none" if direct else "writeback"
    options = ["-drive", f"file={image},format=raw,if=none,id=disk,cache={cache},aio={values['aio']}"]
    device = f"virtio-blk-pci,drive=disk{properties}"
    if values["thread"] == "iothread":
        options = ["-object", "iothread,id=io0", *options]
        device += ",iothread=io0"
    return [*options, "-device", device]


def _settings(threads: Sequence[str], engines: Sequence[str]) -> list[Setting]:
    return [Setting(f"{thread}, {aio}", {"thread": thread, "aio": aio}) for thread in threads for aio in engines]


def _why_no_direct(folder: Path) -> str | None:
    try:
        with tempfile.TemporaryDirectory(dir=folder) as work:
            os.close(os.open(Path(work) / "probe", os.O_CREAT | os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC))
    except OSError as error:
        return f"{folder} takes no O_DIRECT: {error.strerror}; give --folder"
    return None


SETTINGS = {
    QDEVPY: _settings(["default", "iothread"], ["io_uring", "threads"]),
    PEER: _settings(["iothread", "main loop"], ["io_uring", "threads"]),
}
DIRECT_SETTINGS = {
    QDEVPY: _settings(["default", "iothread"], ["io_uring", "threads", "native"]),
    PEER: _settings(["iothread", "main loop"], ["io_uring", "threads", "native"]),
}
SYNCHRONOUS_SETTINGS = {
    QDEVPY: _settings(["default"], ["io_uring", "threads"]),
    PEER: _settings(["main loop"], ["io_uring", "threads"]),
}
RIG = Rig("blk", _options, SETTINGS)
DIRECT = Rig("blk-direct", partial(_options, direct=True), DIRECT_SETTINGS, why_not=_why_no_direct)
#: QEMU serves no queue on an iothread then
SYNCHRONOUS = Rig("blk-sync", partial(_options, properties=",ioeventfd=off"), SYNCHRONOUS_SETTINGS)
PACKED = Rig("blk-packed", partial(_options, properties=",packed=on"), SETTINGS)
TWO_VCPUS = Rig("blk-2v", partial(_options, properties=",num-queues=2"), SETTINGS, vcpus=2)
FOUR_QUEUES = Rig("blk-4q", partial(_options, properties=",num-queues=4"), SETTINGS)


def _on_threads(count: int, setting: Setting, place: Place) -> Sequence[str]:
    """COUNT queues, each on an iothread of its own."""
    image = make_image(place.memory / "disk.img")
    threads = [f"io{number}" for number in range(count)]
    options = [word for name in threads for word in ("-object", f"iothread,id={name}")]
    options += ["-drive", f"file={image},format=raw,if=none,id=disk,cache=writeback,aio={setting.values['aio']}"]
    device = {"driver": "virtio-blk-pci", "drive": "disk", "num-queues": count}
    mapping = [{"iothread": name} for name in threads]
    return [*options, "-device", json.dumps({**device, "iothread-vq-mapping": mapping})]


def _why_no_mapping(folder: Path) -> str | None:
    from qdevpy.plugin.manager import load_plugins

    if "iothread-vq-mapping" in load_plugins().device_type("virtio-blk-pci").properties:
        return None
    return "virtio-blk has no property iothread-vq-mapping"


THREADS = {
    count: Rig(
        f"blk-{count}t",
        partial(_on_threads, count),
        {QDEVPY: _settings(["own threads"], ["io_uring", "threads"])},
        why_not=_why_no_mapping,
    )
    for count in (1, 2, 4)
}


# -- interrupts, by qdevpy's own count


class InterruptCounter:
    """Boots a guest for each step with ``qdevpy boot -v``, which tells at the end how many interrupts there were; a context
    manager.
    """

    def __init__(self, start: Start) -> None:
        self._start = start

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return

    def _command(self, launch: Launch) -> list[str]:
        qdevpy = [sys.executable, "-m", "qdevpy"]
        options = ["import", "--", "qemu-system-x86_64", *qemu_options(launch)]
        machine = self._start.place.memory / "interrupts.yaml"
        machine.write_text(subprocess.run([*qdevpy, *options], check=True, capture_output=True, text=True).stdout)
        return [*qdevpy, "boot", "-v", str(machine)]

    def measure_all(self, steps: Sequence[str]) -> Sequence[Measurement]:
        """As a guest, with the host's count of requests and interrupts.

        :raises BenchError: a guest cannot
        """
        return [self._measure(step) for step in steps]

    def _measure(self, step: str) -> Measurement:
        start = self._start
        program = attrs.evolve(start.program, command=self._command)
        with Guest(program, start.rig, start.rig.options(start.setting, start.place), start.kernel) as guest:
            measurement = guest.measure(step)
        found = re.search(r"(\d+) requests, (\d+) interrupts", guest.output)
        if found is None:
            raise BenchError(f"qdevpy does not tell its interrupts: {guest.output}")
        return attrs.evolve(measurement, counts={**measurement.counts, "served": int(found[1]), "interrupts": int(found[2])})


INTERRUPTS = Figure("interrupts", "per 1000 requests", lambda m: 1000 * m.counts["interrupts"] / max(m.counts["served"], 1))
#: on a file with O_DIRECT requests end one by one; from memory they come back as they went, all in one batch
COUNTED = Rig(
    "blk-interrupts",
    partial(_options, direct=True),
    {QDEVPY: _settings(["default"], ["native"])},
    why_not=_why_no_direct,
    session=InterruptCounter,
)


def _random(op: str, depth: int) -> str:
    return f"blk op={op} size=4096 depth={depth} indirect=on"


def _sequential(op: str) -> str:
    return f"blk op={op} order=sequential size=131072 depth=8 indirect=on"


def _latency(name: str, rig: Rig, words: str = "") -> Iterator[Row]:
    step = _random("read", 1) + " histogram" + words
    for figure in (P50, P99, P999):
        yield Row(f"{name}-{figure.name}", rig, step, figure)


def _rows() -> Iterator[Row]:
    yield Row("blk-kick", RIG, "kick count=4000", P50)
    yield from _latency("blk-read-4k-d1", RIG)
    yield Row("blk-read-4k-d1", RIG, _random("read", 1) + " histogram", REQUESTS)
    yield Row("blk-write-4k-d1", RIG, _random("write", 1), REQUESTS)
    for depth in DEPTHS:
        for op in OPERATIONS:
            yield Row(f"blk-{op}-4k-d{depth}", RIG, _random(op, depth), REQUESTS)
    for op in OPERATIONS:
        yield Row(f"blk-{op}-128k-seq", RIG, _sequential(op), THROUGHPUT)
    yield Row("blk-legacy-read-4k-d32", RIG, _random("read", 32) + " transport=legacy", REQUESTS)
    for depth in (1, 32, 128):
        yield Row(f"blk-packed-read-4k-d{depth}", PACKED, _random("read", depth) + " ring=packed", REQUESTS)
    for count in (1, 2, 4):
        yield Row(f"blk-{count}q-read-4k-d32", FOUR_QUEUES, f"{_random('read', 32)} queues={count}", REQUESTS)
    for count in (1, 2):
        yield Row(f"blk-2v-{count}-read-4k-d32", TWO_VCPUS, f"{_random('read', 32)} queues=2 vcpus={count}", REQUESTS)
    for count, rig in THREADS.items():
        yield Row(f"blk-{count}t-read-4k-d32", rig, f"{_random('read', 32)} queues={count}", REQUESTS, (QDEVPY,))
    for name, words in (("event-idx", ""), ("no-event-idx", " event-idx=off")):
        yield Row(f"blk-interrupts-{name}", COUNTED, f"{_random('read', 128)} interrupts=on{words}", INTERRUPTS, (QDEVPY,))
    yield Row("blk-sync-kick", SYNCHRONOUS, "kick count=2000", P50)
    yield Row("blk-read-4k-d32-vcpu", RIG, _random("read", 32), VCPU_BUSY)
    for depth in (1, 32):
        yield Row(f"blk-sync-read-4k-d{depth}", SYNCHRONOUS, _random("read", depth), REQUESTS)
    yield Row("blk-sync-read-4k-d32-vcpu", SYNCHRONOUS, _random("read", 32), VCPU_BUSY)
    for depth in (1, 32):
        yield Row(f"blk-direct-read-4k-d{depth}", DIRECT, _random("read", depth), REQUESTS)
    yield Row("blk-direct-write-4k-d32", DIRECT, _random("write", 32), REQUESTS)
    yield Row("blk-direct-read-128k-seq", DIRECT, _sequential("read"), THROUGHPUT)


def _targets() -> Iterator[Target]:
    def peer(text: str, row: str, limit: float, *, at_least: bool) -> Target:
        return Target(f"{text}, over QEMU's", row, row, PEER, limit, at_least)

    yield peer("kick served in the vCPU's exit (ioeventfd off)", "blk-sync-kick", 1.0, at_least=False)
    yield peer("4 KiB random read, depth 1, latency p50", "blk-read-4k-d1-p50", 0.6, at_least=False)
    for op in OPERATIONS:
        for depth in (8, 32):
            yield peer(f"4 KiB random {op}, depth {depth}, requests/s", f"blk-{op}-4k-d{depth}", 1.5, at_least=True)
    for op in OPERATIONS:
        yield peer(f"128 KiB sequential {op}", f"blk-{op}-128k-seq", 1.0, at_least=True)
    for depth, limit in ((1, 3.0), (32, 2.0)):
        rows = (f"blk-read-4k-d{depth}", f"blk-sync-read-4k-d{depth}")
        yield Target(f"ioeventfd on over off, 4 KiB random read, depth {depth}, requests/s", *rows, QDEVPY, limit, at_least=True)
    rows = ("blk-read-4k-d32-vcpu", "blk-sync-read-4k-d32-vcpu")
    yield Target("ioeventfd on over off, depth 32, vCPU time per request", *rows, QDEVPY, 0.5, at_least=False)
    rows = ("blk-interrupts-event-idx", "blk-interrupts-no-event-idx")
    yield Target("interrupts with EVENT_IDX over without, depth 128", *rows, QDEVPY, 1 / 20, at_least=False)


def suite() -> Suite:
    """Rows and targets of disks."""
    return Suite(list(_rows()), list(_targets()))
