# SPDX-License-Identifier: Apache-2.0
"""Requests and replies over a UNIX socket. The other end may be wrong, hostile, slow or gone: every reply is checked,
nothing waits for longer than a time limit, and no descriptor that was sent along is left behind.
"""

from __future__ import annotations

import array
import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from qdevpy.errors import VhostError
from qdevpy.vhost.messages import HEADER, MAX_FDS, NEED_REPLY, REPLY, U64, VERSION, VERSION_MASK, Request

#: seconds that the back end has for one request, sending and answer; the VM waits meanwhile
TIME_LIMIT = 10.0


class Channel:
    """A front end's connection.

    :param connection: a stream socket, non-blocking; the channel's to close
    :ivar aside: ``(descriptor, callback)``: served while an answer is waited for, since the back end may want something of us
        before it answers
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.setblocking(False)
        self.aside: tuple[int, Callable[[], None]] | None = None

    def fileno(self) -> int:
        """Readable between requests only where the other end hangs up, or breaks the protocol."""
        return self._socket.fileno()

    def unasked(self) -> str | None:
        """What came between requests: ``end``, ``data``, or None: it was the answer to a request that has read it by now."""
        try:
            data = self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:
            return "end"
        return "data" if data else "end"

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def request(self, what: Request, payload: bytes = b"", fds: Sequence[int] = (), *, acknowledged: bool = False) -> None:
        """Send a request without a reply of its own.

        :param acknowledged: REPLY_ACK was negotiated: wait until the back end says that it has carried it out
        :raises VhostError: it refuses, breaks the protocol, does not answer in time, or is gone
        """
        deadline = time.monotonic() + TIME_LIMIT
        self._send(what, NEED_REPLY if acknowledged else 0, payload, fds, deadline)
        if acknowledged:
            (answer,) = U64.unpack(self._receive(what, U64.size, [], deadline))
            if answer:
                raise VhostError(f"refuses {what.name} ({answer:#x})")

    def ask(self, what: Request, payload: bytes = b"", *, size: int) -> bytes:
        """Send a request and return its reply's payload, which has SIZE bytes.

        :raises VhostError: as :meth:`request`
        """
        deadline = time.monotonic() + TIME_LIMIT
        self._send(what, 0, payload, (), deadline)
        return self._receive(what, size, [], deadline)

    def ask_for_fd(self, what: Request, payload: bytes, *, size: int) -> tuple[bytes, int]:
        """As :meth:`ask`, for a reply with exactly one descriptor, which is the caller's to close."""
        deadline = time.monotonic() + TIME_LIMIT
        self._send(what, 0, payload, (), deadline)
        fds: list[int] = []
        try:
            answer = self._receive(what, size, fds, deadline, fds_wanted=1)
            return answer, fds.pop()
        finally:
            close_all(fds)

    # -- sending

    def _send(self, what: Request, flags: int, payload: bytes, fds: Sequence[int], deadline: float) -> None:
        data = HEADER.pack(what, VERSION | flags, len(payload)) + payload
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        while data:
            try:
                sent = self._socket.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                self._wait(select.POLLOUT, what, deadline)
                continue
            except OSError as error:
                raise VhostError(f"{what.name}: {error.strerror}") from error
            data, ancillary = data[sent:], []

    # -- receiving

    def _receive(self, what: Request, size: int, fds: list[int], deadline: float, *, fds_wanted: int = 0) -> bytes:
        """The payload of the reply to WHAT; its descriptors are added to FDS."""
        try:
            request, flags, length = HEADER.unpack(self._read(HEADER.size, what, fds, deadline))
            if request != what:
                raise VhostError(f"answers {what.name} ({what}) with {request}")
            if flags & VERSION_MASK != VERSION or not flags & REPLY:
                raise VhostError(f"answers {what.name} with flags {flags:#x}; expected version 1 and the reply bit")
            if length != size:
                raise VhostError(f"answers {what.name} with {length} bytes; expected {size}")
            payload = self._read(size, what, fds, deadline)
            if len(fds) != fds_wanted:
                raise VhostError(f"answers {what.name} with {len(fds)} descriptors; expected {fds_wanted}")
        except VhostError:
            close_all(fds)
            raise
        return payload

    def _read(self, size: int, what: Request, fds: list[int], deadline: float) -> bytes:
        data = b""
        while len(data) < size:
            self._wait(select.POLLIN, what, deadline)
            try:
                part = receive_some(self._socket, size - len(data), fds)
            except BlockingIOError:
                continue
            except OSError as error:
                raise VhostError(f"{what.name}: {error.strerror}") from error
            if not part:
                raise VhostError(f"hung up instead of an answer to {what.name}")
            data += part
        return data

    def _wait(self, events: int, what: Request, deadline: float) -> None:
        """Until the socket is ready, serving the other channel."""
        while True:
            poll = select.poll()
            poll.register(self._socket, events)
            if self.aside is not None:
                poll.register(self.aside[0], select.POLLIN)
            left = deadline - time.monotonic()
            ready = [fd for fd, _ in poll.poll(left * 1000)] if left > 0 else []
            if not ready:
                raise VhostError(f"does not answer {what.name} within {TIME_LIMIT:g} seconds")
            if self.aside is not None and self.aside[0] in ready:
                self.aside[1]()
            if self._socket.fileno() in ready:
                return


def receive_some(connection: socket.socket, size: int, fds: list[int]) -> bytes:
    """At most SIZE bytes, and the descriptors that came with them, added to FDS; empty at the end.

    :raises VhostError: more descriptors than a message may have; the kernel has closed those that did not fit
    :raises OSError: as ``recvmsg``
    """
    room = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)
    data, ancillary, flags, _ = connection.recvmsg(size, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found = array.array("i")
            found.frombytes(content[: len(content) - len(content) % found.itemsize])
            fds += found
    if flags & socket.MSG_CTRUNC or len(fds) > MAX_FDS:
        close_all(fds)
        raise VhostError(f"sends more than {MAX_FDS} descriptors")
    return data


def close_all(fds: list[int]) -> None:
    """Close and forget."""
    while fds:
        with suppress(OSError):
            os.close(fds.pop())
