# SPDX-License-Identifier: Apache-2.0
"""Kernel vhost-net: the host's kernel moves frames between a tap and a card's queues (linux/vhost.h).

An open ``/dev/vhost-net`` serves one queue pair, so a card with several has as many. The calls go through :data:`ioctl`.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from qdevpy.errors import VhostError
from qdevpy.vhost.backend import VhostBackend, Vring
from qdevpy.vhost.messages import U64, VRING_STATE, Region, vring_addresses

DEVICE = "/dev/vhost-net"

# linux/vhost.h
VHOST_GET_FEATURES = 0x8008AF00
VHOST_SET_FEATURES = 0x4008AF00
VHOST_SET_OWNER = 0xAF01
VHOST_SET_MEM_TABLE = 0x4008AF03
VHOST_SET_VRING_NUM = 0x4008AF10
VHOST_SET_VRING_ADDR = 0x4028AF11
VHOST_SET_VRING_BASE = 0x4008AF12
VHOST_GET_VRING_BASE = 0xC008AF12
VHOST_SET_VRING_KICK = 0x4008AF20
VHOST_SET_VRING_CALL = 0x4008AF21
VHOST_SET_VRING_ERR = 0x4008AF22
VHOST_NET_SET_BACKEND = 0x4008AF30

_FILE = struct.Struct("=Ii")
_REGION = struct.Struct("=QQQQ")
_NAMES = {value: name for name, value in list(globals().items()) if name.startswith("VHOST_")}

#: how the kernel is called; tests put another kernel in its place
ioctl: Callable[[int, int, Any], Any] = fcntl.ioctl


def open_device(inherited: int | None = None) -> int:
    """:data:`DEVICE`, or a duplicate of a descriptor of it that we INHERITED.

    :raises OSError: it is not there, or not for us
    """
    if inherited is not None:
        return fcntl.fcntl(inherited, fcntl.F_DUPFD_CLOEXEC, 0)
    return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)


class VhostKernelNet(VhostBackend):
    """As many open devices as there are queue pairs; vrings 2n and 2n + 1 are device n's.

    :param fds: open devices; ours to close
    :param taps: a tap queue for each; the netdev's
    """

    def __init__(self, fds: Sequence[int], taps: Sequence[int]) -> None:
        self._fds = list(fds)
        self._taps = list(taps)
        self.max_queues = len(self._fds)

    def negotiate(self) -> None:
        """Become the owner, and learn the features that all have.

        :raises VhostError: it is no vhost-net, or it has another owner
        """
        for number, fd in enumerate(self._fds):
            self._call(fd, VHOST_SET_OWNER, 0)
            features: int = U64.unpack(self._bytes(fd, VHOST_GET_FEATURES, bytes(U64.size)))[0]
            self.features = features if not number else self.features & features

    def close(self) -> None:
        """The kernel stops what is left."""
        while self._fds:
            with suppress(OSError):
                os.close(self._fds.pop())

    def _call(self, fd: int, what: int, argument: bytes | int) -> Any:
        try:
            return ioctl(fd, what, argument)
        except OSError as error:
            raise VhostError(f"refuses {_NAMES[what]}: {error.strerror}") from error

    def _bytes(self, fd: int, what: int, argument: bytes) -> bytes:
        answer = self._call(fd, what, argument)
        assert isinstance(answer, bytes)
        return answer

    # -- VhostBackend

    def set_features(self, features: int) -> None:
        """VHOST_SET_FEATURES."""
        for fd in self._fds:
            self._call(fd, VHOST_SET_FEATURES, U64.pack(features))

    def set_memory(self, regions: Sequence[Region]) -> None:
        """VHOST_SET_MEM_TABLE: the kernel uses our mapping."""
        table = struct.pack("=II", len(regions), 0)
        table += b"".join(_REGION.pack(region.gpa, region.size, region.hva, 0) for region in regions)
        for fd in self._fds:
            self._call(fd, VHOST_SET_MEM_TABLE, table)

    def start_vring(self, index: int, vring: Vring) -> None:
        """Everything but :meth:`enable`."""
        fd, own = self._fds[index // 2], index % 2
        self._call(fd, VHOST_SET_VRING_NUM, VRING_STATE.pack(own, vring.size))
        self._call(fd, VHOST_SET_VRING_BASE, VRING_STATE.pack(own, vring.base))
        self._call(fd, VHOST_SET_VRING_ADDR, vring_addresses(own, vring.ring))
        self._call(fd, VHOST_SET_VRING_KICK, _FILE.pack(own, vring.kick))
        self._call(fd, VHOST_SET_VRING_CALL, _FILE.pack(own, vring.call))
        self._call(fd, VHOST_SET_VRING_ERR, _FILE.pack(own, vring.err))

    def set_call(self, index: int, fd: int) -> None:
        """VHOST_SET_VRING_CALL."""
        self._call(self._fds[index // 2], VHOST_SET_VRING_CALL, _FILE.pack(index % 2, fd))

    def enable(self, index: int, enabled: bool) -> None:
        """VHOST_NET_SET_BACKEND: with a tap a vring is served, with -1 it is not."""
        tap = self._taps[index // 2] if enabled else -1
        self._call(self._fds[index // 2], VHOST_NET_SET_BACKEND, _FILE.pack(index % 2, tap))

    def stop_vring(self, index: int) -> int:
        """VHOST_NET_SET_BACKEND with -1, which waits for what is in flight, then VHOST_GET_VRING_BASE."""
        self.enable(index, False)
        answer = self._bytes(self._fds[index // 2], VHOST_GET_VRING_BASE, VRING_STATE.pack(index % 2, 0))
        return int(VRING_STATE.unpack(answer)[1])
