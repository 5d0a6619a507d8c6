# SPDX-License-Identifier: Apache-2.0
r"""QMP's input: JSON values one after the other, in pieces of any size, from somebody who may be hostile.

What is accepted, how long a message lasts, where reading goes on after an error and how errors read is QEMU's
(qobject/json-lexer.c, json-streamer.c, json-parser.c):

- strings may stand in single quotes, and know the escape ``\'``;
- a message ends when as many brackets are closed as were opened, or one too many; then it is judged;
- a byte that begins nothing is an error at once; the rest is skipped up to the next structural character, control
  character (but tab), 0xFE or 0xFF.

Values are built while the bytes come in, so no message, however long, takes the machine's time at its end. Other
than in QEMU, what is too large is told once and the rest of its line is skipped (in QEMU every thousand brackets
of a line of brackets are an error of their own); bytes that begin nothing are told once until something sensible
came between; a number or keyword of
more than a thousand characters is an error; and so is a number beyond what a double holds.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

#: bytes of tokens in a message, tokens in a message, brackets open at once (qobject/json-streamer.c)
MAX_SIZE = 64 << 20
MAX_TOKENS = 2 << 20
MAX_NESTING = 1 << 10
#: characters of a number or keyword
MAX_WORD = 1000

_SPACE = re.compile(rb"[ \t\r\n]*")
_WORD = re.compile(rb"[a-z]+|[-0-9][-+.0-9eE]*")
_NUMBER = re.compile(rb"(-?(?:0|[1-9][0-9]*))((?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)")
_LINE = re.compile(rb"[^\n\xff]*")
_RECOVERY = re.compile(rb"[^\x00-\x08\x0a-\x1f\xfe\xff\[\]{}:,]*")
_INSIDE = {
    quote: re.compile(rb"[^\\%b\x00-\x1f\xfe\xff]*+(?:\\[\x20-\xfd][^\\%b\x00-\x1f\xfe\xff]*+)*+" % (quote, quote))
    for quote in (b'"', b"'")
}
_DECODER = json.JSONDecoder(strict=False)
_KEYWORDS = {b"true": True, b"false": False, b"null": None}
_OPEN = {b"{": dict, b"[": list}


class Message(NamedTuple):
    """A value, or why there is none.

    :ivar limit: it was larger than messages may be
    """

    value: Any
    error: str | None = None
    limit: bool = False


class ParseError(Exception):
    """A message is no JSON; ``str()`` is what the client is told."""


class JsonStream:
    """Turns bytes into messages; keeps what is not complete yet."""

    def __init__(self) -> None:
        self._rest = b""  # the beginning of a token that is not a string
        self._quote: bytes | None = None
        self._escaped = False
        self._string = bytearray()
        self._recovering = False
        self._overlong = False
        self._stray = False
        self._builder = Builder()

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that DATA completes."""
        data = self._rest + data
        self._rest = b""
        position = 0
        while position < len(data):
            if self._overlong:
                position = _skip(_LINE, data, position)
                self._overlong = position == len(data)
            elif self._recovering:
                position = _skip(_RECOVERY, data, position)
                self._recovering = position == len(data)
            elif self._quote is not None:
                position, message = self._feed_string(data, position)
                if message is not None:
                    yield message
            else:
                position, message = self._feed_token(data, _skip(_SPACE, data, position))
                if message is not None:
                    yield message

    def _feed_token(self, data: bytes, position: int) -> tuple[int, Message | None]:
        """Take one token that begins at POSITION, or keep what there is of it; where it ends."""
        first = data[position : position + 1]
        if first in (b'"', b"'") and first:
            self._quote = first
            self._string += first
            return position + 1, None
        if first in b"{}[]:,":
            return position + 1, self._token(first) if first else None
        found = _WORD.match(data, position)
        if found is None:
            return position + 1, self._lexical_error(first)
        word = found[0]
        if len(word) > MAX_WORD:
            return found.end(), self._lexical_error(word[:20] + b"...")
        if found.end() == len(data):
            self._rest = word
            return found.end(), None
        if not word.isalpha() and _NUMBER.fullmatch(word) is None:
            return found.end(), self._lexical_error(word)
        return found.end(), self._token(word)

    def _feed_string(self, data: bytes, position: int) -> tuple[int, Message | None]:
        """Go on with a string: to its end, or to the end of DATA."""
        assert self._quote is not None
        end = position + 1 if self._escaped else _skip(_INSIDE[self._quote], data, position)
        if self._builder.size + len(self._string) + end - position > MAX_SIZE:
            self._end_string()
            self._overlong = True
            return end, self._builder.fail("JSON token size limit exceeded", limit=True)
        if self._escaped and not 0x20 <= data[position] < 0xFE:
            return end, self._lexical_error(bytes(self._end_string()) + data[position:end])
        self._string += data[position:end]
        if self._escaped or end == len(data):
            self._escaped = False
            return end, None
        byte = data[end : end + 1]
        if byte == self._quote:
            return end + 1, self._token(bytes(self._end_string()) + byte)
        if byte != b"\\":
            return end + 1, self._lexical_error(bytes(self._end_string()) + byte)
        self._string += byte
        self._escaped = True
        return end + 1, None

    def _end_string(self) -> bytearray:
        string, self._string = self._string, bytearray()
        self._quote, self._escaped = None, False
        return string

    def _token(self, token: bytes) -> Message | None:
        self._stray = False
        message = self._builder.add(token)
        self._overlong = message is not None and message.limit
        return message

    def _lexical_error(self, what: bytes) -> Message | None:
        self._recovering = True
        message = self._builder.fail(f"JSON parse error, stray '{what[:200].decode(errors='replace')}'")
        told, self._stray = self._stray, True
        return None if told else message


def _skip(pattern: re.Pattern[bytes], data: bytes, position: int) -> int:
    found = pattern.match(data, position)
    assert found is not None  # all of them match nothing
    return found.end()


class Frame:
    """An object or array that is being built.

    :ivar expects: ``first`` (key, value or the end), ``key``, ``colon``, ``value`` or ``separator``
    """

    __slots__ = ("expects", "key", "value")

    def __init__(self, value: dict[str, Any] | list[Any]) -> None:
        self.value = value
        self.key = ""
        self.expects = "first"


class Builder:
    """Builds values from tokens.

    :ivar size: bytes of the message's tokens so far
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.size = 0
        self._count = 0
        self._braces = 0
        self._brackets = 0
        self._error: str | None = None
        self._frames: list[Frame] = []
        self._done: Any = None

    def fail(self, error: str, *, limit: bool = False) -> Message:
        """Give up the message; the next token begins another."""
        self._reset()
        return Message(None, error, limit)

    def add(self, token: bytes) -> Message | None:
        """Take a token; the message, if that was its last."""
        self._braces += (token == b"{") - (token == b"}")
        self._brackets += (token == b"[") - (token == b"]")
        self.size += len(token)
        self._count += 1
        if self.size > MAX_SIZE:
            return self.fail("JSON token size limit exceeded", limit=True)
        if self._count > MAX_TOKENS:
            return self.fail("JSON token count limit exceeded", limit=True)
        if self._braces + self._brackets > MAX_NESTING:
            return self.fail("JSON nesting depth limit exceeded", limit=True)
        if self._error is None:
            try:
                self._push(token)
            except ParseError as error:
                self._error = f"JSON parse error, {error}"
                self._frames.clear()
        if (self._braces > 0 or self._brackets > 0) and self._braces >= 0 and self._brackets >= 0:
            return None
        message = Message(self._done, self._error)
        self._reset()
        return message

    def _push(self, token: bytes) -> None:
        frame = self._frames[-1] if self._frames else None
        if frame is None:
            self._open_or_put(token)
        elif isinstance(frame.value, dict):
            self._push_to_object(frame, token)
        else:
            self._push_to_array(frame, token)

    def _push_to_object(self, frame: Frame, token: bytes) -> None:
        assert isinstance(frame.value, dict)
        if frame.expects == "colon":
            if token != b":":
                raise ParseError("missing : in object pair")
            frame.expects = "value"
        elif frame.expects == "separator":
            if token == b"}":
                self._close()
            elif token != b",":
                raise ParseError("expected separator in dict")
            else:
                frame.expects = "key"
        elif frame.expects == "value":
            self._open_or_put(token)
        elif frame.expects == "first" and token == b"}":
            self._close()
        else:
            if token in b"]}:,":
                raise ParseError("expecting value")
            if token[:1] not in b"\"'":
                raise ParseError("key is not a string in object")
            frame.key = decode_string(token)
            if frame.key in frame.value:
                raise ParseError("duplicate key")
            frame.expects = "colon"

    def _push_to_array(self, frame: Frame, token: bytes) -> None:
        if frame.expects == "separator":
            if token == b"]":
                self._close()
            elif token != b",":
                raise ParseError("expected separator in list")
            else:
                frame.expects = "value"
        elif frame.expects == "first" and token == b"]":
            self._close()
        else:
            self._open_or_put(token)

    def _open_or_put(self, token: bytes) -> None:
        made = _OPEN.get(token)
        if made is not None:
            self._frames.append(Frame(made()))
        else:
            self._put(decode_scalar(token))

    def _close(self) -> None:
        self._put(self._frames.pop().value)

    def _put(self, value: Any) -> None:
        """Put a complete value where it belongs."""
        if not self._frames:
            self._done = value
            return
        frame = self._frames[-1]
        if isinstance(frame.value, dict):
            frame.value[frame.key] = value
        else:
            frame.value.append(value)
        frame.expects = "separator"


def decode_scalar(token: bytes) -> Any:
    """A string, number or keyword.

    :raises ParseError: it is none
    """
    first = token[:1]
    if first in b"\"'":
        return decode_string(token)
    if first in b"-0123456789":
        return decode_number(token)
    if token in _KEYWORDS:
        return _KEYWORDS[token]
    if first.isalpha():
        raise ParseError(f"invalid keyword '{token.decode()}'")
    raise ParseError("expecting value")


def decode_number(token: bytes) -> int | float:
    """An integer of 64 bits, with or without sign; all else is a double.

    :raises ParseError: too large for a double
    """
    found = _NUMBER.fullmatch(token)
    assert found is not None  # the stream has looked
    if not found[2] and len(token) <= 20 and -(1 << 63) <= (value := int(token)) < 1 << 64:
        return value
    number = float(token)
    if math.isinf(number):
        raise ParseError(f"number out of range '{token[:40].decode()}'")
    return number


def decode_string(token: bytes) -> str:
    """A string with its quotes. Modified UTF-8: NUL may be 0xC0 0x80.

    However long it is, C does the work: a string of 64 MiB of escapes must not hold the machine up.

    :raises ParseError: bytes that are no UTF-8, or an escape that is none
    """
    try:
        text = token[1:-1].replace(b"\xc0\x80", b"\0").decode()
    except UnicodeDecodeError:
        raise ParseError("invalid UTF-8 sequence in string") from None
    if "\\" not in text:
        return text
    # behind escaped backslashes, which the pieces stand between, a backslash always begins an escape
    pieces = (piece.replace("\\'", "'").replace('\\"', '"').replace('"', '\\"') for piece in text.split("\\\\"))
    try:
        decoded: str = _DECODER.decode('"' + "\\\\".join(pieces) + '"')
        decoded.encode()
    except json.JSONDecodeError as error:
        if "uXXXX" in error.msg:
            raise ParseError(f"\\{error.doc[error.pos : error.pos + 5]} is not a valid Unicode character") from None
        raise ParseError("invalid escape sequence in string") from None
    except UnicodeEncodeError:
        raise ParseError("half a surrogate pair is not a valid Unicode character") from None
    return decoded
