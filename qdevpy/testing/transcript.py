# SPDX-License-Identifier: Apache-2.0
"""Text that somebody else writes, a machine's console or its log: all of it is kept, and waited for by pattern."""

from __future__ import annotations

import codecs
import os
import re
import select
import socket
import threading
import time
from typing import NamedTuple

CHUNK = 65536
SHOWN = 2000  #: characters of the end that an error shows


class Found(NamedTuple):
    """What :meth:`Transcript.take` found.

    :ivar before: text between the last match and this one
    """

    before: str
    match: re.Match[str]


class Transcript:
    r"""What comes out of a descriptor until its end, read by a thread; ``\r\n`` is a line end like ``\n``.

    :param name: for messages: ``console``
    :param source: is read until it ends, and closed then
    :param patience: seconds to wait where a call does not say
    """

    def __init__(self, name: str, source: int, patience: float) -> None:
        self.name = name
        self.patience = patience
        self._source = source
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""  # a carriage return whose line feed may come with the next chunk
        self._text = ""
        self._taken = 0
        self._ended = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, name=f"{name} of a machine", daemon=True)
        self._reader.start()

    @property
    def text(self) -> str:
        """Everything so far."""
        with self._changed:
            return self._text

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._source, CHUNK)
            except OSError:  # a terminal's or a socket's way to say that the other end is gone
                data = b""
            text = self._held + self._decoder.decode(data, final=not data)
            self._held = "\r" if data and text.endswith("\r") else ""
            with self._changed:
                self._text += text.removesuffix(self._held).replace("\r\n", "\n")
                self._ended = not data
                self._changed.notify_all()
            if not data:
                os.close(self._source)
                return

    def expect(self, pattern: str | re.Pattern[str], timeout: float | None = None) -> re.Match[str]:
        """Wait until PATTERN, a regular expression, comes after what was found the last time.

        :param timeout: seconds; by default what the machine was made with
        :raises AssertionError: it does not come in time, or the text ends without it; shows the end of the text
        """
        return self.take(pattern, timeout).match

    def take(self, pattern: str | re.Pattern[str], timeout: float | None = None) -> Found:
        """As :meth:`expect`, with the text before it."""
        wanted = re.compile(pattern, re.MULTILINE) if isinstance(pattern, str) else pattern
        seconds = self.patience if timeout is None else timeout
        deadline = time.monotonic() + seconds
        with self._changed:
            while (match := wanted.search(self._text, self._taken)) is None:
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    why = f"the {self.name} ended" if self._ended else f"not within {seconds:g} s"
                    shown = self._text[max(self._taken, len(self._text) - SHOWN) :]
                    raise AssertionError(
                        f"{self.name}: expected {wanted.pattern!r}: {why}; since the last match it said:\n{shown}"
                    )
                self._changed.wait(left)
            before, self._taken = self._text[self._taken : match.start()], match.end()
            return Found(before, match)

    def join(self, timeout: float) -> None:
        """Wait until the text has ended."""
        self._reader.join(timeout)


class Console(Transcript):
    """A transcript with somebody at the other end who reads, too.

    :param peer: a connected stream
    """

    def __init__(self, name: str, peer: socket.socket, patience: float) -> None:
        self._peer = peer
        super().__init__(name, os.dup(peer.fileno()), patience)

    def send(self, text: str) -> None:
        r"""Type TEXT as it is; a line ends with ``\n``.

        :raises AssertionError: nobody takes it within the patience
        """
        data, deadline = text.encode(), time.monotonic() + self.patience
        while data:  # the descriptor stays a blocking one: the reader's is the same
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([], [self._peer], [], left)[1]:
                raise AssertionError(f"{self.name}: did not take {text[:80]!r} within {self.patience:g} s")
            try:
                data = data[self._peer.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise AssertionError(f"{self.name}: nobody is there to take {text[:80]!r}: {error.strerror}") from None

    def hang_up(self) -> None:
        """Close our end."""
        self._peer.close()
