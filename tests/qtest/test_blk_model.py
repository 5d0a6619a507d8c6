# SPDX-License-Identifier: Apache-2.0
"""virtio-blk against a plain model of a disk, and against drivers that write anything at all into their rings."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path

import attrs
import pytest
from blk_driver import (
    BUFFERS,
    DISCARD,
    ENGINES,
    EVENT_IDX,
    FLUSH,
    GET_ID,
    IN,
    INDIRECT,
    IOERR,
    OK,
    OUT,
    RAM,
    UNSUPP,
    VERSION_1,
    WRITE_ZEROES,
    BlkRig,
    options_of,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qdevpy_virtio_blk import config

SECTORS = 256
REGION = 32  #: sectors; requests in flight together stay in regions of their own
RANGES = 1 << config.F_DISCARD | 1 << config.F_WRITE_ZEROES | 1 << config.F_FLUSH

#: one process's descriptors and threads are shared by all examples, hence no deadline
modest = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@attrs.frozen
class Action:
    """One request: SECTOR is relative to its region; PLACE moves it elsewhere altogether."""

    kind: int
    sector: int
    length: int
    fill: int
    place: int
    flags: int
    cut_out: list[int]
    cut_in: list[int]
    indirect: bool

    def expect(self, disk: bytearray, region: int) -> tuple[int, bytes]:
        """Status and data, on a disk that is a bytearray."""
        start = self.start(region)
        count = self.length // 512
        inside = start + count <= SECTORS
        if self.kind == IN:
            if self.length % 512 or not inside:
                return IOERR, b"\xee" * self.length
            return OK, bytes(disk[start * 512 : (start + count) * 512])
        if self.kind == OUT:
            if self.length % 512 or not inside:
                return IOERR, b""
            disk[start * 512 : (start + count) * 512] = self.payload
            return OK, b""
        if self.kind in (DISCARD, WRITE_ZEROES):
            if self.flags & ~(1 if self.kind == WRITE_ZEROES else 0):
                return UNSUPP, b""
            if not inside:
                return IOERR, b""
            disk[start * 512 : (start + count) * 512] = bytes(512 * count)
            return OK, b""
        return (OK if self.kind in (FLUSH, GET_ID) else UNSUPP), b""

    def start(self, region: int) -> int:
        """First sector."""
        return self.place or region * REGION + self.sector

    @property
    def payload(self) -> bytes:
        """What OUT writes."""
        return bytes([self.fill]) * self.length

    def data(self, region: int) -> bytes:
        """The readable part behind the header."""
        if self.kind in (DISCARD, WRITE_ZEROES):
            return struct.pack("<QII", self.start(region), self.length // 512, self.flags)
        return self.payload if self.kind == OUT else b""


cuts = st.lists(st.integers(1, 600), max_size=6)
places = st.one_of(st.just(0), st.sampled_from([SECTORS, SECTORS - 1, 1 << 32, 1 << 55, (1 << 64) - 1]))
actions = st.builds(
    Action,
    kind=st.sampled_from([IN, IN, OUT, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES, 3, 99]),
    sector=st.integers(0, 15),
    length=st.one_of(st.integers(0, 16).map(lambda n: n * 512), st.integers(0, 8192)),
    fill=st.integers(0, 255),
    place=places,
    flags=st.sampled_from([0, 0, 1, 2]),
    cut_out=cuts,
    cut_in=cuts,
    indirect=st.booleans(),
)
batches = st.lists(st.lists(actions, min_size=1, max_size=6), min_size=1, max_size=6)


def beside_each_other(batch: Sequence[Action]) -> bool:
    """Only one request of a batch may write at the very end of the disk."""
    return sum(action.place == SECTORS - 1 for action in batch) <= 1


@pytest.mark.parametrize("ioeventfd", [True, False])
@pytest.mark.parametrize("aio", ENGINES)
@given(batches=batches.map(lambda given: [b for b in given if beside_each_other(b)]), features=st.sampled_from([0, EVENT_IDX]))
@modest
def test_disk_behaves_like_a_bytearray(aio: str, ioeventfd: bool, batches: list[list[Action]], features: int) -> None:
    disk = bytearray(os.urandom(SECTORS * 512))
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "disk.img"
        image.write_bytes(disk)
        features |= VERSION_1 | INDIRECT | RANGES
        drive = options_of(aio) | {"discard": "unmap"}
        with BlkRig(image, features=features, ioeventfd=ioeventfd, num_queues=2, ring_size=128, drive=drive) as rig:
            for batch in batches:
                run_batch(rig, batch, disk)
        assert image.read_bytes() == bytes(disk)


def run_batch(rig: BlkRig, batch: Sequence[Action], disk: bytearray) -> None:
    """All requests of BATCH at once, over both queues; compare with the model."""
    expected = []
    for region, action in enumerate(batch):
        ring = rig.rings[region % 2]
        request = ring.submit(
            action.kind,
            action.start(region),
            action.data(region),
            action.length if action.kind == IN else 0,
            cut_out=action.cut_out,
            cut_in=action.cut_in,
            indirect=action.indirect,
        )
        expected.append((ring, request, action.expect(disk, region)))
    for ring in rig.rings:
        ring.kick()
    for ring in rig.rings:
        ring.finish(sum(other is ring for other, _, _ in expected))
    for ring, request, (status, data) in expected:
        assert (ring.status(request), ring.data(request)) == (status, data)


# -- anything at all

SIZE = 8
addresses = st.one_of(
    st.integers(BUFFERS, BUFFERS + 4096),
    st.sampled_from([0, 0x1000, 0x1080, RAM - 1, RAM - 512, RAM, 1 << 40, (1 << 64) - 1]),
)
lengths = st.one_of(st.sampled_from([0, 1, 15, 16, 17, 32, 512, 513, 4096, RAM, (1 << 32) - 1]), st.integers(0, 2048))
descriptors = st.tuples(addresses, lengths, st.integers(0, 7), st.integers(0, SIZE))
headers = st.tuples(
    st.sampled_from([0, 1, 4, 8, 11, 13, 77]), st.just(0), st.one_of(st.integers(0, 300), st.integers(0, (1 << 64) - 1))
)


@pytest.mark.parametrize("ioeventfd", [True, False])
@pytest.mark.parametrize("aio", ENGINES)
@given(
    table=st.lists(descriptors, min_size=SIZE, max_size=SIZE),
    header=headers,
    heads=st.lists(st.integers(0, SIZE), min_size=SIZE, max_size=SIZE),
    idx=st.integers(0, SIZE + 1),
    features=st.sampled_from([0, VERSION_1, VERSION_1 | INDIRECT | EVENT_IDX | RANGES]),
)
@modest
def test_any_ring_contents_leave_the_device_resettable(
    aio: str,
    ioeventfd: bool,
    table: list[tuple[int, int, int, int]],
    header: tuple[int, int, int],
    heads: list[int],
    idx: int,
    features: int,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "disk.img"
        image.write_bytes(bytes(SECTORS * 512))
        drive = options_of(aio) | {"discard": "unmap"}
        with BlkRig(image, features=features, ioeventfd=ioeventfd, ring_size=SIZE, drive=drive) as rig:
            ring = rig.rings[0]
            rig.memory.write(BUFFERS, struct.pack("<IIQ", *header) * 16)
            rig.memory.write(ring.desc, b"".join(struct.pack("<QIHH", *entry) for entry in table))
            rig.memory.write(ring.avail, struct.pack("<10H", 0, idx, *heads))
            ring.kick()
            rig.restart()  # waits for the kick and whatever it began
            assert rig.run(IN, 0, read=512)[0] == OK
        assert image.stat().st_size == SECTORS * 512
