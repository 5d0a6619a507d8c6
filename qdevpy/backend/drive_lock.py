# SPDX-License-Identifier: Apache-2.0
"""Image locks, so that two machines do not write to one image; those of QEMU's ``block/file-posix.c``.

Byte ``100 + n`` of the file, locked shared, says "I use permission n"; byte ``200 + n`` says "I do not let
others use it". Everybody locks first and looks for contradictions afterwards, so nobody can slip through. The
same bytes mean the same to QEMU and qemu-img. The locks belong to the open file description (F_OFD_SETLK):
another drive of the same process is somebody else too.
"""

from __future__ import annotations

import errno
import fcntl
import struct

READ = 0  #: permission to read, and to find what one wrote
WRITE = 1  #: permission to write

_USED = 100
_REFUSED = 200
_FLOCK = "hhqqi4x"  # struct flock of x86-64: l_type, l_whence, l_start, l_len, l_pid

#: what file systems without locks answer
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


class ImageBusyError(Exception):
    """Somebody else uses the image in a way that does not go together with ours; the text says how."""


def _set(fd: int, kind: int, byte: int) -> None:
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, kind, 0, byte, 1, 0))


def _held_by_others(fd: int, byte: int) -> bool:
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, 0, byte, 1, 0))
    return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)


def lock_image(fd: int, *, write: bool, share_write: bool) -> bool:
    """Declare that FD's image is read (and written), and whether others may write meanwhile.

    :returns: False where the file system has no locks
    :raises ImageBusyError: somebody else's use contradicts; no lock is left behind
    """
    used = (READ, WRITE) if write else (READ,)
    try:
        for permission in used:
            _set(fd, fcntl.F_RDLCK, _USED + permission)
        if not share_write:
            _set(fd, fcntl.F_RDLCK, _REFUSED + WRITE)
        if not share_write and _held_by_others(fd, _USED + WRITE):
            raise ImageBusyError("somebody else has it open for writing")
        for permission in used:
            if _held_by_others(fd, _REFUSED + permission):
                raise ImageBusyError("somebody else has it open and does not let others write to it")
    except ImageBusyError:
        unlock_image(fd)
        raise
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        unlock_image(fd)
        raise
    return True


def unlock_image(fd: int) -> None:
    """Undo :func:`lock_image`; harmless where nothing is locked."""
    try:
        for byte in (_USED + READ, _USED + WRITE, _REFUSED + WRITE):
            _set(fd, fcntl.F_UNLCK, byte)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
