# SPDX-License-Identifier: Apache-2.0
"""The channel on which a back end asks something of us (protocol feature BACKEND_REQ, once called SLAVE_REQ)."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

from qdevpy.errors import VhostError
from qdevpy.vhost.channel import close_all, receive_some
from qdevpy.vhost.messages import HEADER, NEED_REPLY, REPLY, U64, VERSION, VERSION_MASK, BackendRequest

log = logging.getLogger(__name__)

#: the longest payload of what we know, and of what we do not is small, too
MAX_PAYLOAD = 4096
DONE, REFUSED = 0, 1


class BackendRequests:
    """Our end. What arrives is read as it comes and never waited for.

    :param connection: non-blocking; ours to close
    """

    def __init__(self, connection: socket.socket, config_changed: Callable[[], None]) -> None:
        self._socket = connection
        self._config_changed = config_changed
        self._received = b""

    def fileno(self) -> int:
        """Readable when the back end wants something."""
        return self._socket.fileno()

    def close(self) -> None:
        """Nothing more."""
        self._socket.close()

    def serve(self) -> bool:
        """Read what there is and answer. False: the back end hung up, or broke the protocol; nothing more comes."""
        fds: list[int] = []
        try:
            data = receive_some(self._socket, HEADER.size + MAX_PAYLOAD, fds)
            self._received += data
            while (message := self._next()) is not None:
                self._answer(*message)
            return bool(data)
        except BlockingIOError:
            return True
        except (VhostError, OSError) as error:
            log.warning("a back end's own requests are not heard any more: %s", error)
            return False
        finally:
            close_all(fds)  # we have no use for any

    def _next(self) -> tuple[int, int] | None:
        """Request and flags of the next message that is complete."""
        if len(self._received) < HEADER.size:
            return None
        request, flags, size = HEADER.unpack_from(self._received)
        if flags & VERSION_MASK != VERSION or flags & REPLY or size > MAX_PAYLOAD:
            raise VhostError(f"request {request} with flags {flags:#x}, {size} bytes")
        if len(self._received) < HEADER.size + size:
            return None
        self._received = self._received[HEADER.size + size :]
        return request, flags

    def _answer(self, request: int, flags: int) -> None:
        known = request == BackendRequest.CONFIG_CHANGE
        if known:
            self._config_changed()
        else:
            log.debug("a back end's request %d is not known", request)
        if flags & NEED_REPLY:
            answer = HEADER.pack(request, VERSION | REPLY, U64.size) + U64.pack(DONE if known else REFUSED)
            self._socket.send(answer, socket.MSG_NOSIGNAL)  # never waits: who does not read its answers loses the channel
