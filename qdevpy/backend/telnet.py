# SPDX-License-Identifier: Apache-2.0
"""The telnet protocol, as far as a terminal needs it that talks to a serial port or a monitor.

A server offers to echo and to send single characters, both ways in eight bits (RFC 854, 856, 857, 858), which makes a
telnet client send keys as they are pressed. What the client answers is taken out of its input and not looked at. The
bytes are plain until 255 (IAC); one of the data is sent twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto

IAC, DONT, DO, WONT, WILL, SB, SE = 255, 254, 253, 252, 251, 250, 240
#: the line's break condition (RFC 854)
BREAK = 243
BINARY, ECHO, SUPPRESS_GO_AHEAD = 0, 1, 3

#: what a server says first
GREETING = bytes([IAC, WILL, ECHO, IAC, WILL, SUPPRESS_GO_AHEAD, IAC, WILL, BINARY, IAC, DO, BINARY])


class _State(Enum):
    DATA = auto()
    RETURN = auto()  # a carriage return came
    COMMAND = auto()  # IAC came
    OPTION = auto()  # IAC WILL and its like came
    PARAMETERS = auto()  # IAC SB came
    PARAMETERS_END = auto()  # IAC inside them


class TelnetInput:
    """Takes the protocol out of what a client sends, however it is cut into pieces.

    ::

        DATA <--> RETURN        after a carriage return a NUL only says that no line feed follows
        DATA --IAC--> COMMAND --WILL, WONT, DO, DONT--> OPTION --any--> DATA
                      COMMAND --SB--> PARAMETERS <--IAC, any--> PARAMETERS_END --SE--> DATA
    """

    def __init__(self) -> None:
        self._state = _State.DATA

    def feed(self, data: bytes) -> Iterator[bytes | None]:
        """What of DATA is data, in pieces; None between them: a break."""
        piece = bytearray()
        for byte in data:
            if self._state in (_State.DATA, _State.RETURN):
                self._data(byte, piece)
            elif self._state is _State.COMMAND and byte == IAC:
                piece.append(IAC)
                self._state = _State.DATA
            elif self._command(byte):
                if piece:
                    yield bytes(piece)
                    piece.clear()
                yield None
        if piece:
            yield bytes(piece)

    def _data(self, byte: int, piece: bytearray) -> None:
        if byte == IAC:
            self._state = _State.COMMAND
            return
        if byte or self._state is _State.DATA:
            piece.append(byte)
        self._state = _State.RETURN if byte == ord("\r") else _State.DATA

    def _command(self, byte: int) -> bool:
        """Whether it is a break."""
        state = self._state
        if state is _State.PARAMETERS:
            self._state = _State.PARAMETERS_END if byte == IAC else state
        elif state is _State.PARAMETERS_END:
            self._state = _State.DATA if byte == SE else _State.PARAMETERS
        elif state is _State.COMMAND and byte == SB:
            self._state = _State.PARAMETERS
        elif state is _State.COMMAND and byte in (WILL, WONT, DO, DONT):
            self._state = _State.OPTION
        else:
            self._state = _State.DATA
        return state is _State.COMMAND and byte == BREAK
