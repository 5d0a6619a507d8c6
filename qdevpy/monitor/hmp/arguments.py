# SPDX-License-Identifier: Apache-2.0
"""The arguments of a line, by the types that its command declares (monitor/hmp.c)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from qdevpy.monitor.hmp.command import Argument, HmpCommand, HmpError
from qdevpy.monitor.hmp.expression import Expression
from qdevpy.qdev.kinds import Size

ESCAPES = {"n": "\n", "r": "\r", "\\": "\\", "'": "'", '"': '"'}
SIZES = {"b": 1, "h": 2, "w": 4, "g": 8, "L": 8}
EXPECTED = {"F": "filename", "B": "block device name", "s": "string"}
_FORMAT = re.compile(r"/(\d*)([oduxicbhwgL]*)")
_SIZE = re.compile(r"0[xX][0-9a-fA-F]+|\d+(?:\.\d+)?[bBkKmMgGtTpPeE]?")


class Format:
    """What ``/`` said last; the next one begins with it."""

    def __init__(self) -> None:
        self.format, self.size = "x", 4


class Arguments:
    """Takes the arguments of COMMAND out of a line.

    :param text: the line behind the command's name
    :param last: the format that holds where none is given
    :param registers: see :class:`Expression`
    """

    def __init__(self, command: HmpCommand, text: str, last: Format, registers: Callable[[str], int | None]) -> None:
        self._command = command
        self._text = text
        self._at = 0
        self._last = last
        self._registers = registers

    def parse(self) -> dict[str, Any]:
        """The arguments by name, those not given left out.

        :raises HmpError: one does not fit, is missing, or there are too many
        """
        found: dict[str, Any] = {}
        for argument in self._command.arguments:
            self._skip()
            if argument.type == "-":
                self._flag(argument, found)
            elif argument.type == "/":
                found.update(self._format())
            elif not (argument.optional and self._at_end):
                found[argument.name] = self._value(argument)
        self._skip()
        if not self._at_end:
            raise HmpError(f"{self._command.names}: extraneous characters at the end of line")
        return found

    @property
    def _at_end(self) -> bool:
        return self._at >= len(self._text)

    def _skip(self) -> None:
        while not self._at_end and self._text[self._at].isspace():
            self._at += 1

    def _value(self, argument: Argument) -> Any:
        match argument.type:
            case "S":
                return self._rest()
            case "i" | "l":
                return self._expression(argument)
            case "o":
                return self._size()
            case "b":
                return self._on_off()
            case _:
                return self._word(argument)

    def _word(self, argument: Argument) -> str:
        word = self._string()
        if word is None:
            raise HmpError(f"{self._command.names}: {EXPECTED[argument.type]} expected")
        return word

    def _string(self) -> str | None:
        """A word, or what stands in double quotes; None: there is none, or it has no end."""
        if self._at_end:
            return None
        if self._text[self._at] != '"':
            start = self._at
            while not self._at_end and not self._text[self._at].isspace():
                self._at += 1
            return self._text[start : self._at]
        found = ""
        self._at += 1
        while not self._at_end and (char := self._text[self._at]) != '"':
            if char == "\\":
                self._at += 1
                char = ESCAPES.get(self._text[self._at : self._at + 1], "")
                if not char:
                    return None
            found += char
            self._at += 1
        if self._at_end:
            return None
        self._at += 1
        return found

    def _rest(self) -> str:
        rest = self._text[self._at :]
        if not rest:
            raise HmpError(f"{self._command.names}: string expected")
        self._at = len(self._text)
        return rest

    def _expression(self, argument: Argument) -> int:
        expression = Expression(self._text, self._at, self._registers)
        value = expression.evaluate()
        self._at = expression.position
        if argument.type == "i" and value >> 32 & 0xFFFFFFFF:
            raise HmpError(f"'{self._command.names}' has failed: integer is for 32-bit values")
        return value

    def _size(self) -> int:
        found = _SIZE.match(self._text, self._at)
        if found is None:
            raise HmpError("invalid size")
        text = found[0] if found[0][-1].isalpha() and not found[0].lower().startswith("0x") else f"{found[0]}M"
        if found[0].lower().startswith("0x"):
            value = int(found[0], 16) << 20
        else:
            value = Size().parse(text) if not text.endswith(".") else 0
        if value >> 63:
            raise HmpError("invalid size")
        self._at = found.end()
        return value

    def _on_off(self) -> bool:
        word = self._string()
        if word not in ("on", "off"):
            raise HmpError("Expected 'on' or 'off'")
        return word == "on"

    def _flag(self, argument: Argument, found: dict[str, Any]) -> None:
        if self._text[self._at : self._at + 1] != "-":
            return
        letter = self._text[self._at + 1 : self._at + 2]
        if letter == argument.flag:
            found[argument.name] = True
            self._at += 2
        elif letter not in (other.flag for other in self._command.arguments if other.type == "-"):
            raise HmpError(f"{self._command.names}: unsupported option -{letter}")

    def _format(self) -> dict[str, Any]:
        count, form, size = 1, "", 0
        if self._text[self._at : self._at + 1] == "/":
            found = _FORMAT.match(self._text, self._at)
            assert found is not None
            self._at = found.end()
            if not self._at_end and not self._text[self._at].isspace():
                raise HmpError(f"invalid char in format: '{self._text[self._at]}'")
            count = int(found[1]) if found[1] else 1
            for letter in found[2]:
                if letter in SIZES:
                    size = SIZES[letter]
                else:
                    form = letter
            self._last.format = form or self._last.format
            self._last.size = size or self._last.size
        return {"count": count, "format": self._last.format, "size": self._last.size}
