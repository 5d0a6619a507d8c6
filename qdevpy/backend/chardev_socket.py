# SPDX-License-Identifier: Apache-2.0
"""``{type: socket}``: a UNIX or TCP stream, as server or as client; one connection at a time, for monitors several.

::

    server:  LISTENING <--accept / connection ends--> CONNECTED; with serve() LISTENING, and any number of connections
    client:  CONNECTED --connection ends--> closed, or after `reconnect` seconds CONNECTING --> CONNECTED
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from qdevpy.backend.chardev import Buffer
from qdevpy.backend.chardev_stream import StreamChardev
from qdevpy.backend.telnet import GREETING, IAC, TelnetInput
from qdevpy.errors import BackendError
from qdevpy.qdev import property as prop

if TYPE_CHECKING:
    from qdevpy.vm.loop import Timer
    from qdevpy.vm.machine import Machine

log = logging.getLogger(__name__)

#: connections of a monitor at a time; others wait
MAX_CONNECTIONS = 64


class SocketChardev(StreamChardev):
    """A stream socket. As QEMU's ``chardev/char-socket.c``, without TLS and WebSocket."""

    type_name: ClassVar[str] = "socket"
    description: ClassVar[str] = "UNIX or TCP socket, server or client"
    watches_hangup: ClassVar[bool] = True

    path: str | None = prop.path(help="UNIX socket; a server makes it with mode 0600 and removes it at the end")
    host: str | None = prop.string(help="TCP: address to connect to, or to listen at (default: localhost)")
    port: int | None = prop.uint16(None, help="TCP: port; 0: a server takes a free one")
    server: bool = prop.boolean(help="listen instead of connecting")
    wait: bool = prop.boolean(help="server: do not start the machine before somebody has connected")
    reconnect: int = prop.uint32(0, maximum=86400, help="client: seconds after which to try again; 0: never")
    nodelay: bool = prop.boolean(help="TCP: send small pieces at once")
    telnet: bool = prop.boolean(help="TCP: talk to a telnet client, or server")

    _listener: socket.socket | None = attrs.field(default=None, init=False)
    _peer: socket.socket | None = attrs.field(default=None, init=False)
    _address: tuple[int, Any] = attrs.field(default=(0, ""), init=False)
    _inode: tuple[int, int] | None = attrs.field(default=None, init=False)
    _timer: Timer | None = attrs.field(default=None, init=False)
    _accepted: Callable[[SocketChardev], Callable[[], None]] | None = attrs.field(default=None, init=False)
    _connections: list[SocketChardev] = attrs.field(factory=list, init=False)
    _on_end: Callable[[], None] | None = attrs.field(default=None, init=False)
    _telnet: TelnetInput | None = attrs.field(default=None, init=False)
    _doubled: bool = attrs.field(default=False, init=False)  # telnet: the first of two bytes 255 is on its way

    # -- opening and closing

    def open(self) -> None:
        """:raises BackendError: options that do not fit together, or the host refuses."""
        self._check()
        try:
            self._address = self._resolve()
            if self.server:
                self._listen()
            elif self.reconnect:
                self._connect_later(0)
            else:
                self._connect()
        except OSError as error:
            self._close_sockets()
            what = "listen at" if self.server else "connect to"
            raise BackendError(f"chardev '{self.name}': cannot {what} {self.where}: {error.strerror or error}") from error

    @classmethod
    def of_listener(cls, name: str, path: str, fd: int, machine: Machine) -> SocketChardev:
        """One that is open already: it takes over a UNIX socket that listens at PATH."""
        chardev = cls(id=name, path=path, server=True)
        chardev.machine = machine
        chardev._listener = socket.socket(fileno=fd)
        made = os.lstat(path)
        chardev._inode = made.st_dev, made.st_ino
        return chardev

    def close(self) -> None:
        """Send what waits, hang up, remove the socket."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        self.drain()
        self.stop_stream()
        self._close_sockets()
        self._unlink()

    @property
    def where(self) -> str:
        """The address as the user would write it."""
        if self.path is not None:
            return self.path
        return f"{self.host or 'localhost'}:{self.port}"

    @property
    def filename(self) -> str:
        """As QEMU's: ``disconnected:`` in front where nobody is there, and which side we are."""
        state = "" if self.is_open else "disconnected:"
        if self.path is not None:
            return f"{state}unix:{self.path}{',server=on' if self.server else ''}"
        port = self.bound_port if self._listener is not None else self.port
        protocol = "telnet" if self.telnet else "tcp"
        return f"{state}{protocol}:{self.host or 'localhost'}:{port}{',server=on' if self.server else ''}"

    @property
    def bound_port(self) -> int:
        """The TCP port that a server listens at."""
        assert self._listener is not None
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def connection(self) -> socket.socket | None:
        """Whoever is at the other end, for a device whose messages carry descriptors; it takes no input as a chardev then."""
        return self._peer if self.is_open else None

    @property
    def comes_again(self) -> bool:
        """Whether there may be another connection once there is none."""
        return self._listener is not None or bool(self.reconnect)

    def _check(self) -> None:
        def refuse(why: str) -> None:
            raise BackendError(f"chardev '{self.name}': {why}")

        if (self.path is None) == (self.port is None):
            refuse("give either 'path' (UNIX) or 'port' (TCP)")
        if self.path is not None and (self.host is not None or self.nodelay or self.telnet):
            refuse("'host', 'nodelay' and 'telnet' are of TCP and do not go with 'path'")
        if self.server and self.reconnect:
            refuse("'reconnect' is a client's; a server always takes the next connection")
        if self.wait and not self.server:
            refuse("'wait' is a server's; a client without 'reconnect' connects before the machine starts")

    def _resolve(self) -> tuple[int, Any]:
        if self.path is not None:
            return socket.AF_UNIX, self.path
        found = socket.getaddrinfo(self.host or "localhost", self.port, type=socket.SOCK_STREAM)[0]
        return found[0], found[4]

    def _close_sockets(self) -> None:
        if self._peer is not None:
            self.machine.loop.remove_writer(self._peer.fileno())
            self._peer.close()
        if self._listener is not None:
            self.machine.loop.remove_reader(self._listener.fileno())
            self._listener.close()
        self._peer = self._listener = None

    def _unlink(self) -> None:
        """Remove the server's UNIX socket, unless somebody has put another in its place."""
        if self._inode is None or self.path is None:
            return
        try:
            now = os.lstat(self.path)
            if (now.st_dev, now.st_ino) == self._inode:
                os.unlink(self.path)
        except FileNotFoundError:
            return

    # -- server

    def _listen(self) -> None:
        family, address = self._address
        self._listener = listener = socket.socket(family, socket.SOCK_STREAM)
        if self.path is not None:
            remove_stale(self.path)
            os.fchmod(listener.fileno(), 0o600)  # Linux gives the inode that bind() makes the socket's own mode
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        if self.path is not None:
            made = os.lstat(self.path)
            self._inode = made.st_dev, made.st_ino
        listener.listen(1)
        if self.wait:
            print(f"chardev '{self.name}': waiting for a connection to {self.where}", file=sys.stderr, flush=True)
            self._connected(listener.accept()[0], accepted=True)
        else:
            self._await_client()

    def _await_client(self) -> None:
        if self._listener is not None:
            self._listener.setblocking(False)
            self.machine.loop.add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            peer = self._listener.accept()[0]
        except OSError as error:  # it went away before we came
            log.debug("chardev '%s': accept: %s", self.name, error.strerror)
            return
        if self._accepted is None or len(self._connections) + 1 >= MAX_CONNECTIONS:
            # others wait in the backlog until one is gone
            self.machine.loop.remove_reader(self._listener.fileno())
        if self._accepted is None:
            self._connected(peer, accepted=True)
        else:
            self._hand_over(peer)

    def serve(self, accepted: Callable[[SocketChardev], Callable[[], None]]) -> None:
        """Instead of one connection for one device, have any number, each a chardev of its own.

        :param accepted: called with every new one, which is open; what it returns is called at the connection's end.
            Those that are left are closed with the listener
        """
        assert self._listener is not None
        self._accepted = accepted
        self._listener.listen(MAX_CONNECTIONS)
        peer, self._peer = self._peer, None  # it has waited for one
        if peer is not None:
            self.stop_stream()
            self.is_open = False
            self._hand_over(peer)
        self._await_client()

    def _hand_over(self, peer: socket.socket) -> None:
        assert self._accepted is not None
        connection = SocketChardev(
            id=self.id, path=self.path, host=self.host, port=self.port, nodelay=self.nodelay, telnet=self.telnet
        )
        connection.machine = self.machine
        self._connections.append(connection)
        connection._connected(peer, accepted=True)
        ended = self._accepted(connection)

        def over() -> None:
            self._connections.remove(connection)
            ended()
            self._await_client()

        connection._on_end = over

    def hang_up(self) -> None:
        """End the connection; what waits to be sent is lost."""
        self.input_ended()

    # -- client

    def _connect(self) -> None:
        family, address = self._address
        self._peer = socket.socket(family, socket.SOCK_STREAM)
        self._peer.connect(address)
        self._connected(self._peer)

    def _connect_later(self, seconds: float) -> None:
        self._timer = self.machine.loop.call_later(seconds, self._try_connect)

    def _try_connect(self) -> None:
        """Start to connect; the main loop must not wait for it."""
        family, address = self._address
        self._peer = socket.socket(family, socket.SOCK_STREAM)
        self._peer.setblocking(False)
        try:
            self._peer.connect(address)
        except OSError as error:
            if error.errno == errno.EINPROGRESS:
                self.machine.loop.add_writer(self._peer.fileno(), self._connect_finished)
            else:  # also EAGAIN: a UNIX server with a full backlog, of which nothing would come
                self._connect_failed(error)
        else:
            self._connected(self._peer)

    def _connect_finished(self) -> None:
        assert self._peer is not None
        self.machine.loop.remove_writer(self._peer.fileno())
        code = self._peer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._connect_failed(OSError(code, os.strerror(code)))
        else:
            self._connected(self._peer)

    def _connect_failed(self, error: OSError) -> None:
        log.debug("chardev '%s': %s: %s; next try in %d s", self.name, self.where, error.strerror, self.reconnect)
        self._close_sockets()
        self._connect_later(self.reconnect)

    # -- connection

    def _connected(self, peer: socket.socket, *, accepted: bool = False) -> None:
        peer.setblocking(False)
        if self.nodelay:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._peer = peer
        if self.telnet:
            self._telnet, self._doubled = TelnetInput(), False
            if accepted:  # a new connection takes as much at once
                with suppress(OSError):
                    peer.send(GREETING, socket.MSG_NOSIGNAL)
        self.start_stream(peer.fileno(), peer.fileno())

    def received(self, data: bytes) -> None:
        """What a telnet client says about the connection is not for the device."""
        if self._telnet is None:
            self.deliver(data)
            return
        for piece in self._telnet.feed(data):
            if piece is None:
                self.send_event("break")
            else:
                self.deliver(piece)

    def send(self, data: Buffer) -> int:
        """Without ever blocking, and without SIGPIPE."""
        assert self._peer is not None
        return self._send_telnet(bytes(data)) if self.telnet else self._peer.send(data, socket.MSG_NOSIGNAL)

    def _send_telnet(self, data: bytes) -> int:
        """Up to the next byte 255, or that byte twice; how much of DATA is gone."""
        assert self._peer is not None
        if data[0] != IAC:
            return self._peer.send(data.partition(b"\xff")[0], socket.MSG_NOSIGNAL)
        sent = self._peer.send(b"\xff" if self._doubled else b"\xff\xff", socket.MSG_NOSIGNAL)
        self._doubled = not self._doubled and sent == 1
        return 0 if self._doubled else 1

    def input_ended(self) -> None:
        """The connection is over: wait for the next, connect again, or stay closed."""
        if self._peer is None:
            return
        self.stop_stream()
        self._peer.close()
        self._peer = None
        self.set_open(False)
        if self.server:
            self._await_client()
        elif self.reconnect:
            self._connect_later(self.reconnect)
        elif self._on_end is not None:
            self._on_end()

    def output_failed(self, error: OSError) -> None:
        """Reset by the peer; the event comes from the main loop, the device is in the middle of writing."""
        log.debug("chardev '%s': %s", self.name, error.strerror)
        if self._out is not None and self._waiting:
            self.machine.loop.remove_writer(self._out)
        self._waiting.clear()
        self._out = None
        peer = self._peer
        self.machine.loop.call_soon(lambda: self.input_ended() if self._peer is peer else None)


def remove_stale(path: str) -> None:
    """Remove a UNIX socket that nobody listens at any more.

    :raises OSError: somebody does, or it is something else
    """
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "the file exists and is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:  # its backlog is full: it lives
            pass
    raise OSError(errno.EADDRINUSE, "somebody else listens there")
