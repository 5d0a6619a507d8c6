# SPDX-License-Identifier: Apache-2.0
"""Drives: an image file, a block device of the host, or memory, as a disk's contents; or no contents (null-co)."""

from __future__ import annotations

import errno
import fcntl
import logging
import mmap
import os
import stat
import struct
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import attrs

from qdevpy.backend.base import Backend
from qdevpy.backend.drive_lock import ImageBusyError, lock_image, unlock_image
from qdevpy.errors import BackendError
from qdevpy.qdev import property as prop
from qdevpy.qdev.kinds import Enum, Size

log = logging.getLogger(__name__)

SECTOR = 512
_BLKSSZGET = 0x1268
_MAGIC = {b"QFI\xfb": "qcow2", b"KDMV": "vmdk", b"vhdx": "vhdx", b"cone": "vpc"}

#: what to do about an errno of open(2), beyond what its own text says
_ADVICE = {
    errno.ENOENT: "write an existing file; 'truncate -s 1G FILE' makes an empty disk of 1 GiB",
    errno.EACCES: "check its permissions, or set readonly: on if it may be read",
    errno.EROFS: "set readonly: on",
    errno.EBUSY: "something on the host, a mount perhaps, has the device",
    errno.ETXTBSY: "set readonly: on",
}


class _Format(Enum):
    """``raw``, and a word on what to do with the others."""

    def parse(self, given: Any) -> str:
        """The word."""
        if given in ("qcow2", "qcow", "qed", "vmdk", "vdi", "vpc", "vhdx", "luks", "parallels"):
            raise ValueError(f"expected raw; convert the image with 'qemu-img convert -f {given} -O raw IMAGE NEW'")
        return super().parse(given)


#: QEMU's names of files that are none; what stands before ``://`` is the driver
NULL_FILES = ("null-co://", "null-aio://")
NULL_DRIVERS = ("null-co", "null-aio")
NULL_SIZE = 1 << 30  #: of a null disk whose size is not given, as QEMU's


class Drive(Backend):
    """An entry of ``drives:``. The device that takes it does the I/O, on :attr:`fd`.

    :ivar fd: the open image; -1 while closed, and for a disk without contents
    :ivar size: bytes of the disk: the image's, or what the options say
    :ivar resized: called after the size has changed; the device that has the drive sets it
    :ivar is_block_device: whether it is a block device of the host
    :ivar block_size: the host's logical sector size for a block device; 512 for files
    :ivar request_alignment: what offsets, lengths and buffers must be multiples of; 1 without ``cache.direct``
    """

    type_name: ClassVar[str] = "drive"
    description: ClassVar[str] = "an image file or a block device; an empty disk in memory; or a disk without contents"
    section: ClassVar[str] = "drives"
    required: ClassVar[Sequence[str]] = ("file|scratch|driver",)

    file: str | None = prop.path(
        must_exist=True, words=NULL_FILES, help="image file or block device; null-co:// is short for driver: null-co"
    )
    driver: str = prop.enum(
        "auto",
        choices=("auto", "file", "host_device", "raw", *NULL_DRIVERS, "none"),
        type_name="BlockdevDriver",
        help="null-co, null-aio: a disk without contents; none: a drive without medium; else: what file is",
    )
    read_zeroes: bool = prop.boolean(help="null-co: reads are zeros; off: they leave the guest's memory as it was")
    disk_size: int | None = prop.declare(
        Size(), None, name="size", help="bytes of the disk; default: what follows offset in the file; null-co: 1G"
    )
    offset: int = prop.size(0, help="where in the file the disk begins, in bytes")
    scratch: int = prop.size(0, help="without file: bytes of an empty disk in memory, lost at the end")
    format: str | None = prop.declare(
        _Format("str", ("raw",)), None, help="format of the image; where it is not given, an image of another format is refused"
    )
    readonly: bool = prop.boolean(help="open it read-only; the guest gets a read-only disk")
    aio: str = prop.enum(
        "threads",
        choices=("threads", "native", "io_uring"),
        type_name="BlockdevAioOptions",
        help="how I/O is done; native (Linux AIO) needs cache.direct",
    )
    cache_direct: bool = prop.boolean(name="cache.direct", help="bypass the host's page cache (O_DIRECT)")
    discard: str = prop.enum(
        "ignore",
        choices=("ignore", "unmap"),
        type_name="BlockdevDiscardOptions",
        help="what the guest's discards do to the image",
    )
    node_name: str | None = prop.string(
        help="name of the block node for QMP; the entry's own name makes it a node only, which no unplug takes along (-blockdev)"
    )
    file_node_name: str | None = prop.string(help="name of the node below the format, for QMP")
    below: str | None = prop.string(help="another entry of drives: that holds the contents, instead of file")

    fd: int = attrs.field(default=-1, init=False)
    size: int = attrs.field(default=0, init=False)
    is_block_device: bool = attrs.field(default=False, init=False)
    block_size: int = attrs.field(default=512, init=False)
    request_alignment: int = attrs.field(default=1, init=False)
    resized: Callable[[], None] | None = attrs.field(default=None, init=False)
    _below: Drive | None = attrs.field(default=None, init=False)
    _goes: bool = attrs.field(default=False, init=False)

    @property
    def is_null(self) -> bool:
        """Whether it is a disk without contents: what is written goes nowhere."""
        if self._below is not None:
            return self._below.is_null
        return self.driver in NULL_DRIVERS or self.file in NULL_FILES

    @property
    def is_inserted(self) -> bool:
        """Whether there is a medium."""
        return self.fd >= 0 or self.is_null

    @property
    def _where(self) -> str:
        return self.driver if self.is_null else self.file or self.below or "scratch disk"

    @property
    def is_node_only(self) -> bool:
        """Whether it is a block node without a drive's id, as ``-blockdev`` makes them."""
        return self.node_name == self.name

    @property
    def nodes(self) -> list[tuple[str, str]]:
        """Name and driver of its block nodes: the format's, then that of the file below, unless that is another entry."""
        upper = self.node_name or f"#block.{self.name}"
        if self.driver not in ("auto", "raw"):
            return [(upper, self.driver)]
        if self._below is not None:
            return [(upper, "raw")]
        lower = "null-co" if self.is_null else "host_device" if self.is_block_device else "file"
        return [(upper, "raw"), (self.file_node_name or f"#block.{self.name}.file", lower)]

    @property
    def filename(self) -> str:
        """What QMP calls the file."""
        if self._below is not None:
            return self._below.filename
        if self.is_null:
            return f"{self.driver}://" if self.driver in NULL_DRIVERS else str(self.file)
        return self.file or f"scratch:{self.name}"

    def _error(self, what: str, advice: str | None = None) -> BackendError:
        return BackendError(f"drive '{self.name}': {self._where}: {what}" + (f"; {advice}" if advice else ""))

    def open(self) -> None:
        """Open the image and find out its size.

        :raises BackendError: missing, not permitted, not a file or block device, no O_DIRECT there
        """
        self._check_place()
        if self.below is not None:
            self._stand_on(self.below)
            return
        if self.is_null:
            self.refresh_size()
            return
        if self.driver == "none":
            return
        self._check_aio()
        if self.file:
            self._open_file(self.file)
        elif self.scratch:
            self._make_scratch()
        else:
            raise BackendError(
                f"drive '{self.name}': file is not set; write the path of an image or of a block device, "
                "or scratch: SIZE for an empty disk in memory"
            )
        try:
            self._examine()
        except BaseException:
            self.close()
            raise

    def _stand_on(self, name: str) -> None:
        """Share another entry's contents, which nobody else may use from now on."""
        below = self.machine.backend(self.section, name)
        assert isinstance(below, Drive)
        if not below.is_inserted:
            raise BackendError(f"drive '{self.name}': below: '{name}' has no medium")
        Backend.take(below, f"node {self.name}")
        self._below = below
        for attribute in ("is_block_device", "block_size", "request_alignment", "aio", "cache_direct", "read_zeroes"):
            setattr(self, attribute, getattr(below, attribute))
        self.readonly = self.readonly or below.readonly
        if below.fd >= 0:
            self.fd = os.dup(below.fd)
        try:
            self.refresh_size()
        except BackendError:
            self.close()
            raise

    def _check_place(self) -> None:
        for name, value in (("size", self.disk_size or 0), ("offset", self.offset)):
            if value % SECTOR:
                raise self._error(f"{name} {value} is not a multiple of {SECTOR}")

    def _check_aio(self) -> None:
        """Linux AIO waits for the storage while it is asked where the page cache is in between; as QEMU's raw_open_common()."""
        if self.aio == "native" and not self.cache_direct:
            raise self._error(
                "aio=native was specified, but it requires cache.direct=on, which was not specified",
                "set cache: {direct: on}, or aio: io_uring",
            )

    def _open_file(self, path: str) -> None:
        self._check_sort(path)
        flags = os.O_CLOEXEC | (os.O_RDONLY if self.readonly else os.O_RDWR)
        if self.cache_direct:
            flags |= os.O_DIRECT
        try:
            self.fd = os.open(path, flags)
        except OSError as error:
            if error.errno == errno.EINVAL and self.cache_direct:
                raise self._error("its file system has no O_DIRECT", "set cache: {direct: off}") from None
            raise self._error(error.strerror or str(error), _ADVICE.get(error.errno or 0)) from None

    def _make_scratch(self) -> None:
        if self.cache_direct:
            raise BackendError(f"drive '{self.name}': a scratch disk has no O_DIRECT; set cache: {{direct: off}}")
        self.fd = os.memfd_create(f"drive-{self.name}", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, self.scratch)

    def _check_sort(self, path: str) -> None:
        """Before opening it, since opening a FIFO would wait for a writer."""
        try:
            mode = os.stat(path).st_mode
        except OSError as error:
            raise self._error(error.strerror or str(error), _ADVICE.get(error.errno or 0)) from None
        if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
            raise self._error("is neither a file nor a block device")
        self.is_block_device = stat.S_ISBLK(mode)

    def _examine(self) -> None:
        try:
            self.refresh_size()
            if self.is_block_device:
                self.block_size = struct.unpack("i", fcntl.ioctl(self.fd, _BLKSSZGET, bytes(4)))[0]
            if self.cache_direct:
                self.request_alignment = self._probe_alignment()
            self._probe_format()
        except OSError as error:
            raise self._error(f"cannot be examined: {error.strerror}") from None

    def _probe_alignment(self) -> int:
        """The smallest read that O_DIRECT takes; as QEMU's raw_probe_alignment()."""
        with mmap.mmap(-1, 1 << 16) as buffer:
            size = 512
            while size < len(buffer):
                try:
                    with memoryview(buffer) as whole, whole[:size] as part:
                        os.preadv(self.fd, [part], 0)
                    return size
                except OSError as error:
                    if error.errno != errno.EINVAL:
                        raise
                size *= 2
        raise self._error("O_DIRECT reads fail", "set cache: {direct: off}")

    def _probe_format(self) -> None:
        """Whoever names no format does not know, or means what QEMU makes of it by looking: nothing may be written then."""
        with mmap.mmap(-1, 1 << 16) as buffer, memoryview(buffer) as whole, whole[: max(512, self.request_alignment)] as part:
            os.preadv(self.fd, [part], 0)
            found = _MAGIC.get(bytes(part[:4]))
        if found is None:
            return
        if self.format is None and self.driver == "auto":
            raise self._error(
                f"is a {found} image",
                f"convert it with 'qemu-img convert -f {found} -O raw IMAGE NEW', or say format: raw for its bytes as they are",
            )
        log.warning("drive '%s': %s starts like a %s image; the guest gets its bytes as they are", self.name, self._where, found)

    def refresh_size(self) -> int:
        """Find out the size anew, after the image grew or shrank.

        :returns: bytes
        :raises BackendError: ``offset`` and ``size`` go beyond the image
        """
        if self._below is not None:
            whole = self._below.refresh_size()
        elif self.is_null:
            whole = NULL_SIZE if self.disk_size is None else self.disk_size + self.offset
        else:
            whole = os.lseek(self.fd, 0, os.SEEK_END)
        there = whole - self.offset
        if there < (self.disk_size or 0):
            raise self._error(f"has {there + self.offset} bytes, and offset {self.offset} and size {self.disk_size} go beyond")
        self.size = there if self.disk_size is None else self.disk_size
        return self.size

    def resize(self, size: int) -> None:
        """Make the image SIZE bytes long, and tell the device; as QEMU's ``block_resize``.

        Files grow and shrink; a block device does neither, but may be larger than what is asked for. A null
        disk has a size of its own.

        :raises BackendError: read-only, not resizable, or the host refuses
        """
        if not self.is_inserted:
            raise BackendError(f"No medium inserted in drive '{self.name}'")
        if self.readonly:
            raise BackendError("Image is read-only")
        if self.is_null:
            raise BackendError("Image format driver does not support resize")
        if self.disk_size is not None:
            raise BackendError("Cannot resize fixed-size raw disks")
        if self.is_block_device:
            if size > self.refresh_size():
                raise BackendError("Cannot grow device files")
        else:
            try:
                os.ftruncate(self.fd, self.offset + size)
            except (OSError, OverflowError) as error:
                why = getattr(error, "strerror", None) or "File too large"
                raise BackendError(f"Failed to resize the file: {why}") from None
        self.refresh_size()
        if self.resized is not None:
            self.resized()

    def take(self, device: str, *, share_rw: bool = False) -> None:
        """A device plugs in; lock the image.

        :param share_rw: others may write to the image meanwhile (a cluster file system)
        :raises BackendError: another device, or another program, has it
        """
        if not self.is_inserted:
            raise BackendError(f"{device} needs a medium, and drive '{self.name}' has none; set its file")
        super().take(device)
        if self.is_null:
            return
        try:
            if not lock_image(self.fd, write=not self.readonly, share_write=share_rw):
                log.warning("drive '%s': %s: no locks on its file system; take care not to use it twice", self.name, self._where)
        except ImageBusyError as busy:
            super().release()
            advice = "end the other user, or set share-rw=on for both where their guests share the disk's file system"
            raise self._error(str(busy), advice) from None
        except OSError as error:
            super().release()
            raise self._error(f"cannot be locked: {error.strerror}") from None

    def release(self) -> None:
        """The device is gone; unlock the image. A drive that came with :meth:`leave_with_device` goes, too."""
        self.resized = None
        if self.fd >= 0:
            unlock_image(self.fd)
        super().release()
        if self._goes and self.machine is not None:
            if self.machine.backends.get((self.section, self.name)) is self:
                self.machine.remove_backend(self.section, self.name)
            else:
                self.close()  # its name has gone before

    def leave_with_device(self) -> None:
        """The device is being unplugged: its drive goes with it, as in QEMU, unless it is a node only."""
        self._goes = not self.is_node_only

    def eject(self) -> None:
        """Take the contents away from under the device (QEMU: drive_del): it has no sectors any more, each access is an error."""
        self.size = 0
        if self.resized is not None:
            self.resized()

    def close(self) -> None:
        """Close the image; its locks go with it."""
        if self._below is not None:
            Backend.release(self._below)
            self._below = None
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
