# SPDX-License-Identifier: Apache-2.0
"""``{type: dgram}``: one frame per UNIX datagram, as QEMU's ``-netdev dgram``."""

from __future__ import annotations

import socket
from typing import ClassVar

import attrs

from qdevpy.backend import netdev_unix
from qdevpy.backend.netdev import NetDev, Port, PortKind
from qdevpy.qdev import property as prop


class DgramNetDev(NetDev):
    """A datagram socket. The peer need not be there: frames to nobody are dropped, and the link is up.

    As QEMU's ``net/dgram.c``, with the address families unix and fd.
    """

    type_name: ClassVar[str] = "dgram"
    description: ClassVar[str] = "UNIX datagram socket, a frame per datagram"

    local_type: str = prop.enum(
        "unix", choices=("unix", "fd"), type_name="SocketAddressType", name="local.type", help="sort of our address"
    )
    local_path: str | None = prop.path(name="local.path", help="unix: our socket; made with mode 0600, removed at the end")
    local_str: str | None = prop.string(name="local.str", help="fd: number of a connected datagram socket that we inherited")
    remote_type: str = prop.enum(
        "unix", choices=("unix",), type_name="SocketAddressType", name="remote.type", help="sort of the peer's address"
    )
    remote_path: str | None = prop.path(name="remote.path", help="unix: the peer's socket")

    _bound: netdev_unix.BoundSocket | None = attrs.field(default=None, init=False)
    _socket: socket.socket | None = attrs.field(default=None, init=False)

    def open(self) -> None:
        """Bind our address.

        :raises BackendError: options that do not fit together, or the host refuses
        """
        if self.local_type == "fd":
            self._adopt()
            return
        if self.local_path is None or self.remote_path is None:
            raise self.fail("give 'local.path' and 'remote.path', or 'local.type: fd' with 'local.str'")
        if len(self.remote_path.encode()) > netdev_unix.LONGEST_PATH:
            raise self.fail(f"remote.path {self.remote_path}: longer than the {netdev_unix.LONGEST_PATH} bytes of a UNIX address")
        try:
            self._bound = netdev_unix.bind(socket.SOCK_DGRAM, self.local_path)
        except OSError as error:
            raise self.fail(f"local.path {self.local_path}: {error.strerror or error}") from error
        self._socket = self._bound.socket

    def _adopt(self) -> None:
        if self.local_str is None or self.local_path is not None or self.remote_path is not None:
            raise self.fail("'local.type: fd' goes with 'local.str', the number of a connected socket, and nothing else")
        try:
            self._socket = netdev_unix.adopt(self.local_str)
        except (ValueError, OSError) as error:
            raise self.fail(f"local.str {self.local_str}: {error}; expected the number of an open datagram socket") from error

    def close(self) -> None:
        """Close, and remove our address."""
        if self._bound is not None:
            self._bound.close()
        elif self._socket is not None:
            self._socket.close()
        self._bound = self._socket = None

    def port(self, index: int) -> Port | None:
        """The socket."""
        return None if self._socket is None else Port(PortKind.DGRAM, self._socket.fileno(), self.remote_path)
