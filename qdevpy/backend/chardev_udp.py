# SPDX-License-Identifier: Apache-2.0
"""``{type: udp}``: datagrams, each write and each read one. As QEMU's ``chardev/char-udp.c``."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any, ClassVar

import attrs

from qdevpy.backend.chardev import Buffer
from qdevpy.backend.chardev_stream import StreamChardev
from qdevpy.errors import BackendError
from qdevpy.qdev import property as prop

#: the largest datagram there is
DATAGRAM = 65536


class UdpChardev(StreamChardev):
    """A UDP socket. Datagrams that nobody receives are lost, and so is what the device has no room for."""

    type_name: ClassVar[str] = "udp"
    description: ClassVar[str] = "UDP datagrams"
    required: ClassVar[Sequence[str]] = ("port",)

    host: str | None = prop.string(help="where datagrams go; default: localhost")
    port: int | None = prop.uint16(None, help="where datagrams go")
    localaddr: str | None = prop.string(help="where they come from; default: any address")
    localport: int | None = prop.uint16(None, help="our port; default: a free one")

    _socket: socket.socket | None = attrs.field(default=None, init=False)

    def open(self) -> None:
        """:raises BackendError: no such host, or the port is taken."""
        if self.port is None:
            raise BackendError(f"chardev '{self.name}': property 'port' is missing; give the port to send to")
        try:
            self._open(self.host or "localhost", self.port)
        except OSError as error:
            self._close_socket()
            where = f"{self.host or 'localhost'}:{self.port}"
            raise BackendError(f"chardev '{self.name}': udp {where}: {error.strerror or error}") from error
        assert self._socket is not None
        self.start_stream(self._socket.fileno(), self._socket.fileno())

    def _open(self, host: str, port: int) -> None:
        family, _, _, _, remote = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        if self.localaddr is not None or self.localport is not None:
            own: Any = self.localaddr or ("::" if family == socket.AF_INET6 else "0.0.0.0")
            self._socket.bind((own, self.localport or 0))
        self._socket.connect(remote)

    def close(self) -> None:
        """Close it."""
        self.stop_stream()
        self._close_socket()

    def _close_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def send(self, data: Buffer) -> int:
        """One datagram; a peer that is not there loses it."""
        assert self._socket is not None
        try:
            return self._socket.send(memoryview(data)[:DATAGRAM])
        except ConnectionRefusedError:
            return len(data)

    def received(self, data: bytes) -> None:
        """A datagram."""
        self.deliver(data[: self.room()])

    def input_ended(self) -> None:
        """An empty datagram, or word that the peer is not there: more may come."""

    @property
    def filename(self) -> str:
        """As QEMU's."""
        return "udp"
