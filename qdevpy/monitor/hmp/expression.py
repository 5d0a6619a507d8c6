# SPDX-License-Identifier: Apache-2.0
"""Expressions of the human monitor: numbers, ``$registers``, characters and C's operators on 64 bits (monitor/hmp.c).

::

    sum   = logic { ("+" | "-") logic }
    logic = prod  { ("&" | "|" | "^") prod }
    prod  = unary { ("*" | "/" | "%") unary }
    unary = ("+" | "-" | "~") unary | "(" sum ")" | "'" char "'" | "$" name | number
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping

from qdevpy.monitor.hmp.command import HmpError

_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|\d+")
_REGISTER = re.compile(r"[A-Za-z0-9_.]*")

Operator = Callable[[int, int], int]


def _divided(left: int, right: int) -> int:
    if right == 0:
        raise HmpError("division by zero")
    return int(left / right) if abs(left) < 1 << 52 else (abs(left) // abs(right)) * (-1 if (left < 0) != (right < 0) else 1)


def _rest(left: int, right: int) -> int:
    return left - right * _divided(left, right)


SUMS: Mapping[str, Operator] = {"+": operator.add, "-": operator.sub}
LOGIC: Mapping[str, Operator] = {"&": operator.and_, "|": operator.or_, "^": operator.xor}
PRODUCTS: Mapping[str, Operator] = {"*": operator.mul, "/": _divided, "%": _rest}
#: how deep parentheses and signs may nest
DEPTH = 100


def signed(value: int) -> int:
    """VALUE as 64 bits with sign."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


class Expression:
    """Evaluates what stands at a position of a line.

    :param registers: the value of a register by name; None: there is none of that name
    :ivar position: where the expression ended
    """

    def __init__(self, text: str, position: int, registers: Callable[[str], int | None]) -> None:
        self._text = text
        self.position = position
        self._registers = registers
        self._depth = 0

    def evaluate(self) -> int:
        """Its value, 64 bits with sign.

        :raises HmpError: malformed
        """
        self._skip()
        return self._sum()

    def _peek(self) -> str:
        return self._text[self.position : self.position + 1]

    def _skip(self) -> None:
        while self._peek().isspace():
            self.position += 1

    def _next(self) -> None:
        self.position += 1
        self._skip()

    def _chain(self, operators: Mapping[str, Operator], operand: Callable[[], int]) -> int:
        value = operand()
        while (sign := self._peek()) in operators and sign:
            self._next()
            value = signed(operators[sign](value, operand()))
        return value

    def _sum(self) -> int:
        return self._chain(SUMS, lambda: self._chain(LOGIC, lambda: self._chain(PRODUCTS, self._unary)))

    def _unary(self) -> int:
        self._depth += 1
        if self._depth > DEPTH:
            raise HmpError("expression nests too deep")
        try:
            return self._operand()
        finally:
            self._depth -= 1

    def _operand(self) -> int:
        sign = self._peek()
        match sign:
            case "":
                raise HmpError("unexpected end of expression")
            case "+" | "-" | "~":
                self._next()
                value = self._unary()
                return signed({"+": value, "-": -value, "~": ~value}[sign])
            case "(":
                self._next()
                value = self._sum()
                if self._peek() != ")":
                    raise HmpError("')' expected")
                self._next()
                return value
            case "'":
                return self._character()
            case "$":
                return self._register()
            case _:
                return self._number()

    def _character(self) -> int:
        character = self._text[self.position + 1 : self.position + 2]
        if not character:
            raise HmpError("character constant expected")
        if self._text[self.position + 2 : self.position + 3] != "'":
            raise HmpError("missing terminating ' character")
        self.position += 2
        self._next()
        return ord(character)

    def _register(self) -> int:
        found = _REGISTER.match(self._text, self.position + 1)
        assert found is not None
        value = self._registers(found[0])
        if value is None:
            raise HmpError("unknown register")
        self.position = found.end()
        self._skip()
        return signed(value)

    def _number(self) -> int:
        found = _NUMBER.match(self._text, self.position)
        if found is None:
            raise HmpError(f"invalid char '{self._peek()}' in expression")
        digits = found[0]
        octal = len(digits) > 1 and digits[0] == "0" and digits.isdigit()
        if octal:  # as strtoull() reads them
            digits = re.match("[0-7]*", digits)[0]  # type: ignore[index]
        self.position += len(digits)
        self._skip()
        value = int(digits, 8) if octal else int(digits, 0)
        if value >> 64:
            raise HmpError("number too large")
        return signed(value)
