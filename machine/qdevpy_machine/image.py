# SPDX-License-Identifier: Apache-2.0
"""Files that are loaded into guest memory: every read is checked, and goes straight into the guest's pages."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from qdevpy.errors import BootError, GuestAddressError

if TYPE_CHECKING:
    from qdevpy.native.memory import GuestMemory


class Image:
    """An open image file; a context manager.

    :param what: ``kernel`` or ``initrd``, for messages
    :param path: the file
    :raises BootError: it cannot be opened, or is no plain file
    :ivar size: bytes
    """

    def __init__(self, what: str, path: str) -> None:
        self.what = what
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise BootError(f"{what} '{path}': cannot be opened: {error.strerror}") from error
        status = os.fstat(self._fd)
        self.size = status.st_size
        if not stat.S_ISREG(status.st_mode):
            os.close(self._fd)
            raise self.error("not a plain file")

    def __enter__(self) -> Image:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)

    def error(self, message: str) -> BootError:
        """The error that says MESSAGE, with the file's name before it."""
        return BootError(f"{self.what} '{self.path}': {message}")

    def read(self, offset: int, count: int) -> bytes:
        """COUNT bytes at OFFSET.

        :raises BootError: the file ends before them
        """
        self._check(offset, count)
        try:
            data = os.pread(self._fd, count, offset)
        except OSError as error:
            raise self.error(f"cannot be read: {error.strerror}") from error
        if len(data) < count:
            raise self.error("ended while it was read")
        return data

    def load(self, memory: GuestMemory, offset: int, count: int, address: int) -> None:
        """COUNT bytes at OFFSET into guest memory at ADDRESS.

        :raises BootError: the file ends before them, or they are not all RAM
        """
        self._check(offset, count)
        try:
            view = memory.view(address, count)
        except GuestAddressError as error:
            raise self.error(
                f"{count} bytes at {address:#x} do not fit in the machine's {describe(memory)}; give it more memory"
            ) from error
        while view:
            try:
                done = os.preadv(self._fd, [view], offset)
            except OSError as error:
                raise self.error(f"cannot be read: {error.strerror}") from error
            if not done:
                raise self.error("ended while it was read")
            view, offset = view[done:], offset + done

    def _check(self, offset: int, count: int) -> None:
        if offset < 0 or count < 0 or offset + count > self.size:
            raise self.error(f"truncated: {count} bytes expected at offset {offset}, the file has {self.size}")


def describe(memory: GuestMemory) -> str:
    """The machine's RAM in words, for messages."""
    return f"{sum(region.size for region in memory.regions) >> 20} MiB of RAM"
