# SPDX-License-Identifier: Apache-2.0
"""Requests of virtio-blk, with both engines, through the I/O thread and on the kicking thread."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from blk_driver import (
    DISCARD,
    DISKS,
    EVENT_IDX,
    FLUSH,
    FLUSH_OUT,
    GET_ID,
    IN,
    INDIRECT,
    IOERR,
    OK,
    OUT,
    UNSUPP,
    VERSION_1,
    WRITE_ZEROES,
    BlkRig,
    image_of,
    options_of,
)

from qdevpy_virtio_blk import config

SIZE = 1 << 20
PATTERN = bytes(range(256)) * 2
RANGES = 1 << config.F_DISCARD | 1 << config.F_WRITE_ZEROES

MakeRig = Callable[..., BlkRig]


@pytest.fixture(params=DISKS)
def aio(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def image(tmp_path: Path, aio: str) -> Iterator[Path]:
    with image_of(aio, tmp_path) as path:
        path.write_bytes(b"".join(bytes([i % 251]) * 512 for i in range(SIZE // 512)))
        yield path


@pytest.fixture(params=["ioeventfd", "synchronous"])
def make(request: pytest.FixtureRequest, image: Path, aio: str) -> Iterator[MakeRig]:
    with ExitStack() as cleanup:

        def make(**options: Any) -> BlkRig:
            options["drive"] = options_of(aio) | options.get("drive", {})
            rig = BlkRig(image, **({"ioeventfd": request.param == "ioeventfd"} | options))
            cleanup.callback(rig.close)
            return rig

        yield make


def ranges(sector: int, sectors: int, flags: int = 0) -> bytes:
    return sector.to_bytes(8, "little") + sectors.to_bytes(4, "little") + flags.to_bytes(4, "little")


def test_read_returns_the_sectors(make: MakeRig) -> None:
    assert make().run(IN, 7, read=1024) == (OK, bytes([7]) * 512 + bytes([8]) * 512)


def test_write_reaches_the_image(make: MakeRig, image: Path) -> None:
    assert make().run(OUT, 3, PATTERN)[0] == OK
    data = image.read_bytes()
    assert data[3 * 512 : 4 * 512] == PATTERN
    assert data[2 * 512 : 3 * 512] == bytes([2]) * 512
    assert data[4 * 512 : 5 * 512] == bytes([4]) * 512


def test_flush_succeeds(make: MakeRig) -> None:
    assert make().run(FLUSH) == (OK, b"")


def test_used_length_is_the_writable_part(make: MakeRig) -> None:
    ring = make().rings[0]
    ring.submit(IN, 0, read=512)
    ring.kick()
    (request,) = ring.finish(1)
    assert request.written == 513


def test_get_id_returns_the_serial_padded_with_zeros(make: MakeRig) -> None:
    assert make(serial="root0").run(GET_ID, read=20) == (OK, b"root0" + bytes(15))


def test_get_id_of_twenty_bytes_has_no_terminator(make: MakeRig) -> None:
    assert make(serial="x" * 20).run(GET_ID, read=20) == (OK, b"x" * 20)


@pytest.mark.parametrize(("room", "expected"), [(4, b"root"), (24, b"root0" + bytes(15) + b"\xee" * 4), (0, b"")])
def test_get_id_writes_what_fits(make: MakeRig, room: int, expected: bytes) -> None:
    assert make(serial="root0").run(GET_ID, read=room) == (OK, expected)


@pytest.mark.parametrize("kind", [2, 3, 9, 10, 12, 14, 0x80000000, 0xFFFFFFFF])
def test_unknown_type_is_unsupported(make: MakeRig, kind: int) -> None:
    rig = make()
    assert rig.run(kind, 0, PATTERN)[0] == UNSUPP
    assert rig.device.broken is None


@pytest.mark.parametrize(("features", "expected"), [(0, OK), (VERSION_1, UNSUPP)])
def test_flush_out_is_for_legacy_drivers(make: MakeRig, features: int, expected: int) -> None:
    assert make(features=features).run(FLUSH_OUT)[0] == expected


@pytest.mark.parametrize(
    ("cut_out", "cut_in"),
    [
        pytest.param([528], [513], id="one buffer each"),
        pytest.param([1, 2, 3, 4, 5], [1, 2, 3], id="header in pieces"),
        pytest.param([15, 2], [512], id="header runs into data"),
        pytest.param([16, 100, 412], [100, 412], id="data in pieces"),
        pytest.param([16] + [1] * 20, [1] * 20, id="bytes"),
    ],
)
@pytest.mark.parametrize("indirect", [False, True])
def test_any_layout_is_taken(make: MakeRig, cut_out: list[int], cut_in: list[int], indirect: bool) -> None:
    rig = make(features=VERSION_1 | INDIRECT)
    assert rig.run(OUT, 9, PATTERN, cut_out=cut_out, indirect=indirect)[0] == OK
    assert rig.run(IN, 9, read=512, cut_out=cut_out, cut_in=cut_in, indirect=indirect) == (OK, PATTERN)


def test_long_chain_through_an_indirect_table_is_read(make: MakeRig) -> None:
    rig = make(features=VERSION_1 | INDIRECT)
    status, data = rig.run(IN, 0, read=512 * 254, cut_in=[512] * 254, indirect=True)
    assert status == OK
    assert data == b"".join(bytes([i % 251]) * 512 for i in range(254))


def test_chain_of_1024_buffers_is_written(make: MakeRig, image: Path) -> None:
    rig = make(features=VERSION_1 | INDIRECT)
    data = os.urandom(512 * 1022)
    assert rig.run(OUT, 0, data, cut_out=[16] + [512] * 1022, indirect=True)[0] == OK
    assert image.read_bytes()[: len(data)] == data


@pytest.mark.parametrize("kind", [IN, OUT])
@pytest.mark.parametrize(
    ("sector", "length"),
    [
        pytest.param(SIZE // 512, 512, id="first beyond"),
        pytest.param(SIZE // 512 - 1, 1024, id="across the end"),
        pytest.param((1 << 64) - 1, 512, id="largest"),
        pytest.param(1 << 55, 512, id="times 512 is zero"),
        pytest.param(0, 511, id="less than a sector"),
        pytest.param(0, 513, id="more than a sector"),
    ],
)
def test_range_outside_the_disk_is_an_io_error(make: MakeRig, image: Path, kind: int, sector: int, length: int) -> None:
    before = image.read_bytes()
    rig = make()
    status, data = rig.run(kind, sector, b"x" * length) if kind == OUT else rig.run(kind, sector, read=length)
    assert status == IOERR
    assert set(data) <= {0xEE}
    assert image.read_bytes() == before
    assert rig.device.broken is None


@pytest.mark.parametrize("kind", [IN, OUT])
def test_transfer_of_nothing_succeeds_inside_the_disk(make: MakeRig, kind: int) -> None:
    rig = make()
    assert rig.run(kind, SIZE // 512)[0] == OK
    assert rig.run(kind, SIZE // 512 + 1)[0] == IOERR


def test_requests_are_whole_logical_blocks(make: MakeRig) -> None:
    rig = make(logical_block_size="4K", physical_block_size="4K")
    assert rig.run(IN, 8, read=4096)[0] == OK
    assert rig.run(IN, 4, read=4096)[0] == IOERR
    assert rig.run(IN, 8, read=512)[0] == IOERR
    assert rig.run(OUT, 8, PATTERN)[0] == IOERR


def test_readonly_drive_reads_and_refuses_the_rest(make: MakeRig, image: Path) -> None:
    before = image.read_bytes()
    rig = make(drive={"readonly": "on", "discard": "unmap"}, features=VERSION_1 | RANGES)
    assert rig.run(IN, 1, read=512) == (OK, bytes([1]) * 512)
    assert rig.run(OUT, 1, PATTERN)[0] == IOERR
    assert rig.run(DISCARD, data=ranges(0, 8))[0] == IOERR
    assert rig.run(WRITE_ZEROES, data=ranges(0, 8))[0] == IOERR
    assert rig.run(FLUSH)[0] == OK
    assert image.read_bytes() == before


# -- discard and write-zeroes


def test_write_zeroes_zeroes_the_range_and_nothing_else(make: MakeRig, image: Path) -> None:
    before = image.read_bytes()
    rig = make(features=VERSION_1 | RANGES)
    assert rig.run(WRITE_ZEROES, data=ranges(5, 20))[0] == OK
    assert image.read_bytes() == before[: 5 * 512] + bytes(20 * 512) + before[25 * 512 :]


@pytest.mark.parametrize("unsupported", [["no_zero_range"], ["no_punch"], ["no_zero_range", "no_punch"]])
@pytest.mark.parametrize("flags", [0, 1])
def test_write_zeroes_has_a_way_on_every_file_system(make: MakeRig, image: Path, unsupported: list[str], flags: int) -> None:
    before = image.read_bytes()
    rig = make(features=VERSION_1 | RANGES, drive={"discard": "unmap"}, write_cache="off", config_wce="off")
    for word in unsupported:
        setattr(rig.device._disk, word, 1)
    # more than one step's 1 MiB would be, were the image larger: odd places instead
    assert rig.run(WRITE_ZEROES, data=ranges(1, 2046, flags))[0] == OK
    assert image.read_bytes() == before[:512] + bytes(2046 * 512) + before[2047 * 512 :]


def test_write_zeroes_in_several_steps(make: MakeRig, image: Path) -> None:
    os.truncate(image, 5 << 20)
    with image.open("r+b") as file:
        file.write(b"\xff" * (5 << 20))
    rig = make(features=VERSION_1 | RANGES)
    rig.device._disk.no_zero_range = 1
    assert rig.run(WRITE_ZEROES, data=ranges(1, (5 << 11) - 2))[0] == OK
    assert image.read_bytes() == b"\xff" * 512 + bytes((5 << 20) - 1024) + b"\xff" * 512


def test_write_zeroes_with_unmap_makes_a_hole(make: MakeRig, image: Path) -> None:
    rig = make(features=VERSION_1 | RANGES, drive={"discard": "unmap"})
    assert rig.run(WRITE_ZEROES, data=ranges(0, SIZE // 512, 1))[0] == OK
    assert image.read_bytes() == bytes(SIZE)
    assert image.stat().st_blocks == 0


def test_write_zeroes_with_unmap_keeps_blocks_where_the_drive_ignores_discard(make: MakeRig, image: Path) -> None:
    rig = make(features=VERSION_1 | RANGES)
    assert rig.run(WRITE_ZEROES, data=ranges(0, SIZE // 512, 1))[0] == OK
    assert image.read_bytes() == bytes(SIZE)
    assert image.stat().st_blocks * 512 >= SIZE


@pytest.mark.parametrize("write_cache", ["on", "off"])
def test_discard_frees_blocks_where_the_drive_unmaps(make: MakeRig, image: Path, write_cache: str) -> None:
    rig = make(features=VERSION_1 | RANGES, drive={"discard": "unmap"}, write_cache=write_cache)
    assert rig.run(DISCARD, data=ranges(0, SIZE // 512))[0] == OK
    assert image.stat().st_blocks == 0
    assert image.stat().st_size == SIZE


def test_discard_does_nothing_where_the_drive_ignores_it(make: MakeRig, image: Path) -> None:
    before = image.read_bytes()
    assert make(features=VERSION_1 | RANGES).run(DISCARD, data=ranges(0, 100))[0] == OK
    assert image.read_bytes() == before


def test_discard_of_a_file_system_without_holes_succeeds(make: MakeRig) -> None:
    rig = make(features=VERSION_1 | RANGES, drive={"discard": "unmap"})
    rig.device._disk.no_punch = 1
    assert rig.run(DISCARD, data=ranges(0, 100))[0] == OK


@pytest.mark.parametrize("kind", [DISCARD, WRITE_ZEROES])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(ranges(0, 0), OK, id="nothing"),
        pytest.param(ranges(SIZE // 512 - 1, 2), IOERR, id="across the end"),
        pytest.param(ranges((1 << 64) - 1, 2), IOERR, id="wraps"),
        pytest.param(ranges(0, 65), IOERR, id="more than the maximum"),
        pytest.param(ranges(0, 64), OK, id="the maximum"),
        pytest.param(ranges(0, 8, 2), UNSUPP, id="unknown flag"),
        pytest.param(ranges(0, 8) * 2, UNSUPP, id="two segments"),
        pytest.param(ranges(0, 8)[:15], IOERR, id="short segment"),
        pytest.param(b"", IOERR, id="no segment"),
    ],
)
def test_range_requests_are_checked(make: MakeRig, kind: int, data: bytes, expected: int) -> None:
    rig = make(features=VERSION_1 | RANGES, max_discard_sectors=64, max_write_zeroes_sectors=64)
    assert rig.run(kind, data=data)[0] == expected
    assert rig.device.broken is None


def test_unmap_flag_of_discard_is_unsupported(make: MakeRig) -> None:
    rig = make(features=VERSION_1 | RANGES)
    assert rig.run(DISCARD, data=ranges(0, 8, 1))[0] == UNSUPP
    assert rig.run(WRITE_ZEROES, data=ranges(0, 8, 1))[0] == OK


@pytest.mark.parametrize("kind", [DISCARD, WRITE_ZEROES])
def test_range_request_without_its_feature_is_unsupported(make: MakeRig, kind: int) -> None:
    assert make(features=VERSION_1).run(kind, data=ranges(0, 8))[0] == UNSUPP


# -- the end of the file


def test_incomplete_last_sector_reads_as_zeros_behind_the_end(make: MakeRig, image: Path) -> None:
    image.write_bytes(b"a" * 512 + b"b" * 100)
    rig = make()
    assert rig.device._disk.sectors == 2
    assert rig.run(IN, 0, read=1024, cut_in=[600, 10]) == (OK, b"a" * 512 + b"b" * 100 + bytes(412))


def test_image_that_shrank_reads_as_zeros(make: MakeRig, image: Path) -> None:
    rig = make()
    os.truncate(image, 512)
    assert rig.run(IN, 0, read=2048) == (OK, bytes(2048))
    assert rig.run(IN, 100, read=512) == (OK, bytes(512))


# -- O_DIRECT


@pytest.mark.parametrize(("align", "shift"), [(4096, 0), (512, 0), (512, 3), (1, 0)])
def test_direct_takes_any_buffer(make: MakeRig, image: Path, align: int, shift: int) -> None:
    data = os.urandom(300 << 10)  # more than two bounce buffers
    rig = make(drive={"cache.direct": "on"}, logical_block_size="4K")
    options: dict[str, Any] = {"align": align, "shift": shift}
    assert rig.run(OUT, 8, data, **options)[0] == OK
    assert image.read_bytes()[4096 : 4096 + len(data)] == data
    assert rig.run(IN, 8, read=len(data), cut_in=[1000, 5000], **options) == (OK, data)


@pytest.mark.parametrize("shift", [0, 8])
def test_direct_read_across_the_end_of_the_file(make: MakeRig, image: Path, shift: int) -> None:
    image.write_bytes(b"a" * 8192 + b"b" * 100)
    rig = make(drive={"cache.direct": "on"})
    status, data = rig.run(IN, 8, read=4608, align=4096, shift=shift)
    assert (status, data) == (OK, b"a" * 4096 + b"b" * 100 + bytes(412))


# -- write cache


def test_write_through_writes_are_on_the_disk(make: MakeRig, image: Path) -> None:
    rig = make(write_cache="off", config_wce="off")
    assert rig.device._disk.write_through == 1
    assert rig.run(OUT, 3, PATTERN)[0] == OK
    assert image.read_bytes()[3 * 512 : 4 * 512] == PATTERN


# -- many at a time


@pytest.mark.parametrize("features", [VERSION_1, VERSION_1 | EVENT_IDX, EVENT_IDX, 0])
def test_many_rounds_of_full_rings_complete(make: MakeRig, features: int) -> None:
    rig = make(features=features, ring_size=16)
    ring = rig.rings[0]
    for _ in range(20):
        for sector in range(5):
            ring.submit(IN, sector, read=512)
        ring.kick()
        done = ring.finish(5)
        assert sorted(ring.data(request) for request in done) == [bytes([i]) * 512 for i in range(5)]
    assert os.eventfd_read(ring.irq) >= 1
    assert ring.queue.counters()["requests"] == 100


def test_queues_work_beside_each_other(make: MakeRig) -> None:
    rig = make(num_queues=4)
    for number, ring in enumerate(rig.rings):
        for i in range(8):
            ring.submit(OUT, 8 * number + i, bytes([number]) * 512)
    for ring in rig.rings:
        ring.kick()
    for ring in rig.rings:
        assert {ring.status(request) for request in ring.finish(8)} == {OK}
    for number in range(4):
        assert rig.run(IN, 8 * number, read=4096) == (OK, bytes([number]) * 4096)
