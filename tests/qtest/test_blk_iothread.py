# SPDX-License-Identifier: Apache-2.0
"""virtio-blk on an I/O thread that polls, and on one whose batches are bounded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from blk_driver import DISKS, EVENT_IDX, FLUSH, IN, OK, OUT, VERSION_1, BlkRig, image_of, options_of

from qdevpy.native.iothread import Polling

SIZE = 4 << 20


@pytest.fixture(params=DISKS)
def aio(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def rig(tmp_path: Path, aio: str) -> Iterator[BlkRig]:
    with ExitStack() as cleanup:
        image = cleanup.enter_context(image_of(aio, tmp_path))
        image.write_bytes(bytes(SIZE))
        yield cleanup.enter_context(BlkRig(image, drive=options_of(aio), features=VERSION_1 | EVENT_IDX, ring_size=128))


def write_and_read_back(rig: BlkRig, rounds: int) -> None:
    """Rounds of 24 writes, a flush that an engine has to wait for, and as many reads; scattered, so each is a step."""
    ring = rig.rings[0]
    for number in range(rounds):
        data = [os.urandom(4096) for _ in range(24)]
        writes = [ring.submit(OUT, 24 * n, data[n], align=512, shift=512 - 16) for n in range(24)]
        ring.kick()
        ring.finish(24)
        flush = ring.submit(FLUSH)
        ring.kick()
        ring.finish(1)
        reads = [ring.submit(IN, 24 * n, read=4096, align=512) for n in range(24)]
        ring.kick()
        ring.finish(24)
        assert {ring.status(request) for request in (*writes, flush, *reads)} == {OK}, number
        assert [ring.data(request) for request in reads] == data


def test_completions_are_found_by_a_thread_that_polls(rig: BlkRig) -> None:
    rig.iothread.set_polling(Polling(max_ns=1_000_000_000))
    write_and_read_back(rig, 20)
    rig.stop()  # what is in flight is waited for, though nobody rings meanwhile
    rig.iothread.set_polling(Polling(max_ns=0))
    for ring in rig.rings:
        ring.start()
    write_and_read_back(rig, 5)


def test_queue_that_stops_while_it_is_polled_drains(rig: BlkRig) -> None:
    rig.iothread.set_polling(Polling(max_ns=1_000_000_000))
    for _ in range(20):
        ring = rig.rings[0]
        requests = [ring.submit(OUT, 256 * n, bytes(100 << 10), align=512, shift=512 - 16) for n in range(16)]
        ring.kick()
        rig.stop()
        assert {ring.status(request) for request in requests} == {OK}
        rig.restart()


@pytest.mark.parametrize("batch", [1, 2, 1 << 40])
def test_bounded_batches_serve_all(rig: BlkRig, batch: int) -> None:
    rig.iothread.set_max_batch(batch)
    write_and_read_back(rig, 5)
