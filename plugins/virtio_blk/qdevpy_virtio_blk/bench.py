# SPDX-License-Identifier: Apache-2.0
"""What ``qdevpy bench`` measures of disks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from qdevpy.bench.measurement import P50, P99, P999, REQUESTS, THROUGHPUT, VCPU_BUSY
from qdevpy.bench.suite import PEER, QDEVPY, Place, Rig, Row, Setting, Suite, Target

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


SETTINGS = {
    QDEVPY: _settings(["default", "iothread"], ["io_uring", "threads"]),
    PEER: _settings(["iothread", "main loop"], ["io_uring", "threads"]),
}
DIRECT_SETTINGS = {
    QDEVPY: _settings(["default"], ["io_uring", "threads"]),
    PEER: _settings(["iothread", "main loop"], ["io_uring", "threads", "native"]),
}
SYNCHRONOUS_SETTINGS = {
    QDEVPY: _settings(["default"], ["io_uring", "threads"]),
    PEER: _settings(["main loop"], ["io_uring", "threads"]),
}
RIG = Rig("blk", _options, SETTINGS)
DIRECT = Rig("blk-direct", partial(_options, direct=True), DIRECT_SETTINGS)
#: QEMU serves no queue on an iothread then
SYNCHRONOUS = Rig("blk-sync", partial(_options, properties=",ioeventfd=off"), SYNCHRONOUS_SETTINGS)


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


def suite() -> Suite:
    """Rows and targets of disks."""
    return Suite(list(_rows()), list(_targets()))
