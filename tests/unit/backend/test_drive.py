# SPDX-License-Identifier: Apache-2.0
"""Drives: opening, sizes, alignment, locks, and what the user is told."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from qdevpy.backend import drive_lock
from qdevpy.backend.drive import Drive
from qdevpy.errors import BackendError, PropertyError

MakeDrive = Callable[..., Drive]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(b"qdevpy" + bytes(4090))
    return path


@pytest.fixture
def make(image: Path) -> Iterator[MakeDrive]:
    with ExitStack() as cleanup:

        def make(**options: Any) -> Drive:
            drive = Drive(id=options.pop("id", "root"))
            for name, value in ({"file": str(image)} | options).items():
                drive.set_property(name, value)
            cleanup.callback(drive.close)
            return drive

        yield make


def test_open_file_has_its_size_and_is_writable(make: MakeDrive, image: Path) -> None:
    drive = make()
    drive.open()

    os.pwrite(drive.fd, b"QDEVPY", 0)

    assert (drive.size, drive.block_size, drive.request_alignment, drive.is_block_device) == (4096, 512, 1, False)
    assert image.read_bytes()[:6] == b"QDEVPY"


def test_open_readonly_refuses_writes_on_the_descriptor(make: MakeDrive) -> None:
    drive = make(readonly="on")
    drive.open()

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(drive.fd, b"x", 0)


def test_open_missing_file_says_how_to_make_one(make: MakeDrive, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"drive 'root': .*none\.img: No such file or directory; .*truncate -s 1G"):
        make(file=str(tmp_path / "none.img")).open()


def test_open_without_file_says_so() -> None:
    with pytest.raises(BackendError, match="drive 'root': file is not set"):
        Drive(id="root").open()


@pytest.fixture
def scratch() -> Iterator[Drive]:
    drive = Drive(id="root")
    drive.set_property("scratch", "1M")
    with ExitStack() as cleanup:
        cleanup.callback(drive.close)
        yield drive


def test_scratch_disk_is_empty_writable_and_as_big_as_said(scratch: Drive) -> None:
    scratch.open()

    assert (scratch.size, scratch.is_block_device, os.pread(scratch.fd, 512, 0)) == (1 << 20, False, bytes(512))
    assert os.pwrite(scratch.fd, b"QDEVPY", 0) == 6
    scratch.take("disk0")


def test_scratch_disk_with_a_file_is_the_file(make: MakeDrive) -> None:
    drive = make(scratch="1M")
    drive.open()
    assert drive.size == 4096


def test_scratch_disk_with_direct_io_is_an_error(scratch: Drive) -> None:
    scratch.set_property("cache.direct", "on")
    with pytest.raises(BackendError, match="a scratch disk has no O_DIRECT; set cache"):
        scratch.open()


@pytest.mark.parametrize("sort", ["fifo", "directory", "character device"])
def test_open_something_else_says_what_is_accepted(make: MakeDrive, tmp_path: Path, sort: str) -> None:
    path = tmp_path
    if sort == "fifo":
        os.mkfifo(path := tmp_path / "fifo")
    elif sort == "character device":
        path = Path("/dev/null")
    with pytest.raises(BackendError, match="is neither a file nor a block device"):
        make(file=str(path)).open()


@pytest.mark.parametrize(("number", "advice"), [(errno.EROFS, "set readonly: on"), (errno.EACCES, "check its permissions")])
def test_open_refused_by_the_host_gives_advice(
    make: MakeDrive, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    def refuse(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(BackendError, match=advice):
        make().open()


def test_open_direct_without_support_says_to_switch_it_off(make: MakeDrive, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: str, flags: int) -> int:
        assert flags & os.O_DIRECT
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(BackendError, match=r"has no O_DIRECT; set cache: \{direct: off\}"):
        make(**{"cache.direct": "on"}).open()


def test_open_direct_finds_the_alignment(make: MakeDrive, monkeypatch: pytest.MonkeyPatch) -> None:
    drive = make(**{"cache.direct": "on"})
    tried = []

    def preadv(_fd: int, buffers: list[memoryview], _offset: int) -> int:
        tried.append(len(buffers[0]))
        if len(buffers[0]) < 4096:
            raise OSError(errno.EINVAL, "Invalid argument")
        return 4096

    monkeypatch.setattr(os, "preadv", preadv)
    drive.open()

    assert tried == [512, 1024, 2048, 4096, 4096]  # the last looks at the image's format
    assert drive.request_alignment == 4096


@pytest.mark.parametrize(("number", "message"), [(errno.EINVAL, "O_DIRECT reads fail"), (errno.EIO, "cannot be examined: I/O")])
def test_open_direct_that_cannot_read_closes_again(
    make: MakeDrive, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    drive = make(**{"cache.direct": "on"})

    def preadv(*_: Any) -> int:
        raise OSError(number, "I/O")

    monkeypatch.setattr(os, "preadv", preadv)
    with pytest.raises(BackendError, match=message):
        drive.open()
    assert drive.fd == -1


def test_format_other_than_raw_says_how_to_convert(make: MakeDrive) -> None:
    with pytest.raises(PropertyError, match="'qcow2': expected raw; convert the image with 'qemu-img convert -f qcow2 -O raw"):
        make(format="qcow2")


def test_format_unknown_says_what_is_accepted(make: MakeDrive) -> None:
    with pytest.raises(PropertyError, match="'rew': expected one of raw"):
        make(format="rew")


@pytest.mark.parametrize("given", [{"aio": "native"}, {"aio": "native", "cache.direct": "off"}])
def test_aio_native_without_direct_says_what_to_set(make: MakeDrive, given: dict[str, str]) -> None:
    why = r"aio=native was specified, but it requires cache.direct=on, which was not specified; set cache: \{direct: on\}"
    with pytest.raises(BackendError, match=why):
        make(**given).open()


def test_aio_unknown_says_what_is_accepted(make: MakeDrive) -> None:
    with pytest.raises(PropertyError, match="'linux': expected one of threads, native, io_uring"):
        make(aio="linux")


def test_image_of_another_format_is_refused_where_no_format_is_given(make: MakeDrive, image: Path) -> None:
    image.write_bytes(b"QFI\xfb" + bytes(4092))

    with pytest.raises(BackendError, match="is a qcow2 image; convert it with 'qemu-img convert -f qcow2 -O raw IMAGE NEW', or"):
        make().open()


@pytest.mark.parametrize("said", [{"format": "raw"}, {"driver": "file"}])
def test_image_of_another_format_is_raw_where_that_is_said(
    make: MakeDrive, image: Path, caplog: pytest.LogCaptureFixture, said: dict[str, str]
) -> None:
    image.write_bytes(b"QFI\xfb" + bytes(4092))
    make(**said).open()

    assert "starts like a qcow2 image" in caplog.text


def test_refresh_size_follows_the_file(make: MakeDrive, image: Path) -> None:
    drive = make()
    drive.open()
    os.truncate(image, 8192)
    assert drive.refresh_size() == drive.size == 8192


# -- locks


def test_take_by_second_device_names_the_first(make: MakeDrive) -> None:
    drive = make()
    drive.open()
    drive.take("disk0")
    with pytest.raises(BackendError, match="drive 'root' is in use by disk0; give disk1 one of its own"):
        drive.take("disk1")


def opened(make: MakeDrive, **options: Any) -> Drive:
    drive = make(**options)
    drive.open()
    return drive


def test_second_writer_of_an_image_is_refused_until_the_first_releases(make: MakeDrive) -> None:
    first, second = opened(make), opened(make, id="copy")
    first.take("disk0")

    with pytest.raises(BackendError, match=r"drive 'copy': .* has it open .*share-rw=on"):
        second.take("disk1")
    first.release()
    second.take("disk1")

    assert second.user == "disk1"


def test_readers_share_an_image_and_keep_writers_out(make: MakeDrive) -> None:
    first, second, writer = opened(make, readonly="on"), opened(make, readonly="on"), opened(make)
    first.take("disk0")
    second.take("disk1")

    with pytest.raises(BackendError, match="does not let others write"):
        writer.take("disk2")


def test_reader_is_refused_where_somebody_writes(make: MakeDrive) -> None:
    writer, reader = opened(make), opened(make, readonly="on")
    writer.take("disk0")
    with pytest.raises(BackendError, match="open for writing"):
        reader.take("disk1")


def test_share_rw_lets_both_write(make: MakeDrive) -> None:
    first, second, third = opened(make), opened(make), opened(make)
    first.take("disk0", share_rw=True)
    second.take("disk1", share_rw=True)
    with pytest.raises(BackendError, match="open for writing"):
        third.take("disk2")


def test_refused_taker_leaves_no_lock_behind(make: MakeDrive) -> None:
    writer, reader = opened(make), opened(make, readonly="on")
    reader.take("disk0")
    with pytest.raises(BackendError, match="does not let others write"):
        writer.take("disk1")
    reader.release()

    other = opened(make)
    other.take("disk2")

    assert writer.user is None


def test_close_drops_the_locks(make: MakeDrive) -> None:
    first, second = opened(make), opened(make)
    first.take("disk0")
    first.close()
    second.take("disk1")
    first.release()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_file_system_without_locks_is_warned_of(
    make: MakeDrive, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    drive = opened(make)

    def refuse(*_: Any) -> bytes:
        raise OSError(number, "no locks")

    monkeypatch.setattr(drive_lock.fcntl, "fcntl", refuse)
    drive.take("disk0")
    drive.release()

    assert "take care not to use it twice" in caplog.text


def test_lock_that_fails_otherwise_is_an_error(make: MakeDrive, monkeypatch: pytest.MonkeyPatch) -> None:
    drive = opened(make)
    monkeypatch.setattr(drive_lock, "_held_by_others", lambda fd, byte: os.fstat(-1))
    with pytest.raises(BackendError, match="cannot be locked: Bad file descriptor"):
        drive.take("disk0")
    assert drive.user is None


@pytest.mark.skipif(shutil.which("qemu-io") is None, reason="needs qemu-io (Debian: qemu-utils)")
def test_qemu_respects_the_lock(make: MakeDrive, image: Path) -> None:
    opened(make).take("disk0")
    result = subprocess.run(["qemu-io", "-f", "raw", "-c", "write 0 512", str(image)], capture_output=True, text=True)
    assert result.returncode != 0
    assert "lock" in result.stderr


def test_lock_of_another_process_is_seen(make: MakeDrive, image: Path) -> None:
    code = (
        "import os, sys\n"
        "from qdevpy.backend.drive_lock import lock_image\n"
        "fd = os.open(sys.argv[1], os.O_RDWR)\n"
        "lock_image(fd, write=True, share_write=False)\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(image)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(BackendError, match="somebody else"):
            opened(make).take("disk0")
        other.communicate()


# -- parts of files, resize, no medium


def test_offset_leaves_the_rest_of_the_file(make: MakeDrive) -> None:
    drive = make(offset="1024")
    drive.open()
    assert drive.size == 3072


@pytest.mark.parametrize("option", ["size", "offset"])
def test_place_that_is_no_whole_sector_is_an_error(make: MakeDrive, option: str) -> None:
    with pytest.raises(BackendError, match=f"{option} 100 is not a multiple of 512"):
        make(**{option: "100"}).open()


def test_place_beyond_the_file_is_an_error(make: MakeDrive) -> None:
    with pytest.raises(BackendError, match="has 4096 bytes, and offset 512 and size 4096 go beyond"):
        make(offset="512", size="4096").open()


def test_resize_changes_the_file_and_tells_the_device(make: MakeDrive, image: Path) -> None:
    drive = make()
    drive.open()
    drive.take("disk0")
    sizes: list[int] = []
    drive.resized = lambda: sizes.append(drive.size)

    drive.resize(8192)
    drive.resize(512)
    drive.release()
    drive.resize(1024)

    assert (sizes, image.stat().st_size) == ([8192, 512], 1024)


@pytest.mark.parametrize(
    ("options", "size", "message"),
    [
        ({"readonly": "on"}, 8192, "Image is read-only"),
        ({"size": "4096"}, 8192, "Cannot resize fixed-size raw disks"),
        ({}, 1 << 63, "Failed to resize the file"),
    ],
)
def test_resize_that_cannot_be_says_why(make: MakeDrive, options: dict[str, str], size: int, message: str) -> None:
    drive = make(**options)
    drive.open()
    with pytest.raises(BackendError, match=message):
        drive.resize(size)
    assert drive.size == 4096


def test_drive_without_a_medium_opens_and_serves_no_device() -> None:
    drive = Drive(id="cd")
    drive.set_property("driver", "none")
    drive.open()
    with pytest.raises(BackendError, match="disk0 needs a medium, and drive 'cd' has none"):
        drive.take("disk0")
    with pytest.raises(BackendError, match="No medium inserted"):
        drive.resize(512)
    drive.close()
    assert not drive.is_inserted
    assert drive.user is None


# -- drives on drives, and drives that go


class Host:
    """A machine, as far as drives need one."""

    def __init__(self) -> None:
        self.backends: dict[tuple[str, str], Drive] = {}

    def backend(self, section: str, name: str) -> Drive:
        return self.backends[section, name]

    def remove_backend(self, section: str, name: str) -> None:
        self.backends.pop((section, name)).close()

    def add(self, drive: Drive) -> Drive:
        drive.machine = self  # type: ignore[assignment]
        drive.open()
        self.backends["drives", drive.name] = drive
        return drive


def test_drive_on_another_has_its_contents_and_keeps_it_busy(make: MakeDrive) -> None:
    host = Host()
    below = host.add(make(id="f0", driver="file"))
    drive = Drive(id="r0")
    for name, value in {"below": "f0", "node-name": "r0", "driver": "raw", "offset": "512"}.items():
        drive.set_property(name, value)
    host.add(drive)
    drive.take("disk0")

    assert (drive.size, os.pread(drive.fd, 6, 0)) == (3584, b"qdevpy")
    assert (drive.nodes, below.nodes) == ([("r0", "raw")], [("#block.f0", "file")])
    with pytest.raises(BackendError, match="drive 'f0' is in use by node r0"):
        below.take("disk1")
    drive.close()
    assert below.user is None


def test_null_drive_on_another_is_null(make: MakeDrive) -> None:
    host = Host()
    host.add(_null("n0"))
    drive = Drive(id="r0")
    drive.set_property("below", "n0")
    host.add(drive)
    assert (drive.is_null, drive.size, drive.read_zeroes) == (True, 1 << 20, True)


def _null(name: str) -> Drive:
    drive = Drive(id=name)
    for option, value in {"driver": "null-co", "size": "1M", "read-zeroes": "on"}.items():
        drive.set_property(option, value)
    return drive


@pytest.mark.parametrize(("node_name", "stays"), [(None, False), ("other", False), ("root", True)])
def test_drive_goes_with_its_device_unless_it_is_a_node_only(make: MakeDrive, node_name: str | None, stays: bool) -> None:
    host = Host()
    drive = host.add(make(**({"node-name": node_name} if node_name else {})))
    drive.take("disk0")

    drive.leave_with_device()
    drive.release()

    assert (("drives", "root") in host.backends, drive.fd >= 0) == (stays, stays)


def test_ejected_drive_has_no_sectors(make: MakeDrive) -> None:
    drive = make()
    drive.open()
    sizes: list[int] = []
    drive.resized = lambda: sizes.append(drive.size)
    drive.eject()
    assert sizes == [0]
