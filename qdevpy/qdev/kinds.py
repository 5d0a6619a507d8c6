# SPDX-License-Identifier: Apache-2.0
"""Kinds of property values: QEMU's spelling in, a Python value, QEMU's spelling out.

``parse`` takes text, or what YAML makes of a plain scalar (bool, int, float), and raises
:class:`ValueError` whose text says what would be accepted; the caller adds device and property.

Plain classes: attrs takes half a millisecond a class to make, and start-up counts.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

_TRUE = {"on", "yes", "true", "y"}
_FALSE = {"off", "no", "false", "n"}


class Kind(ABC):
    """One sort of property value."""

    type_name: str  #: QEMU's name of the type, as ``-device X,help`` prints it
    accepts: str  #: what a user may write, for messages
    reference: str | None = None  #: for references: ``drive``, ``netdev``, ``chardev`` or the link's target
    description: str | None = None  #: what QEMU says of the kind in ``-device X,help``
    json_type: str = "string"  #: what QMP takes: ``string``, ``integer`` or ``boolean``
    legacy: Callable[[Any], str] | None = None  #: the value as text, where QMP has both forms

    @abstractmethod
    def parse(self, given: Any) -> Any:
        """Value for what the user gave; ValueError says what is accepted."""

    def format(self, value: Any) -> str:
        """The value as the user would write it."""
        return str(value)

    def to_json(self, value: Any) -> Any:
        """The value as QMP shows it."""
        return "" if value is None else self.format(value)

    def from_json(self, name: str, given: Any) -> Any:
        """What :meth:`parse` takes, for what a QMP client gave as property NAME.

        :raises ValueError: another JSON type
        """
        wanted = {"string": str, "integer": int, "boolean": bool}[self.json_type]
        if not isinstance(given, wanted) or (isinstance(given, bool) and wanted is not bool):
            raise ValueError(f"Invalid parameter type for '{name}', expected: {self.json_type}")
        return given


class Bool(Kind):
    """on/off."""

    type_name = "bool"
    accepts = "on or off"
    json_type = "boolean"

    def to_json(self, value: Any) -> bool:
        """JSON's true or false."""
        return bool(value)

    def parse(self, given: Any) -> bool:
        """Value for on/off, yes/no, true/false, y/n."""
        if isinstance(given, bool):
            return given
        word = str(given).lower()
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
        raise ValueError(f"expected {self.accepts}")

    def format(self, value: Any) -> str:
        """``on`` or ``off``."""
        return "on" if value else "off"


class Integer(Kind):
    """A whole number in a range."""

    json_type = "integer"

    def to_json(self, value: Any) -> Any:
        """The number."""
        return value

    def __init__(self, type_name: str, minimum: int, maximum: int) -> None:
        self.type_name = type_name
        self.minimum = minimum
        self.maximum = maximum

    @property
    def accepts(self) -> str:  # type: ignore[override]
        """The range, as text."""
        return f"a whole number from {self.minimum} to {self.maximum}"

    def parse(self, given: Any) -> int:
        """Value for decimal, 0x or 0o digits."""
        if isinstance(given, bool) or not isinstance(given, int | str):
            raise ValueError(f"expected {self.accepts}")
        try:
            value = given if isinstance(given, int) else int(given, 0)
        except ValueError:
            raise ValueError(f"expected {self.accepts}") from None
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"out of range, expected {self.accepts}")
        return value


class Hex32(Integer):
    """32 bits, printed in hexadecimal."""

    def __init__(self) -> None:
        super().__init__("uint32", 0, (1 << 32) - 1)

    def format(self, value: Any) -> str:
        """``0x`` and hexadecimal digits."""
        return f"{value:#x}"


class Size(Kind):
    """Bytes with a binary suffix."""

    type_name = "size"
    accepts = "bytes, or a number with suffix K, M, G, T, P or E"
    json_type = "integer"

    def to_json(self, value: Any) -> Any:
        """Bytes."""
        return value

    def parse(self, given: Any) -> int:
        """Value in bytes."""
        if isinstance(given, bool):
            raise ValueError(f"expected {self.accepts}")
        if isinstance(given, int) and given >= 0:
            return given
        match = re.fullmatch(r"(0[xX][0-9a-fA-F]+|\d+(?:\.\d+)?)([bBkKmMgGtTpPeE]?)", str(given).strip())
        if not match:
            raise ValueError(f"expected {self.accepts}")
        digits, suffix = match.groups()
        scale = 1 << (10 * "bkmgtpe".index(suffix.lower() or "b"))
        number = int(digits, 16) if digits[:2].lower() == "0x" else float(digits) if "." in digits else int(digits)
        value = int(number * scale)
        if value >= 1 << 64:
            raise ValueError("out of range, expected less than 16 EiB")
        return value

    def format(self, value: Any) -> str:
        """Bytes, with the largest suffix that divides them."""
        for power, suffix in ((40, "T"), (30, "G"), (20, "M"), (10, "K")):
            if value and value % (1 << power) == 0:
                return f"{value >> power}{suffix}"
        return str(value)


class Str(Kind):
    """Text."""

    type_name = "str"
    accepts = "text"

    def parse(self, given: Any) -> str:
        """The text; numbers are taken as they are written."""
        if isinstance(given, bool):
            return "on" if given else "off"
        if not isinstance(given, str | int | float):
            raise ValueError(f"expected {self.accepts}")
        return str(given)


class Path(Str):
    """The path of a file; one written in a definition is relative to the definition's file.

    :ivar must_exist: checked when the definition is read
    :ivar words: values that are no path (QEMU's ``script=no``)
    """

    accepts = "a path"

    def __init__(self, must_exist: bool = False, words: tuple[str, ...] = ()) -> None:
        self.must_exist = must_exist
        self.words = words


class Enum(Kind):
    """One of several words."""

    def __init__(self, type_name: str, choices: tuple[str, ...]) -> None:
        self.type_name = type_name
        self.choices = choices

    @property
    def accepts(self) -> str:  # type: ignore[override]
        """The words."""
        return "one of " + ", ".join(self.choices)

    def parse(self, given: Any) -> str:
        """The word."""
        word = ("on" if given else "off") if isinstance(given, bool) else str(given)
        if word not in self.choices:
            raise ValueError(f"expected {self.accepts}")
        return word


class OnOffAuto(Enum):
    """on, off or auto."""

    def __init__(self) -> None:
        super().__init__("OnOffAuto", ("on", "off", "auto"))

    def parse(self, given: Any) -> str:
        """The word; other spellings of on and off are taken, as QEMU takes them."""
        word = str(given).lower()
        return super().parse("on" if word in _TRUE else "off" if word in _FALSE else word)


class MacAddr(Kind):
    """An Ethernet address."""

    type_name = "str"
    accepts = "six bytes as in 52:54:00:12:34:56"

    def parse(self, given: Any) -> bytes:
        """Six bytes for colons or dashes between hexadecimal pairs."""
        text = str(given)
        if not re.fullmatch(r"[0-9a-fA-F]{2}(?:[:-][0-9a-fA-F]{2}){5}", text):
            raise ValueError(f"expected {self.accepts}")
        return bytes.fromhex(re.sub("[:-]", "", text))

    def format(self, value: Any) -> str:
        """Pairs with colons."""
        return ":".join(f"{b:02x}" for b in value)


class PciDevfn(Kind):
    """A place on a PCI bus."""

    type_name = "int32"
    accepts = "a slot from 0 to 1f with an optional function, as in 4 or 4.1 (hexadecimal)"
    description = "Slot and optional function number, example: 06.0 or 06"

    def parse(self, given: Any) -> int:
        """Slot * 8 + function for 'slot.function'."""
        # YAML reads a plain 4.1 as a float and 10 as an int; both are the user's hexadecimal digits
        match = re.fullmatch(r"(?:0x)?([0-9a-fA-F]{1,2})(?:\.([0-7]))?", str(given))
        if isinstance(given, bool) or not match or int(match[1], 16) > 0x1F:
            raise ValueError(f"expected {self.accepts}")
        return int(match[1], 16) << 3 | int(match[2] or "0")

    def format(self, value: Any) -> str:
        """``slot.function`` as QEMU prints it."""
        return f"{value >> 3:02x}.{value & 7:x}"

    def legacy(self, value: Any) -> str:
        """As :meth:`format`, for what is not set, too."""
        return "<unset>" if value is None else self.format(value)

    def to_json(self, value: Any) -> int:
        """Slot * 8 + function; -1: not set."""
        return -1 if value is None else int(value)

    def from_json(self, name: str, given: Any) -> Any:
        """Text, or slot * 8 + function."""
        if isinstance(given, bool) or not isinstance(given, int | str):
            raise ValueError(f"Invalid parameter type for '{name}', expected int or str")
        if isinstance(given, str):
            return given
        if not 0 <= given <= 255:
            raise ValueError(f"Parameter '{name}' expects a value between -1 and 255")
        return self.format(given)


class BackendRef(Kind):
    """The name of a drive, netdev or chardev; the machine puts the object in its place."""

    type_name = "str"
    reference: str

    def __init__(self, reference: str) -> None:
        self.reference = reference

    @property
    def accepts(self) -> str:  # type: ignore[override]
        """Which section's names."""
        return f"the name of an entry of {self.reference}s:"

    def parse(self, given: Any) -> str:
        """The name; resolved later, when all backends exist."""
        if isinstance(given, bool) or not isinstance(given, str | int):
            raise ValueError(f"expected {self.accepts}")
        return str(given)

    def format(self, value: Any) -> str:
        """The entry's name."""
        return value if isinstance(value, str) else str(value.name)


class Link(BackendRef):
    """The id of another object."""

    @property
    def type_name(self) -> str:  # type: ignore[override]
        """QEMU's spelling of a link's type."""
        return f"link<{self.reference}>"

    @property
    def accepts(self) -> str:  # type: ignore[override]
        """Ids of which type."""
        return f"the id of an object of type {self.reference}"
