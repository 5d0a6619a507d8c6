# SPDX-License-Identifier: Apache-2.0
"""Requests of virtio-blk that come together and lie behind each other on the disk: one transfer, each its own result."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from blk_driver import DISKS, IN, INDIRECT, IOERR, OK, OUT, VERSION_1, BlkRig, Request, image_of, options_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SIZE = 4 << 20
PAGE = mmap.PAGESIZE
MAP_FIXED = 0x10  # not in module mmap before Python 3.13

MakeRig = Callable[..., BlkRig]


def sectors(first: int, count: int) -> bytes:
    """What the image has there."""
    return b"".join((sector % 65521).to_bytes(2, "little") * 256 for sector in range(first, first + count))


@pytest.fixture(params=DISKS)
def aio(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def image(tmp_path: Path, aio: str) -> Iterator[Path]:
    with image_of(aio, tmp_path) as path:
        path.write_bytes(sectors(0, SIZE // 512))
        yield path


@pytest.fixture
def make(image: Path, aio: str) -> Iterator[MakeRig]:
    with ExitStack() as cleanup:

        def make(**options: Any) -> BlkRig:
            options["drive"] = options_of(aio) | options.get("drive", {})
            rig = BlkRig(image, **({"ring_size": 256} | options))
            cleanup.callback(rig.close)
            return rig

        yield make


def run(rig: BlkRig, requests: Sequence[Request]) -> list[int]:
    """Kick once for all; their statuses."""
    rig.rings[0].kick()
    rig.rings[0].finish(len(requests))
    return [rig.rings[0].status(request) for request in requests]


def read(rig: BlkRig, sector: int, count: int = 8, **options: Any) -> Request:
    return rig.rings[0].submit(IN, sector, read=512 * count, align=512, **options)


def write(rig: BlkRig, sector: int, data: bytes, **options: Any) -> Request:
    return rig.rings[0].submit(OUT, sector, data, align=512, shift=512 - 16, **options)


def merged(rig: BlkRig) -> tuple[int, int]:
    """Reads and writes that were a part of another."""
    counters = rig.device.statistics()
    return counters["read"]["merged"], counters["write"]["merged"]


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 0, 2]])
def test_adjacent_reads_are_one_and_each_has_its_data(make: MakeRig, order: list[int]) -> None:
    rig = make()
    requests = [read(rig, 8 * n) for n in order]
    assert run(rig, requests) == [OK] * 4
    assert [rig.rings[0].data(request) for request in requests] == [sectors(8 * n, 8) for n in order]
    assert merged(rig) == (3, 0)
    assert rig.device.statistics()["read"]["requests"] == 4


def test_adjacent_writes_are_one(make: MakeRig, image: Path) -> None:
    rig = make()
    assert run(rig, [write(rig, 8 * n, bytes([n]) * 4096) for n in (5, 6, 7)]) == [OK] * 3
    assert image.read_bytes()[20480:32768] == b"".join(bytes([n]) * 4096 for n in (5, 6, 7))
    assert merged(rig) == (0, 2)


def test_written_bytes_in_the_used_ring_are_each_requests_own(make: MakeRig) -> None:
    rig = make()
    requests = [read(rig, 0, 1), read(rig, 1, 2), read(rig, 3, 4)]
    run(rig, requests)
    assert [request.written for request in requests] == [513, 1025, 2049]


@pytest.mark.parametrize("starts", [[0, 16, 32], [0, 9, 18], [0, 7, 14]])
def test_requests_with_a_gap_or_an_overlap_are_not_merged(make: MakeRig, starts: list[int]) -> None:
    rig = make()
    requests = [read(rig, sector) for sector in starts]
    assert run(rig, requests) == [OK] * 3
    assert [rig.rings[0].data(request) for request in requests] == [sectors(sector, 8) for sector in starts]
    assert merged(rig) == (0, 0)


def test_reads_are_not_merged_with_writes(make: MakeRig) -> None:
    rig = make()
    assert run(rig, [read(rig, 0), write(rig, 8, bytes(4096)), read(rig, 16), write(rig, 24, bytes(4096))]) == [OK] * 4
    assert merged(rig) == (0, 0)


def test_requests_of_two_kicks_are_not_merged(make: MakeRig) -> None:
    rig = make(ioeventfd=False)
    run(rig, [read(rig, 0)])
    run(rig, [read(rig, 8)])
    assert merged(rig) == (0, 0)


def test_merging_that_is_switched_off_merges_nothing(make: MakeRig) -> None:
    rig = make(request_merging="off")
    assert run(rig, [read(rig, 8 * n) for n in range(4)]) == [OK] * 4
    assert merged(rig) == (0, 0)


def test_merging_is_bounded_in_requests(make: MakeRig) -> None:
    rig = make()
    assert run(rig, [read(rig, n, 1) for n in range(64)]) == [OK] * 64  # 32 at a time
    assert merged(rig) == (62, 0)


def test_merging_is_bounded_in_bytes(make: MakeRig, aio: str) -> None:
    rig = make()
    limit = (64 if aio == "memory" else 256) << 10
    requests = [read(rig, limit // 1024 * n, limit // 1024) for n in range(4)]  # two and two
    assert run(rig, requests) == [OK] * 4
    assert merged(rig) == (2, 0)


def test_merging_is_bounded_in_buffers(make: MakeRig, aio: str) -> None:
    rig = make(features=VERSION_1 | INDIRECT)
    requests = [read(rig, 8 * n, 8, cut_in=[32] * 127, indirect=True) for n in range(3)]  # 128 buffers each, of at most 256
    assert run(rig, requests) == [OK] * 3
    assert [rig.rings[0].data(request) for request in requests] == [sectors(8 * n, 8) for n in range(3)]
    assert merged(rig) == (0 if aio == "native" else 1, 0)  # such buffers are copied for O_DIRECT


def test_writes_behind_the_hosts_limit_fail_and_those_before_it_are_written(make: MakeRig, image: Path) -> None:
    os.truncate(image, 0)
    os.truncate(image, SIZE)
    rig = make()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE // 2, hard))
    first = SIZE // 1024 - 16
    try:
        statuses = run(rig, [write(rig, first + 8 * n, bytes([n + 1]) * 4096) for n in range(4)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert statuses == [OK, OK, IOERR, IOERR]
    assert merged(rig) == (0, 3)
    assert image.read_bytes()[512 * first :][: 4 * 4096] == b"\1" * 4096 + b"\2" * 4096 + bytes(8192)
    counted = rig.device.statistics()["write"]
    assert (counted["requests"], counted["errors"], counted["bytes"]) == (4, 2, 8192)


def test_writes_that_stop_the_machine_are_tried_again_and_only_those(make: MakeRig, image: Path) -> None:
    os.truncate(image, 0)
    os.truncate(image, SIZE)
    rig = make(werror="stop")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE // 2, hard))
    first = SIZE // 1024 - 8
    try:
        requests = [write(rig, first + 8 * n, bytes([n + 1]) * 4096) for n in range(4)]
        rig.rings[0].kick()
        rig.wait(lambda: rig.device.statistics()["write"]["errors"] == 3)
        rig.stop()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert rig.device.statistics()["write"]["requests"] == 1
    rig.rings[0].start()
    assert run(rig, requests) == [OK] * 4
    assert image.read_bytes()[512 * first :][: 4 * 4096] == b"".join(bytes([n + 1]) * 4096 for n in range(4))
    assert rig.device.statistics()["write"]["requests"] == 4


@contextmanager
def memory_with_a_hole(rig: BlkRig, pages: int, hole: int) -> Iterator[bytes]:
    """The disk is memory of this process, of which one page cannot be read: EIO, as from a bad block; the contents."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    start = libc.mmap(None, pages * PAGE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    contents = sectors(0, pages * PAGE // 512)
    ctypes.memmove(start, contents, len(contents))
    # a page of a file that has none: it stays mapped, so that nothing else comes to lie there
    empty = os.memfd_create("hole")
    flags = mmap.MAP_SHARED | MAP_FIXED
    assert libc.mmap(start + hole * PAGE, PAGE, mmap.PROT_READ, flags, empty, 0) == start + hole * PAGE
    saved, memory = os.dup(rig.drive.fd), os.open("/proc/self/mem", os.O_RDONLY)
    rig.device._disk.no_fixed_file = 1
    rig.device._disk.offset = start
    os.dup2(memory, rig.drive.fd, inheritable=False)
    try:
        yield contents
    finally:
        os.dup2(saved, rig.drive.fd, inheritable=False)
        rig.device._disk.offset = 0
        os.close(saved)
        os.close(memory)
        os.close(empty)
        libc.munmap(start, pages * PAGE)


@pytest.mark.parametrize("hole", [0, 3, 7])
def test_read_error_hits_only_the_request_that_it_is_about(make: MakeRig, aio: str, hole: int) -> None:
    if aio == "native":
        pytest.skip("Linux AIO cannot read /proc/self/mem, which stands in for a disk with a bad block")
    rig = make()
    per_page = PAGE // 512
    with memory_with_a_hole(rig, 8, hole) as contents:
        requests = [read(rig, per_page * n, per_page) for n in range(8)]
        statuses = run(rig, requests)
    assert statuses == [IOERR if n == hole else OK for n in range(8)]
    assert merged(rig) == (7, 0)
    for n, request in enumerate(requests):
        if n != hole:
            assert rig.rings[0].data(request) == contents[n * PAGE : (n + 1) * PAGE]


def test_merged_reads_across_the_end_of_the_file_are_zeros_behind_it(make: MakeRig, image: Path) -> None:
    rig = make()
    os.truncate(image, 4096 * 2 + 512)
    requests = [read(rig, 8 * n) for n in range(4)]
    assert run(rig, requests) == [OK] * 4
    contents = sectors(0, 17) + bytes(4096 * 4 - 512 * 17)
    assert [rig.rings[0].data(request) for request in requests] == [contents[4096 * n :][:4096] for n in range(4)]


def test_merged_writes_with_the_cache_off_are_on_the_disk(make: MakeRig, image: Path) -> None:
    for no_dsync in (0, 1):
        rig = make(write_cache="off", config_wce="off")
        rig.device._disk.no_dsync = no_dsync
        assert run(rig, [write(rig, 8 * n, bytes([n + 1]) * 4096) for n in range(4)]) == [OK] * 4
        assert image.read_bytes()[: 4 * 4096] == b"".join(bytes([n + 1]) * 4096 for n in range(4))
        assert merged(rig) == (0, 3)
        rig.close()


#: consecutive pieces of the disk: sectors, whether it is written, cuts of its buffers
pieces = st.lists(
    st.tuples(st.integers(1, 24), st.booleans(), st.lists(st.integers(1, 700), max_size=7)), min_size=1, max_size=40
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(layout=pieces, seed=st.integers(0, 1 << 16), ioeventfd=st.booleans())
def test_any_layout_of_adjacent_requests_behaves_like_a_bytearray(
    image: Path, aio: str, layout: list[tuple[int, bool, list[int]]], seed: int, ioeventfd: bool
) -> None:
    disk = bytearray(sectors(0, SIZE // 512))
    image.write_bytes(disk)
    with BlkRig(image, drive=options_of(aio), features=VERSION_1 | INDIRECT, ioeventfd=ioeventfd, ring_size=256) as rig:
        order = random.Random(seed)
        offered, at = [], 0
        for count, is_write, cuts in layout:
            offered.append((at, count, is_write, cuts, order.randbytes(512 * count)))
            at += count
        order.shuffle(offered)
        requests = []
        for at, count, is_write, cuts, data in offered:
            if is_write:
                requests.append(write(rig, at, data, cut_out=[16, *cuts], indirect=True))
            else:
                requests.append(read(rig, at, count, cut_in=cuts, indirect=True))
        assert set(run(rig, requests)) == {OK}
        for (at, count, is_write, _, data), request in zip(offered, requests, strict=True):
            if is_write:
                disk[512 * at : 512 * (at + count)] = data
            else:
                assert rig.rings[0].data(request) == disk[512 * at : 512 * (at + count)]
    assert image.read_bytes() == bytes(disk)
