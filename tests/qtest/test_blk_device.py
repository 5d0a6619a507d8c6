# SPDX-License-Identifier: Apache-2.0
"""virtio-blk's properties, features and config space."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from blk_driver import IN, OK, OUT, VERSION_1, BlkRig

import qdevpy_virtio_blk._native as native
from qdevpy.errors import BackendError, DeviceError, PropertyError, RealizeError
from qdevpy_virtio_blk import config
from qdevpy_virtio_blk.device import VirtIOBlock
from qdevpy_virtio_blk.plugin import qdevpy_devices
from qdevpy_virtio_blk.vhost_user import VhostUserBlock

SIZE = 64 << 20
FLUSH, WCE = 1 << config.F_FLUSH, 1 << config.F_CONFIG_WCE

MakeRig = Callable[..., BlkRig]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.touch()
    os.truncate(path, SIZE)
    return path


@pytest.fixture
def make(image: Path) -> Iterator[MakeRig]:
    with ExitStack() as cleanup:

        def make(**options: Any) -> BlkRig:
            rig = BlkRig(image, **options)
            cleanup.callback(rig.close)
            return rig

        yield make


def offered(rig: BlkRig, number: int) -> bool:
    return bool(rig.device.host_features() >> number & 1)


def field(rig: BlkRig, layout: str, offset: int) -> int:
    return int(struct.unpack_from("<" + layout, rig.device.get_config(), offset)[0])


def test_plugin_offers_the_device() -> None:
    assert list(qdevpy_devices()) == [VirtIOBlock, VhostUserBlock]


# -- config space (5.2.4)


def test_config_space_of_a_plain_disk(make: MakeRig) -> None:
    expected = {
        ("Q", 0): SIZE // 512,  # capacity
        ("I", 8): 0,  # size_max
        ("I", 12): 254,  # seg_max
        ("H", 16): 130,  # cylinders
        ("B", 18): 16,
        ("B", 19): 63,
        ("I", 20): 512,  # blk_size
        ("B", 24): 0,
        ("H", 26): 0,
        ("I", 28): 0,
        ("H", 34): 1,  # num_queues
        ("I", 36): 4194303,
        ("I", 40): 1,
        ("I", 44): 1,
        ("I", 48): 4194303,
        ("I", 52): 1,
        ("B", 56): 0,
    }
    rig = make()
    assert {key: field(rig, *key) for key in expected} == expected
    assert len(rig.device.get_config()) == 60


def test_config_space_reports_topology(make: MakeRig) -> None:
    rig = make(logical_block_size="4K", physical_block_size="16K", min_io_size="64K", opt_io_size="1M", discard_granularity="32K")
    assert field(rig, "I", 20) == 4096
    assert field(rig, "B", 24) == 2
    assert field(rig, "H", 26) == 16
    assert field(rig, "I", 28) == 256
    assert field(rig, "I", 44) == 64


@pytest.mark.parametrize(
    ("properties", "layout", "offset", "expected"),
    [
        ({"num_queues": 3}, "H", 34, 3),
        ({"queue_size": 128}, "I", 12, 126),
        ({"queue_size": 512, "seg_max_adjust": "off"}, "I", 12, 126),
        ({"queue_size": 512}, "I", 12, 510),
        ({"max_discard_sectors": 77}, "I", 36, 77),
        ({"max_write_zeroes_sectors": 78}, "I", 48, 78),
        ({"cyls": 7, "heads": 8, "secs": 9}, "H", 16, 7),
        ({"drive": {"discard": "unmap"}}, "B", 56, 1),
    ],
)
def test_property_shows_in_the_config_space(
    make: MakeRig, properties: dict[str, Any], layout: str, offset: int, expected: int
) -> None:
    assert field(make(**properties), layout, offset) == expected


def test_geometry_is_clamped(make: MakeRig, image: Path) -> None:
    os.truncate(image, 1 << 40)
    assert field(make(), "H", 16) == 16383
    os.truncate(image, 512)
    assert field(make(share_rw="on", drive={"readonly": "on"}), "H", 16) == 2


def test_capacity_is_in_whole_blocks(make: MakeRig, image: Path) -> None:
    os.truncate(image, 4096 * 3 + 513)
    rig = make()
    assert field(rig, "Q", 0) == 26
    rig.close()
    assert field(make(logical_block_size="4K"), "Q", 0) == 24


# -- features (5.2.3)


def test_features_of_a_plain_disk(make: MakeRig) -> None:
    rig = make()
    on = {n for n in range(32) if offered(rig, n)}
    assert on == {2, 4, 6, 9, 10, 11, 13, 14, 24, 27, 28, 29}


@pytest.mark.parametrize(
    ("properties", "number", "expected"),
    [
        ({"drive": {"readonly": "on"}}, config.F_RO, True),
        ({"drive": {"readonly": "on"}}, config.F_DISCARD, False),
        ({"drive": {"readonly": "on"}}, config.F_WRITE_ZEROES, False),
        ({"discard": "off"}, config.F_DISCARD, False),
        ({"write_zeroes": "off"}, config.F_WRITE_ZEROES, False),
        ({"num_queues": 2}, config.F_MQ, True),
        ({"config_wce": "off"}, config.F_CONFIG_WCE, False),
        ({"config_wce": "off"}, config.F_FLUSH, True),
        ({"write_cache": "off"}, config.F_FLUSH, True),
        ({"write_cache": "off", "config_wce": "off"}, config.F_FLUSH, False),
        ({"event_idx": "off"}, 29, False),
    ],
)
def test_feature_follows_property(make: MakeRig, properties: dict[str, Any], number: int, expected: bool) -> None:
    assert offered(make(**properties), number) is expected


def test_queues_are_one_a_vcpu_unless_set(make: MakeRig, image: Path) -> None:
    rig = make()
    assert len(rig.device.queues) == 1
    assert rig.device.vectors_wanted == 2
    assert {queue.size_max for queue in rig.device.queues} == {256}


# -- write cache (5.2.5, 5.2.6.2)


@pytest.mark.parametrize(
    ("features", "write_cache", "writeback"),
    [
        (VERSION_1, "auto", 0),
        (VERSION_1 | FLUSH, "auto", 1),
        (VERSION_1 | FLUSH | WCE, "auto", 1),
        (VERSION_1 | FLUSH | WCE, "off", 0),
        (0, "on", 0),
        (FLUSH, "on", 1),
    ],
)
def test_write_cache_follows_what_the_driver_can_do(make: MakeRig, features: int, write_cache: str, writeback: int) -> None:
    rig = make(features=features, write_cache=write_cache)
    assert field(rig, "B", 32) == writeback
    assert rig.device._disk.write_through == 1 - writeback


def test_driver_switches_the_write_cache_until_reset(make: MakeRig) -> None:
    rig = make(features=VERSION_1 | FLUSH | WCE)
    rig.device.set_config(32, b"\0")
    assert field(rig, "B", 32) == 0
    assert rig.run(OUT, 0, bytes(512))[0] == OK
    rig.stop()
    rig.device.reset()
    assert field(rig, "B", 32) == 1


@pytest.mark.parametrize(("features", "offset"), [(VERSION_1 | FLUSH, 32), (VERSION_1 | FLUSH | WCE, 31)])
def test_other_config_writes_are_ignored(make: MakeRig, features: int, offset: int) -> None:
    rig = make(features=features)
    before = rig.device.get_config()
    rig.device.set_config(offset, b"\0")
    rig.device.set_config(0, b"\0" * 32)
    assert rig.device.get_config() == before


def test_config_write_across_writeback_counts(make: MakeRig) -> None:
    rig = make(features=VERSION_1 | FLUSH | WCE)
    rig.device.set_config(30, b"\1\1\0\1")
    assert field(rig, "B", 32) == 0


# -- resize


def test_resize_tells_the_driver_and_takes_effect(make: MakeRig, image: Path) -> None:
    rig = make()
    assert rig.run(IN, SIZE // 512, read=512)[0] != OK
    rig.drive.resize(2 * SIZE)
    assert image.stat().st_size == 2 * SIZE
    assert rig.config_changes == 1
    assert field(rig, "Q", 0) == 2 * SIZE // 512
    assert rig.run(IN, SIZE // 512, read=512) == (OK, bytes(512))


# -- counters


def test_statistics_count_by_operation(make: MakeRig) -> None:
    rig = make(features=VERSION_1 | FLUSH)
    rig.run(OUT, 0, bytes(1024))
    rig.run(IN, 0, read=512)
    rig.run(IN, 1, read=512)
    rig.run(4)
    counts = {name: (c["requests"], c["bytes"], c["errors"]) for name, c in rig.device.statistics().items()}
    assert counts == {
        "read": (2, 1024, 0),
        "write": (1, 1024, 0),
        "flush": (1, 0, 0),
        "discard": (0, 0, 0),
        "write-zeroes": (0, 0, 0),
    }


def test_statistics_of_an_unrealized_device_are_empty() -> None:
    assert VirtIOBlock().statistics() == {}


# -- what cannot be realized


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({"serial": "x" * 21}, "longer than 20 bytes"),
        ({"queue_size": 100}, "queue-size 100 is not a power of two"),
        ({"logical_block_size": 1000}, "'logical_block_size': '1000': expected a power of two from 512 to 2M"),
        ({"logical_block_size": 256}, "'logical_block_size': '256': expected a power of two"),
        ({"physical_block_size": "4M"}, "'physical_block_size': '4M': expected a power of two"),
        ({"logical_block_size": 4096, "physical_block_size": 512}, "physical_block_size 512 is less than logical_block_size"),
        ({"logical_block_size": 4096, "min_io_size": 512}, "min_io_size 512: expected a multiple of logical_block_size 4096"),
        ({"min_io_size": 65536 * 512}, "min_io_size 33554432: expected .* at most 33553920"),
        ({"opt_io_size": 100}, "opt_io_size 100: expected a multiple"),
        ({"discard_granularity": 100}, "discard_granularity 100: expected a multiple"),
    ],
)
def test_property_that_does_not_fit_is_named(image: Path, properties: dict[str, Any], message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        BlkRig(image, **properties)


@pytest.mark.parametrize(("name", "value"), [("num-queues", 0), ("queue-size", 2048), ("max-discard-sectors", 1 << 30)])
def test_property_out_of_range_is_refused(name: str, value: int) -> None:
    with pytest.raises(PropertyError, match="out of range"):
        VirtIOBlock().set_property(name, value)


def test_realize_without_a_drive_says_so() -> None:
    with pytest.raises(RealizeError, match=r"disk0 .*: drive is not set; write drive: and the name of an entry of drives:"):
        VirtIOBlock(id="disk0")._checked_drive()


def test_direct_io_with_smaller_blocks_says_what_to_set(make: MakeRig) -> None:
    rig = make()
    rig.drive.request_alignment = 4096
    with pytest.raises(RealizeError, match=r"set logical_block_size=4096, or cache: \{direct: off\} on the drive"):
        rig.device._check_sizes(rig.drive)


@pytest.mark.parametrize(
    ("aio", "number", "message"),
    [
        ("io_uring", errno.ENOSYS, "liburing-dev was missing"),
        ("io_uring", errno.EPERM, r"refuses io_uring \(Operation not permitted: sysctl kernel.io_uring_disabled=0\)"),
        ("native", errno.EAGAIN, r"refuses Linux AIO \(Resource temporarily unavailable: .* raise sysctl fs.aio-max-nr\)"),
        ("native", errno.ENOSYS, r"refuses Linux AIO \(Function not implemented\)"),
    ],
)
def test_engine_that_is_not_there_says_what_to_use(make: MakeRig, aio: str, number: int, message: str) -> None:
    rig = make()
    rig.drive.aio = aio
    rig.device._native = SimpleNamespace(lib=SimpleNamespace(blk_probe=lambda engine: -number))
    try:
        with pytest.raises(RealizeError, match=f"drive 'root': aio: {aio}: .*{message}.*; use aio: threads"):
            rig.device._check_engine(rig.drive)
    finally:
        rig.device._native = native


def test_image_in_use_by_another_device_is_refused_and_nothing_is_left(make: MakeRig, image: Path) -> None:
    first = make()
    with pytest.raises(BackendError, match="has it open"):
        BlkRig(image)
    first.close()
    assert make().run(IN, 0, read=512)[0] == OK


def test_share_rw_on_both_devices_is_allowed(make: MakeRig) -> None:
    first, second = make(share_rw="on"), make(share_rw="on")
    assert first.run(OUT, 5, b"\x55" * 512)[0] == OK
    assert second.run(IN, 5, read=512) == (OK, b"\x55" * 512)


def test_requests_in_flight_are_those_of_sound_queues_that_are_served(make: MakeRig) -> None:
    rig = make()
    rig.driver_ok(VERSION_1)
    ring = rig.device.queues[0].pointer.ring
    assert rig.device.requests_in_flight == 0
    ring.inflight = 3
    assert rig.device.requests_in_flight == 3
    ring.inflight = 0
    rig.stop()
    assert rig.device.requests_in_flight == 0
