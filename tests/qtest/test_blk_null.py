# SPDX-License-Identifier: Apache-2.0
"""Disks without contents (null-co), and disks that are a part of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from blk_driver import DISCARD, FLUSH, IN, IOERR, OK, OUT, VERSION_1, WRITE_ZEROES, BlkRig

from qdevpy.errors import BackendError
from qdevpy_virtio_blk import config

RANGES = 1 << config.F_DISCARD | 1 << config.F_WRITE_ZEROES
PATTERN = bytes(range(256)) * 2
RANGE = bytes(8) + (8).to_bytes(4, "little") + bytes(4)

MakeRig = Callable[..., BlkRig]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(b"".join(bytes([i]) * 512 for i in range(64)))
    return path


@pytest.fixture
def make(image: Path) -> Iterator[MakeRig]:
    with ExitStack() as cleanup:

        def make(features: int = 0, **drive: Any) -> BlkRig:
            options = {name.replace("_", "-"): value for name, value in drive.items()}
            rig = BlkRig(image, drive=options, features=VERSION_1 | features)
            cleanup.callback(rig.close)
            return rig

        yield make


@pytest.mark.parametrize("spelling", [{"file": "null-co://"}, {"driver": "null-co"}, {"driver": "null-aio"}])
def test_null_disk_is_a_gigabyte_without_contents(make: MakeRig, spelling: dict[str, str]) -> None:
    rig = make(**spelling)

    assert int.from_bytes(rig.device.get_config()[:8], "little") == (1 << 30) // 512
    assert rig.run(OUT, 0, PATTERN) == (OK, b"")
    assert rig.run(IN, 0, read=512) == (OK, b"\xee" * 512)


def test_null_disk_with_read_zeroes_reads_zeros(make: MakeRig) -> None:
    rig = make(driver="null-co", read_zeroes="on", aio="io_uring")
    assert rig.run(IN, (1 << 21) - 2, read=1024, cut_in=[100, 412]) == (OK, bytes(1024))


def test_null_disk_has_the_size_that_is_given(make: MakeRig) -> None:
    rig = make(driver="null-co", size="1M")
    assert rig.run(IN, 2047, read=512)[0] == OK
    assert rig.run(IN, 2048, read=512)[0] == IOERR


@pytest.mark.parametrize(("kind", "data"), [(FLUSH, b""), (DISCARD, RANGE), (WRITE_ZEROES, RANGE)])
def test_null_disk_takes_every_request(make: MakeRig, kind: int, data: bytes) -> None:
    assert make(RANGES, driver="null-co").run(kind, 0, data)[0] == OK


def test_null_disk_with_the_cache_off_still_completes(make: MakeRig) -> None:
    rig = make(driver="null-co")
    rig.device._set_writeback(False)
    assert rig.run(OUT, 0, PATTERN)[0] == OK


def test_null_disk_cannot_be_resized(make: MakeRig) -> None:
    with pytest.raises(BackendError, match="Image format driver does not support resize"):
        make(driver="null-co").drive.resize(1 << 20)


def test_offset_and_size_make_a_disk_of_a_part_of_the_file(make: MakeRig, image: Path) -> None:
    rig = make(offset="4096", size="1024")

    assert rig.run(IN, 1, read=512) == (OK, bytes([9]) * 512)
    assert rig.run(IN, 2, read=512)[0] == IOERR
    assert rig.run(OUT, 0, PATTERN)[0] == OK
    assert image.read_bytes()[4096:4608] == PATTERN


def test_write_zeroes_with_an_offset_stays_in_its_part(make: MakeRig, image: Path) -> None:
    rig = make(RANGES, offset="4096")
    assert rig.run(WRITE_ZEROES, 0, RANGE)[0] == OK
    assert image.read_bytes()[3584:8704] == bytes([7]) * 512 + bytes(4096) + bytes([16]) * 512
