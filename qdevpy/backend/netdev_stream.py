# SPDX-License-Identifier: Apache-2.0
"""``{type: stream}``: frames on a UNIX stream, each behind 32 bits of length, as QEMU's ``-netdev stream``.

::

    server:  LISTENING <--accept / peer gone--> CONNECTED
    client:  CONNECTED --peer gone--> closed, or after `reconnect` seconds connect again until it works
"""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, ClassVar

import attrs

from qdevpy.backend import netdev_unix
from qdevpy.backend.netdev import NetDev, Port, PortKind
from qdevpy.qdev import property as prop

if TYPE_CHECKING:
    from qdevpy.vm.loop import Timer

log = logging.getLogger(__name__)


class StreamNetDev(NetDev):
    """A stream socket; the link is up while somebody is connected. As QEMU's ``net/stream.c``, without TCP."""

    type_name: ClassVar[str] = "stream"
    description: ClassVar[str] = "UNIX stream socket, server or client (passt)"

    server: bool = prop.boolean(help="listen instead of connecting; one connection at a time")
    addr_type: str = prop.enum(
        "unix", choices=("unix", "fd"), type_name="SocketAddressType", name="addr.type", help="sort of address"
    )
    addr_path: str | None = prop.path(name="addr.path", help="unix: the socket; a server makes it with mode 0600")
    addr_str: str | None = prop.string(name="addr.str", help="fd: number of a connected stream socket that we inherited")
    reconnect: int = prop.uint32(0, maximum=86400, help="client: seconds after which to try again; 0: never")

    _listener: netdev_unix.BoundSocket | None = attrs.field(default=None, init=False)
    _peer: socket.socket | None = attrs.field(default=None, init=False)
    _timer: Timer | None = attrs.field(default=None, init=False)

    def open(self) -> None:
        """Connect or listen.

        :raises BackendError: options that do not fit together, or the host refuses
        """
        self._check()
        self.link_up = False
        try:
            if self.addr_type == "fd":
                self.connected(netdev_unix.adopt(str(self.addr_str)))
            elif self.server:
                self._listen()
            else:
                self._connect()
        except (ValueError, OSError) as error:
            where = f"addr.str {self.addr_str}" if self.addr_type == "fd" else self.addr_path
            what = "listen at" if self.server else "connect to"
            raise self.fail(f"cannot {what} {where}: {getattr(error, 'strerror', None) or error}") from error

    def _check(self) -> None:
        if self.addr_type == "fd":
            if self.addr_str is None or self.addr_path is not None or self.server or self.reconnect:
                raise self.fail("'addr.type: fd' goes with 'addr.str', the number of a connected socket, and nothing else")
        elif self.addr_path is None:
            raise self.fail("give 'addr.path', the path of a UNIX socket")
        if self.server and self.reconnect:
            raise self.fail("'reconnect' is a client's; a server always takes the next connection")

    def close(self) -> None:
        """Hang up; a server removes its socket."""
        if self._timer is not None:
            self._timer.cancel()
        if self._peer is not None:
            self._peer.close()
        if self._listener is not None:
            self.machine.loop.remove_reader(self._listener.socket.fileno())
            self._listener.close()
        self._timer = self._peer = self._listener = None

    def port(self, index: int) -> Port | None:
        """The connection, where there is one."""
        return None if self._peer is None else Port(PortKind.STREAM, self._peer.fileno())

    @property
    def summary(self) -> str:
        """As QEMU's: the address."""
        if self._peer is None:
            return ""
        return f"fd:{self.addr_str}" if self.addr_type == "fd" else f"unix:{self.addr_path}"

    def peer_gone(self) -> None:
        """Hang up, link down; then take the next connection, or make one, or stay alone."""
        if self._peer is None:
            return
        log.info("netdev '%s': the peer hung up", self.name)
        self._peer.close()
        self._peer = None
        self.set_link(False)
        if self._listener is not None:
            self.machine.loop.add_reader(self._listener.socket.fileno(), self._accept)
        elif self.reconnect:
            self._timer = self.machine.loop.call_later(self.reconnect, self._connect)

    def connected(self, peer: socket.socket) -> None:
        """Somebody is there."""
        peer.setblocking(False)
        self._peer = peer
        self.set_link(True)

    def _listen(self) -> None:
        self._listener = netdev_unix.bind(socket.SOCK_STREAM, str(self.addr_path))
        self._listener.socket.listen(1)
        self.machine.loop.add_reader(self._listener.socket.fileno(), self._accept)

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            peer = self._listener.socket.accept()[0]
        except OSError as error:  # it went away before we came
            log.debug("netdev '%s': accept: %s", self.name, error.strerror)
            return
        # others wait in the backlog until this one is gone
        self.machine.loop.remove_reader(self._listener.socket.fileno())
        self.connected(peer)

    def _connect(self) -> None:
        """Connect now (a UNIX socket never lets one wait); with ``reconnect`` a failure means to try later."""
        self._timer = None
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            peer.connect(str(self.addr_path))
        except OSError as error:
            peer.close()
            if not self.reconnect:
                raise
            log.debug("netdev '%s': %s: %s; next try in %d s", self.name, self.addr_path, error.strerror, self.reconnect)
            self._timer = self.machine.loop.call_later(self.reconnect, self._connect)
            return
        self.connected(peer)
