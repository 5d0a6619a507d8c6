# SPDX-License-Identifier: Apache-2.0
"""Machine options of which this board has one setting only; whoever asks for another is told why."""

from __future__ import annotations

from typing import Any

from qdevpy.qdev import property as prop
from qdevpy.qdev.kinds import Kind
from qdevpy.qdev.value_schema import Schema, folded


class Only(Kind):
    """A few words, all meaning the same.

    :param words: what is accepted; the first is the value
    :param why: why nothing else is
    """

    def __init__(self, type_name: str, words: tuple[str, ...], why: str) -> None:
        self.type_name = type_name
        self._words = words
        self._why = why

    @property
    def accepts(self) -> str:  # type: ignore[override]
        """The words and the reason."""
        return f"{' or '.join(self._words)}: {self._why}"

    def parse(self, given: Any) -> str:
        """The first word, for any of them."""
        word = {True: "on", False: "off"}[given] if isinstance(given, bool) else str(given).lower()
        word = {"yes": "on", "true": "on", "y": "on", "no": "off", "false": "off", "n": "off"}.get(word, word)
        if word not in self._words:
            raise ValueError(f"expected {self.accepts}")
        return self._words[0]

    def schema(self) -> Schema:
        """The words, and other spellings of on and off."""
        others = {"on": ("yes", "true", "y"), "off": ("no", "false", "n")}
        return folded(self._words, (spelling for word in self._words for spelling in others.get(word, ())))


def only(type_name: str, *words: str, why: str, help: str) -> Any:  # noqa: A002 - as qdevpy.qdev.property has it
    """Declare an option that takes these words."""
    return prop.declare(Only(type_name, words, why), words[0], help=help)
