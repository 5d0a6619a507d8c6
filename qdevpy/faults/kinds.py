# SPDX-License-Identifier: Apache-2.0
"""Kinds of values that rules have beside those of properties: time, ranges of numbers, likelihood, words."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from qdevpy.errors import did_you_mean
from qdevpy.qdev.kinds import Kind
from qdevpy.qdev.value_schema import SCALAR, Schema, any_of, matching

#: nanoseconds
UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000}
#: a year; a longer time is a mistake, and would not fit where timers are
MAX_NS = 366 * 24 * 60 * UNITS["m"]

_NUMBER = r"\d+(?:\.\d+)?"
_DURATION = re.compile(rf"({_NUMBER})\s*(ns|us|ms|s|m)?")
_TIME = rf"{_NUMBER}\s*(?:ns|us|ms|s|m)?"  # the same for schemas


class Duration(Kind):
    """A time, in nanoseconds; a number without a unit is seconds."""

    type_name = "duration"
    accepts = "a time such as 50ms, 2s or 1.5m (ns, us, ms, s, m)"

    def parse(self, given: Any) -> int:
        """Nanoseconds."""
        match = _DURATION.fullmatch(str(given).strip())
        if isinstance(given, bool) or match is None:
            raise ValueError(f"expected {self.accepts}")
        ns = int(Fraction(match[1]) * UNITS[match[2] or "s"])
        if ns > MAX_NS:
            raise ValueError("longer than a year")
        return ns

    def format(self, value: int) -> str:
        """With the largest unit that divides it."""
        unit = next(name for name in ("s", "ms", "us", "ns") if value % UNITS[name] == 0)
        return f"{value // UNITS[unit]}{unit}"

    def schema(self) -> Schema:
        """Seconds, or text with a unit."""
        return any_of({"type": "number", "minimum": 0, "maximum": MAX_NS // UNITS["s"]}, matching(rf"\s*{_TIME}\s*"))


class Period(Kind):
    """From one time to another, in nanoseconds: ``5s-10s``."""

    type_name = "period"
    accepts = "two times such as 5s-10s, the first one smaller"

    def parse(self, given: Any) -> tuple[int, int]:
        """Begin and end."""
        parts = [str(part) for part in given] if isinstance(given, tuple | list) else str(given).split("-")
        if len(parts) != 2:
            raise ValueError(f"expected {self.accepts}")
        begin, end = map(Duration().parse, parts)
        if begin >= end:
            raise ValueError(f"expected {self.accepts}")
        return begin, end

    def format(self, value: tuple[int, int]) -> str:
        """As written."""
        return "-".join(map(Duration().format, value))

    def schema(self) -> Schema:
        """Two times; which one is smaller cannot be said there."""
        return matching(rf"\s*{_TIME}\s*-\s*{_TIME}\s*")


class Span(Kind):
    """A range of whole numbers, both ends in it: ``100-199``, or one number."""

    type_name = "span"
    accepts = "a number or a range such as 100-199"

    def parse(self, given: Any) -> range:
        """All numbers in it."""
        if isinstance(given, range):
            if given.step != 1 or not given or given.start < 0:
                raise ValueError(f"expected {self.accepts}")
            return given
        match = re.fullmatch(r"(\d+)(?:\s*-\s*(\d+))?", str(given).strip())
        if isinstance(given, bool) or match is None:
            raise ValueError(f"expected {self.accepts}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"the range ends before it begins, expected {self.accepts}")
        if last >= 1 << 64:
            raise ValueError("larger than 64 bits")
        return range(first, last + 1)

    def format(self, value: range) -> str:
        """As written."""
        return str(value.start) if len(value) == 1 else f"{value.start}-{value.stop - 1}"

    def schema(self) -> Schema:
        """A number, or text that is one or two."""
        return any_of({"type": "integer", "minimum": 0, "maximum": (1 << 64) - 1}, matching(r"\s*\d+(?:\s*-\s*\d+)?\s*"))


class Probability(Kind):
    """How likely: 0 to 1, or 0% to 100%."""

    type_name = "probability"
    accepts = "a number from 0 to 1, or from 0% to 100%"

    def parse(self, given: Any) -> float:
        """0.0 to 1.0."""
        match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)(%?)", str(given).strip())
        if isinstance(given, bool) or match is None:
            raise ValueError(f"expected {self.accepts}")
        value = float(match[1]) / (100 if match[2] else 1)
        if value > 1:
            raise ValueError(f"out of range, expected {self.accepts}")
        return value

    def schema(self) -> Schema:
        """A number, or text that is one or ends with a percent sign."""
        return any_of({"type": "number", "minimum": 0, "maximum": 1}, matching(r"\s*(?:\d+(?:\.\d*)?|\.\d+)%?\s*"))


class Words(Kind):
    """One or more of some words: ``read``, ``read, write``, ``[read, write]``.

    :param choices: empty: any word
    """

    type_name = "words"
    is_list = True

    def __init__(self, choices: Sequence[str] = ()) -> None:
        self.choices = tuple(choices)

    @property
    def accepts(self) -> str:  # type: ignore[override]
        """The words."""
        return f"one or more of {', '.join(self.choices)}" if self.choices else "one or more words"

    def parse(self, given: Any) -> tuple[str, ...]:
        """The words, each once."""
        if isinstance(given, str) and given.startswith("["):  # a list in a definition
            given = json.loads(given)
        items = given if isinstance(given, list | tuple | set | frozenset) else str(given).split(",")
        words = tuple(dict.fromkeys(str(item).strip() for item in items))
        for word in words:
            if self.choices and word not in self.choices:
                raise ValueError(f"'{word}': expected {self.accepts}{did_you_mean(word, self.choices)}")
        if not any(words):
            raise ValueError(f"expected {self.accepts}")
        return words

    def format(self, value: Sequence[str]) -> str:
        """With commas."""
        return ", ".join(value)

    def schema(self) -> Schema:
        """Words, or a list of them."""
        some = {"type": "string", "pattern": r"[^\s,]"}
        return any_of(some, {"type": ["number", "boolean", "null"]}, {"type": "array", "minItems": 1, "items": SCALAR})
