# SPDX-License-Identifier: Apache-2.0
"""QEMU's way to write several values in one word of a command line.

Three forms: ``name=value,name=value`` with ``,,`` for a comma inside a value (QemuOpts, ``util/qemu-option.c``); the
same with dotted names, ``file.driver=null-co`` (keyval, ``util/keyval.c``); and JSON, which begins with ``{``. All become
flat lists of names and texts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

from qdevpy.errors import QdevpyError, did_you_mean
from qdevpy.qdev.kinds import Bool

HELP_WORDS = ("help", "?")


class CommandLineError(QdevpyError):
    """An option that cannot be taken, and why; where it stands is known to who carries the options out."""


class Options:
    """The values of one option, to be taken out one by one; :meth:`end` complains about what nobody took.

    :ivar items: names and texts, in the order written
    """

    def __init__(self, items: Iterable[tuple[str, str]]) -> None:
        self.items = list(items)
        self._asked: dict[str, None] = {}

    def pop(self, name: str) -> str | None:
        """The text of NAME, the last one where there are several; None: it is not given."""
        texts = self.pop_all(name)
        return texts[-1] if texts else None

    def pop_all(self, name: str) -> list[str]:
        """Every text of NAME."""
        self._asked[name] = None
        texts = [text for key, text in self.items if key == name]
        if texts:
            self.items = [item for item in self.items if item[0] != name]
        return texts

    def pop_bool(self, name: str) -> bool | None:
        """``on`` or ``off``; None: it is not given.

        :raises CommandLineError: another word
        """
        text = self.pop(name)
        return None if text is None else parse_bool(name, text)

    def need(self, name: str) -> str:
        """The text of NAME.

        :raises CommandLineError: it is not given
        """
        text = self.pop(name)
        if text is None:
            raise CommandLineError(f"Parameter '{name}' is missing")
        return text

    def rest(self) -> dict[str, str]:
        """Everything that is left, the last of each name."""
        left, self.items = dict(self.items), []
        return left

    def only(self, name: str, *accepted: str, because: str) -> None:
        """Take NAME where it says nothing that is not so anyway.

        :raises CommandLineError: another word; BECAUSE says what to do
        """
        text = self.pop(name)
        if text is not None and text not in accepted:
            raise CommandLineError(f"{name}={text}: {because}")

    def end(self) -> None:
        """:raises CommandLineError: something is left."""
        for name, _ in self.items:
            known = list(self._asked)
            hint = did_you_mean(name, known) or (f"; expected one of {', '.join(known)}" if known else "")
            raise CommandLineError(f"Invalid parameter '{name}'{hint}")


def parse_bool(name: str, text: str) -> bool:
    """:raises CommandLineError: neither ``on`` nor ``off`` nor one of their like."""
    try:
        return Bool().parse(text)
    except ValueError:
        raise CommandLineError(f"Parameter '{name}' expects 'on' or 'off', not '{text}'") from None


def parse_options(text: str, implied: str | None = None) -> Options:
    """The values in TEXT.

    :param implied: the name that the first word has where it has no ``=``
    :raises CommandLineError: not JSON although it begins like it
    """
    if text.startswith("{"):
        return Options(flatten_json(text))
    return Options(split(text, implied))


def split(text: str, implied: str | None = None) -> Iterator[tuple[str, str]]:
    """Names and texts of ``name=value,flag,noflag``."""
    first = implied
    rest = text
    while rest:
        name, equals, value = _name(rest)
        if equals:
            text_value, rest = _value(value)
            yield name, text_value
        elif first is not None:
            text_value, rest = _value(rest)
            yield first, text_value
        else:
            rest = value
            yield (name[2:], "off") if name.startswith("no") and name not in HELP_WORDS else (name, "on")
        first = None


def _name(text: str) -> tuple[str, bool, str]:
    """The name at the beginning, whether a value follows, and what follows."""
    for index, char in enumerate(text):
        if char == "=":
            return text[:index], True, text[index + 1 :]
        if char == ",":
            return text[:index], False, text[index + 1 :]
    return text, False, ""


def _value(text: str) -> tuple[str, str]:
    """The value at the beginning, doubled commas undone, and what follows its end."""
    value = ""
    while True:
        piece, comma, text = text.partition(",")
        value += piece
        if not comma or not text.startswith(","):
            return value, text
        value += ","
        text = text[1:]


def flatten_json(text: str) -> Iterator[tuple[str, str]]:
    """Names, joined by dots, and texts of a JSON object.

    :raises CommandLineError: malformed
    """
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        parsed = _qemu_json(text)
        if parsed is None:
            raise CommandLineError(f"JSON parse error, {error}") from None
    yield from _flatten(parsed, "")


def _qemu_json(text: str) -> Any:
    """As QEMU reads it, which also takes strings in single quotes; None: neither is it that."""
    from qdevpy.monitor.json_stream import JsonStream

    messages = list(JsonStream().feed(os.fsencode(text)))
    return messages[0].value if len(messages) == 1 and messages[0].error is None else None


def _flatten(value: Any, name: str) -> Iterator[tuple[str, str]]:
    match value:
        case dict():
            for key, inner in value.items():
                yield from _flatten(inner, f"{name}.{key}" if name else key)
        case list():
            for index, inner in enumerate(value):
                yield from _flatten(inner, f"{name}.{index}")
        case bool():
            yield name, "on" if value else "off"
        case None:
            return
        case _:
            yield name, str(value)


def escape(value: str) -> str:
    """VALUE with its commas doubled."""
    return value.replace(",", ",,")


def join(items: Iterable[tuple[str, str]], first: str = "") -> str:
    """The way back: ``FIRST,name=value,...``."""
    pairs = [f"{name}={escape(value)}" for name, value in items]
    return ",".join([escape(first), *pairs] if first else pairs)


def wants_help(options: Options) -> bool:
    """Whether ``help`` or ``?`` stands among the values."""
    return any(name in HELP_WORDS or (text in HELP_WORDS and name == "") for name, text in options.items)
