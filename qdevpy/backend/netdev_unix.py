# SPDX-License-Identifier: Apache-2.0
"""UNIX sockets that have a name: bound without harm to another's, removed by who made them."""

from __future__ import annotations

import errno
import os
import socket
import stat

import attrs

#: sun_path with its final zero has 108 bytes, unix(7)
LONGEST_PATH = 107


@attrs.frozen
class BoundSocket:
    """A socket with the name that it was given in the file system.

    :ivar inode: device and number of what bind() made
    """

    socket: socket.socket
    path: str
    inode: tuple[int, int]

    def close(self) -> None:
        """Close, and remove the name unless somebody has put another socket in its place."""
        self.socket.close()
        try:
            if inode_of(self.path) == self.inode:
                os.unlink(self.path)
        except FileNotFoundError:
            return


def bind(kind: int, path: str) -> BoundSocket:
    """A non-blocking UNIX socket of KIND (``SOCK_STREAM``, ``SOCK_DGRAM``), mode 0600, bound to PATH.

    :raises OSError: somebody uses PATH, or the host refuses
    """
    made = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK)
    try:
        remove_stale(kind, path)
        os.fchmod(made.fileno(), 0o600)  # Linux gives the file the socket's own mode
        made.bind(path)
        return BoundSocket(made, path, inode_of(path))
    except BaseException:
        made.close()
        raise


def inode_of(path: str) -> tuple[int, int]:
    """Device and inode number."""
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def remove_stale(kind: int, path: str) -> None:
    """Remove a socket that nobody has open any more, as a crashed program leaves it.

    :raises OSError: somebody has, or it is something else
    """
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "the file exists and is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError:  # another kind of socket, a full backlog, connected to somebody: it lives
            pass
    raise OSError(errno.EADDRINUSE, "somebody else uses it")


def adopt(number: str) -> socket.socket:
    """The connected socket that this process was given as descriptor NUMBER; non-blocking, ours from now on.

    :raises ValueError: not a number
    :raises OSError: no socket
    """
    given = socket.socket(fileno=int(number))
    given.setblocking(False)
    os.set_inheritable(given.fileno(), False)
    return given
