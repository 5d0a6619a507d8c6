# SPDX-License-Identifier: Apache-2.0
"""virtio-blk when the host fails, when the driver misbehaves, and when it is reset in the middle of its work."""

from __future__ import annotations

import errno
import logging
import os
import resource
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from blk_driver import (
    DISCARD,
    DISKS,
    FLUSH,
    IN,
    IOERR,
    NOT_WRITTEN,
    OK,
    OUT,
    VERSION_1,
    WRITE_ZEROES,
    BlkRig,
    Ring,
    image_of,
    options_of,
    resources,
)

from qdevpy.virtio import defs
from qdevpy.vm.run_control import RunState
from qdevpy_virtio_blk import config

SIZE = 4 << 20
FLUSHES = 1 << config.F_FLUSH
RANGES = 1 << config.F_DISCARD | 1 << config.F_WRITE_ZEROES

MakeRig = Callable[..., BlkRig]


@pytest.fixture(params=DISKS)
def aio(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def image(tmp_path: Path, aio: str) -> Iterator[Path]:
    with image_of(aio, tmp_path) as path:
        path.write_bytes(bytes(SIZE))
        yield path


@pytest.fixture
def make(image: Path, aio: str) -> Iterator[MakeRig]:
    with ExitStack() as cleanup:

        def make(**options: Any) -> BlkRig:
            options["drive"] = options_of(aio) | options.get("drive", {})
            rig = BlkRig(image, **options)
            cleanup.callback(rig.close)
            return rig

        yield make


@contextmanager
def instead_of_the_image(rig: BlkRig, path: str, flags: int) -> Iterator[None]:
    """The drive's descriptor leads to PATH for a while."""
    saved, other = os.dup(rig.drive.fd), os.open(path, flags)
    rig.device._disk.no_fixed_file = 1  # io_uring holds on to the file that it was given
    os.dup2(other, rig.drive.fd, inheritable=False)
    try:
        yield
    finally:
        os.dup2(saved, rig.drive.fd, inheritable=False)
        os.close(saved)
        os.close(other)


def full_disk_error(rig: BlkRig) -> int:
    """What a write to /dev/full ends with: Linux AIO has no way to write to such a device at all."""
    return errno.EINVAL if rig.drive.aio == "native" else errno.ENOSPC


# -- the host fails


def test_full_disk_is_an_io_error_and_the_machine_goes_on(make: MakeRig) -> None:
    rig = make()
    with instead_of_the_image(rig, "/dev/full", os.O_RDWR):
        assert rig.run(OUT, 0, bytes(4096))[0] == IOERR
    assert rig.run(OUT, 0, b"\x11" * 4096)[0] == OK
    assert rig.run(IN, 0, read=4096) == (OK, b"\x11" * 4096)
    assert rig.device.broken is None


def test_full_disk_is_logged_once_and_counted(make: MakeRig, caplog: pytest.LogCaptureFixture) -> None:
    rig = make(features=VERSION_1 | FLUSHES)
    with instead_of_the_image(rig, "/dev/full", os.O_RDWR), caplog.at_level(logging.WARNING):
        for _ in range(5):
            rig.run(OUT, 0, bytes(512))
        rig.wait(lambda: f"write failed: {os.strerror(full_disk_error(rig))}" in caplog.text)
        rig.loop.run_once(0)
    assert caplog.text.count("write failed") == 1
    counted = {"requests": 5, "bytes": 0, "errors": 5, "last_errno": full_disk_error(rig), "merged": 0}
    assert rig.device.statistics()["write"] == counted


def test_listeners_hear_of_every_failure(make: MakeRig) -> None:
    rig = make(features=VERSION_1 | FLUSHES)
    with instead_of_the_image(rig, "/dev/full", os.O_RDWR):
        rig.run(OUT, 0, bytes(512))
        rig.wait(lambda: len(rig.events) == 1)
        rig.run(OUT, 0, bytes(512))
        rig.wait(lambda: len(rig.events) == 2)
    with instead_of_the_image(rig, "/dev/null", os.O_WRONLY):
        rig.run(IN, 0, read=512)
        rig.wait(lambda: len(rig.events) == 3)
    error = full_disk_error(rig)
    node = rig.drive.nodes[0][0]
    full = ("BlockIoError", rig.drive.name, node, "write", "report", error == errno.ENOSPC, os.strerror(error))
    assert rig.events[:2] == [full, full]
    assert rig.events[2][3:] == ("read", "report", False, "Bad file descriptor")


def test_another_reason_is_logged_anew(make: MakeRig, caplog: pytest.LogCaptureFixture) -> None:
    rig = make(features=VERSION_1 | FLUSHES)
    with instead_of_the_image(rig, "/dev/full", os.O_RDWR):
        rig.run(OUT, 0, bytes(512))
        rig.wait(lambda: os.strerror(full_disk_error(rig)) in caplog.text)
    with instead_of_the_image(rig, "/dev/null", os.O_RDONLY):
        rig.run(OUT, 0, bytes(512))
        rig.wait(lambda: "Bad file descriptor" in caplog.text)


def test_errors_are_summed_up_when_the_device_goes(make: MakeRig, caplog: pytest.LogCaptureFixture) -> None:
    rig = make()
    with instead_of_the_image(rig, "/dev/full", os.O_RDWR):
        for _ in range(3):
            rig.run(OUT, 0, bytes(512))
    rig.close()
    assert "I/O errors in all: 3 write" in caplog.text


@pytest.mark.parametrize(
    ("kind", "path", "flags"),
    [
        (IN, "/dev/null", os.O_WRONLY),
        (FLUSH, "fifo", os.O_RDWR),
        (DISCARD, "/dev/null", os.O_RDONLY),
        (WRITE_ZEROES, "/dev/null", os.O_RDONLY),
    ],
)
def test_host_error_of_any_request_is_an_io_error(make: MakeRig, tmp_path: Path, kind: int, path: str, flags: int) -> None:
    rig = make(features=VERSION_1 | RANGES, drive={"discard": "unmap"})
    data = struct.pack("<QII", 0, 8, 0) if kind in (DISCARD, WRITE_ZEROES) else b""
    os.mkfifo(tmp_path / "fifo")
    with instead_of_the_image(rig, str(tmp_path / path), flags):
        assert rig.run(kind, 0, data, read=512 if kind == IN else 0)[0] == IOERR
    assert rig.run(IN, 0, read=512)[0] == OK


def test_write_zeroes_on_a_full_disk_is_an_io_error(make: MakeRig) -> None:
    rig = make(features=VERSION_1 | RANGES)
    with instead_of_the_image(rig, "/dev/full", os.O_RDWR):
        assert rig.run(WRITE_ZEROES, data=struct.pack("<QII", 0, 8, 0))[0] == IOERR


def test_file_size_limit_is_an_io_error_behind_it(make: MakeRig, image: Path) -> None:
    os.truncate(image, 0)
    os.truncate(image, SIZE)
    rig = make()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE // 2, hard))
    try:
        across = rig.run(OUT, SIZE // 1024 - 1, bytes(1024))[0]
        behind = rig.run(OUT, SIZE // 512 - 1, bytes(512))[0]
        before = rig.run(OUT, 0, bytes(512))[0]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (across, behind, before) == (IOERR, IOERR, OK)


def test_write_through_without_rwf_dsync_writes_and_syncs(make: MakeRig, image: Path) -> None:
    rig = make()
    with instead_of_the_image(rig, "/dev/full", os.O_RDWR):  # a driver without RWF flags
        assert rig.run(OUT, 0, bytes(512))[0] == IOERR
    assert rig.device._disk.no_dsync == (rig.drive.aio == "threads")  # io_uring does not ask
    rig.device._disk.no_dsync = 1
    assert rig.run(OUT, 0, b"\x22" * 512)[0] == OK
    assert image.read_bytes()[:512] == b"\x22" * 512


# -- error policies (rerror, werror)


def fails_on_a_full_disk(rig: BlkRig, requests: int = 1) -> list[Any]:
    """Writes that the host has no room for; the requests, once the device has noticed."""
    rig.events.clear()
    with instead_of_the_image(rig, "/dev/full", os.O_RDWR):
        submitted = [rig.rings[0].submit(OUT, 8 * n, bytes([n + 1]) * 512) for n in range(requests)]
        rig.rings[0].kick()
        rig.wait(lambda: rig.device.statistics()["write"]["errors"] >= requests)
        rig.wait(lambda: bool(rig.events))
        rig.stop()
    error = full_disk_error(rig)
    told = ("BlockIoError", "write", rig.device.action("write", error), error == errno.ENOSPC)
    assert {(event[0], event[3], event[4], event[5]) for event in rig.events} == {told}
    return submitted


@pytest.mark.parametrize("policy", ["stop", "enospc", "auto"])
def test_full_disk_stops_the_machine_and_is_tried_again(make: MakeRig, image: Path, policy: str) -> None:
    rig = make(werror=policy)
    if rig.device.action("write", full_disk_error(rig)) != "stop":
        pytest.skip("Linux AIO refuses to write to /dev/full, which is not a full disk's error")
    requests = fails_on_a_full_disk(rig, 3)
    assert set(rig.stops) == {RunState.IO_ERROR}
    assert [rig.rings[0].status(request) for request in requests] == [NOT_WRITTEN] * 3
    assert rig.device.requests_in_flight == 0  # nothing that a stop would wait for
    rig.rings[0].start()
    rig.rings[0].kick()  # as the transport does for every queue that starts
    rig.rings[0].finish(3)
    assert [rig.rings[0].status(request) for request in requests] == [OK] * 3
    assert [image.read_bytes()[4096 * n] for n in range(3)] == [1, 2, 3]


def test_request_that_fails_again_stops_the_machine_again(make: MakeRig) -> None:
    rig = make(werror="stop")
    (request,) = fails_on_a_full_disk(rig)
    with instead_of_the_image(rig, "/dev/full", os.O_RDWR):
        rig.rings[0].start()
        rig.rings[0].kick()
        rig.wait(lambda: len(rig.stops) > 1)
        rig.stop()
    rig.rings[0].start()
    rig.rings[0].kick()
    rig.rings[0].finish(1)
    assert rig.rings[0].status(request) == OK


def test_held_request_that_the_disk_has_become_too_small_for_is_refused(make: MakeRig) -> None:
    rig = make(werror="stop")
    requests = fails_on_a_full_disk(rig, 2)
    rig.device._disk.sectors = 8
    rig.rings[0].start()
    rig.rings[0].kick()
    rig.rings[0].finish(2)
    assert [rig.rings[0].status(request) for request in requests] == [OK, IOERR]


def test_held_request_is_not_tried_again_before_the_machine_goes_on(make: MakeRig) -> None:
    rig = make(werror="stop")
    with instead_of_the_image(rig, "/dev/full", os.O_RDWR):
        held = rig.rings[0].submit(OUT, 0, bytes(512))
        rig.rings[0].kick()
        rig.wait(lambda: bool(rig.stops))
        assert rig.run(IN, 0, read=512)[0] == OK  # another vCPU kicks meanwhile
        assert rig.device.statistics()["write"]["errors"] == 1
    assert rig.rings[0].status(held) == NOT_WRITTEN


def test_reset_forgets_what_is_held(make: MakeRig) -> None:
    rig = make(werror="stop")
    fails_on_a_full_disk(rig)
    rig.restart()
    assert rig.run(OUT, 0, b"\x33" * 512)[0] == OK
    assert rig.device.statistics()["write"]["requests"] == 1


def test_ignored_error_is_a_success_to_the_driver(make: MakeRig) -> None:
    rig = make(werror="ignore")
    (request,) = fails_on_a_full_disk(rig)
    assert rig.rings[0].status(request) == OK
    assert rig.stops == []


def test_read_error_is_reported_unless_chosen_otherwise(make: MakeRig) -> None:
    rig = make(werror="auto")
    with instead_of_the_image(rig, "/dev/null", os.O_WRONLY):
        assert rig.run(IN, 0, read=512)[0] == IOERR
    assert rig.stops == []


def test_read_error_may_stop_the_machine(make: MakeRig) -> None:
    rig = make(rerror="stop")
    with instead_of_the_image(rig, "/dev/null", os.O_WRONLY):
        request = rig.rings[0].submit(IN, 0, read=512)
        rig.rings[0].kick()
        rig.wait(lambda: bool(rig.stops))
        rig.stop()
    rig.rings[0].start()
    rig.rings[0].kick()
    rig.rings[0].finish(1)
    assert rig.rings[0].status(request) == OK


def test_error_other_than_a_full_disk_is_reported_with_enospc(make: MakeRig) -> None:
    rig = make(werror="enospc")
    with instead_of_the_image(rig, "/dev/null", os.O_RDONLY):
        assert rig.run(OUT, 0, bytes(512))[0] == IOERR
    assert rig.stops == []


# -- the driver misbehaves


def broken(rig: BlkRig) -> str:
    """Wait until the device asks for a reset; why."""
    rig.wait(lambda: rig.device.broken is not None)
    assert rig.device.status & defs.STATUS_NEEDS_RESET
    return rig.device.broken or ""


def offer(ring: Ring, out: int, into: int) -> None:
    """A chain of OUT readable and INTO writable bytes."""
    address = ring.disk.buffer(bytes(out + into))
    ring.add([(address, out)] if out else [], [(address + out, into)] if into else [])
    ring.kick()


@pytest.mark.parametrize(
    ("out", "into", "why"),
    [
        (15, 1, "request without a complete header"),
        (0, 513, "request without a complete header"),
        (16, 0, "request without a status byte"),
        (528, 0, "request without a status byte"),
    ],
)
def test_request_without_room_for_header_or_status_breaks_the_device(make: MakeRig, out: int, into: int, why: str) -> None:
    rig = make()
    offer(rig.rings[0], out, into)
    assert why in broken(rig)
    assert rig.config_changes == 1


def test_broken_device_serves_nothing_and_works_after_its_reset(make: MakeRig) -> None:
    rig = make()
    ring = rig.rings[0]
    offer(ring, 3, 1)
    broken(rig)
    request = ring.submit(IN, 0, read=512)
    ring.kick()
    rig.stop()
    assert ring.status(request) == NOT_WRITTEN

    rig.restart()

    assert rig.run(IN, 0, read=512)[0] == OK


def test_more_chains_than_entries_break_the_device(make: MakeRig) -> None:
    rig = make(ioeventfd=False, ring_size=4)
    ring = rig.rings[0]
    ring.submit(IN, 0, read=512)
    rig.memory.write(ring.avail + 2, struct.pack("<H", 5))
    ring.kick()
    assert "avail index moved by more than the queue size" in broken(rig)


def test_same_chain_offered_forever_is_served_and_stops(make: MakeRig) -> None:
    """A guest whose other vCPU keeps raising avail->idx cannot keep a reset from coming through."""
    rig = make(ring_size=16, features=VERSION_1)
    ring = rig.rings[0]
    request = ring.submit(IN, 0, read=512)
    rig.memory.write(ring.avail + 4, struct.pack("<16H", *[request.head] * 16))
    ended = threading.Event()

    def feed() -> None:
        while not ended.is_set():
            idx = ring.word(ring.used + 2) + 16 & 0xFFFF
            rig.memory.write(ring.avail + 2, struct.pack("<H", idx))
            ring.kick()

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        ring.kick()
        rig.wait(lambda: ring.queue.counters()["requests"] > 1000)
        rig.stop()  # comes back although the guest goes on
    finally:
        ended.set()
        feeder.join()
    assert rig.device.broken is None


# -- reset in the middle


@pytest.mark.parametrize("ioeventfd", [True, False])
def test_stop_under_load_drains_and_loses_nothing(make: MakeRig, ioeventfd: bool, image: Path) -> None:
    rig = make(ioeventfd=ioeventfd, num_queues=2)
    rig.stop()
    before = resources()
    for _ in range(20):
        rig.restart()
        submitted = []
        for ring in rig.rings:
            for i in range(15):
                kind = (IN, OUT, FLUSH)[i % 3]
                size = (64 << 10, 64 << 10, 0)[i % 3]
                data = bytes([i]) * size if kind == OUT else b""
                submitted.append((ring, ring.submit(kind, 0, data, read=size if kind == IN else 0)))
            ring.kick()
        rig.stop()
        assert resources() == before
        # what a kick was signalled for is served before the queue stops
        assert {ring.status(request) for ring, request in submitted} == {OK}


def test_unrealize_gives_everything_back(image: Path, aio: str) -> None:
    # the first use of a kind may open what stays open for good
    BlkRig(image, drive=options_of(aio)).close()
    before = resources()
    with BlkRig(image, num_queues=4, drive=options_of(aio)) as rig:
        for ring in rig.rings:
            ring.submit(OUT, 0, bytes(4096))
            ring.kick()
            ring.finish(1)
    assert resources() == before


def test_start_without_descriptors_left_breaks_the_device(make: MakeRig) -> None:
    rig = make()
    rig.stop()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        rig.rings[0].queue.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "cannot be started: Too many open files" in (rig.device.broken or "")
    rig.restart()
    assert rig.run(IN, 0, read=512)[0] == OK
