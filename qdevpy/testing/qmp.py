# SPDX-License-Identifier: Apache-2.0
"""Just enough of QMP for tests: one command at a time, events kept."""

from __future__ import annotations

import json
import socket
from typing import Any


class QMPError(Exception):
    """The machine refused a command; ``str()`` names it and says why."""


class QMPClient:
    """One connection; the greeting is read and capabilities are negotiated when it is made.

    :param peer: connected to the machine
    :param patience: seconds that it waits for an answer
    :ivar events: all that have come, in their order; whoever waits for one takes it out
    """

    def __init__(self, peer: socket.socket, patience: float) -> None:
        self.events: list[dict[str, Any]] = []
        peer.settimeout(patience)
        self._peer = peer
        self._stream = peer.makefile("rw")
        self._read()
        self.execute("qmp_capabilities")

    def _read(self) -> dict[str, Any]:
        line = self._stream.readline()
        if not line:
            raise EOFError("the machine hung up")
        message: dict[str, Any] = json.loads(line)
        return message

    def execute(self, command: str, /, **arguments: Any) -> Any:
        """What the machine returns.

        :raises QMPError: it refuses
        :raises EOFError: it is gone
        """
        self._stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._stream.flush()
        while "event" in (message := self._read()):
            self.events.append(message)
        if "error" in message:
            raise QMPError(f"{command} {arguments or ''}: {message['error']['class']}: {message['error']['desc']}")
        return message["return"]

    def wait_event(self, name: str, /, **data: Any) -> dict[str, Any]:
        """Until event NAME comes, or has come, with this DATA among its own; it is taken out.

        :raises TimeoutError: it does not
        """
        while True:
            for event in self.events:
                if event["event"] == name and data.items() <= event.get("data", {}).items():
                    self.events.remove(event)
                    return event
            self.events.append(self._read())

    def close(self) -> None:
        """Hang up."""
        self._stream.close()
        self._peer.close()
