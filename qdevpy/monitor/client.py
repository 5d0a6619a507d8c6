# SPDX-License-Identifier: Apache-2.0
"""A QMP client for our own commands: blocking, one command at a time. Others use QEMU's ``qemu.qmp``."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from typing import Any, NoReturn, Self

from qdevpy.errors import MachineGoneError, MonitorClientError

#: seconds until a machine that does not answer is given up
PATIENCE = 30.0


def connect(address: str) -> socket.socket:
    """To a UNIX socket's path, or to ``HOST:PORT``.

    :raises OSError: nobody listens there
    """
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and "/" not in address:
        return socket.create_connection((host.strip("[]"), int(port)), PATIENCE)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(PATIENCE)
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


class QmpClient:
    """A connection to a machine's QMP monitor, negotiated; a context manager.

    :param address: see :func:`connect`
    :raises MonitorClientError: nobody is there, or it is no QMP monitor
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._ended = ""
        try:
            self._socket = connect(address)
        except OSError as error:
            raise MonitorClientError(
                f"{address}: cannot connect: {error.strerror or error}; expected a machine's control socket, or a QMP monitor's "
                "(docs/top.md)"
            ) from error
        self._input = self._socket.makefile("rb")
        try:
            greeting = self._receive()
            if "QMP" not in greeting:
                raise MonitorClientError(f"{address}: speaks, but not QMP; a monitor of mode 'control' does")
            self.execute("qmp_capabilities")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._input.close()
        self._socket.close()

    def execute(self, name: str, **arguments: Any) -> Any:
        """Carry out a command; what it returns. ``_`` in an argument's name is ``-``.

        :raises MonitorClientError: the machine's reason why not
        :raises MachineGoneError: it has ended
        """
        request = {"execute": name, "arguments": {key.replace("_", "-"): value for key, value in arguments.items()}}
        with suppress(OSError):  # it is gone; what it had to say is still to be read
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            message = self._receive()
            if "return" in message:
                return message["return"]
            if "error" in message:
                raise MonitorClientError(f"{self.address}: {name}: {message['error']['desc']}")
            if message.get("event") == "SHUTDOWN":
                self._ended = message["data"]["reason"]

    def _receive(self) -> dict[str, Any]:
        try:
            line = self._input.readline()
        except TimeoutError:
            raise MonitorClientError(f"{self.address}: no answer within {PATIENCE:.0f} s; is the machine stopped?") from None
        except OSError:
            line = b""
        if not line:
            self._gone()
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            raise MonitorClientError(f"{self.address}: speaks, but not QMP; a monitor of mode 'control' does")
        return message

    def _gone(self) -> NoReturn:
        raise MachineGoneError(f"{self.address}: the machine has ended", self._ended)
