# SPDX-License-Identifier: Apache-2.0
"""Kinds of property values: QEMU's spelling in, a Python value, QEMU's spellings out.

``parse`` is what users write, ``format`` writes it back; ``show`` is ``info qtree``, ``to_json`` and ``from_json`` are QMP.

``parse`` takes text, or what YAML makes of a plain scalar (bool, int, float), and raises
:class:`ValueError` whose text says what would be accepted; the caller adds device and property.

Plain classes: attrs takes half a millisecond a class to make, and start-up counts.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

from qdevpy.qdev.value_schema import DIGITS, SCALAR, Schema, any_of, folded, matching, words

_TRUE = {"on", "yes", "true", "y"}
_FALSE = {"off", "no", "false", "n"}


class Kind(ABC):
    """One sort of property value."""

    type_name: str  #: QEMU's name of the type, as ``-device X,help`` prints it
    accepts: str  #: what a user may write, for messages
    reference: str | None = None  #: for references: ``drive``, ``netdev``, ``chardev`` or the link's target
    description: str | None = None  #: what QEMU says of the kind in ``-device X,help``
    json_type: str = "string"  #: what QMP takes: ``string``, ``integer`` or ``boolean``
    is_list: bool = False  #: what users write is a list; as text it is JSON
    legacy: Callable[[Any], str] | None = None  #: the value as text, where QMP has both forms

    @abstractmethod
    def parse(self, given: Any) -> Any:
        """Value for what the user gave; ValueError says what is accepted."""

    def format(self, value: Any) -> str:
        """The value as the user would write it."""
        return str(value)

    def objects_in(self, given: Any) -> Iterable[tuple[str, str]]:
        """Type and id of the objects that a value, which :meth:`parse` takes, speaks of beside what :attr:`reference` says."""
        return ()

    def is_unset(self, value: Any) -> bool:
        """Whether the value stands for none."""
        return value is None

    def show(self, value: Any) -> str:
        """The value as ``info qtree`` prints it (QEMU's string output visitor): text in quotes."""
        return f'"{"" if value is None else self.format(value)}"'

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

    def schema(self) -> Schema:
        """JSON schema of what :meth:`parse` takes, where a schema can say it; any value, unless overridden."""
        return dict(SCALAR)

    def schema_of(self, values: Iterable[Any]) -> Schema:
        """As :meth:`schema`, of VALUES only. Override where one value has several spellings."""
        return words("" if value is None else self.format(value) for value in values)


class Bool(Kind):
    """on/off."""

    type_name = "bool"
    accepts = "on or off"
    json_type = "boolean"

    def show(self, value: Any) -> str:
        """``true`` or ``false``."""
        return "true" if value else "false"

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

    def schema(self) -> Schema:
        """Both, in all spellings."""
        return self.schema_of((True, False))

    def schema_of(self, values: Iterable[Any]) -> Schema:
        """All spellings of VALUES."""
        values = list(values)
        return folded(
            map(self.format, values), (w for v in values for w in sorted(_TRUE if v else _FALSE) if w not in ("on", "off"))
        )


class Bit(Bool):
    """One bit of a word."""

    description = "on/off"


class Integer(Kind):
    """A whole number in a range.

    :ivar unset: a number beyond the range that stands for no number at all; None: there is none
    """

    json_type = "integer"

    def __init__(self, type_name: str, minimum: int, maximum: int, unset: int | None = None) -> None:
        self.type_name = type_name
        self.minimum = minimum
        self.maximum = maximum
        self.unset = unset

    @property
    def accepts(self) -> str:  # type: ignore[override]
        """The range, as text."""
        return f"a whole number from {self.minimum} to {self.maximum}"

    def parse(self, given: Any) -> int:
        """Value for decimal, 0x hexadecimal or 0 octal digits, as C reads them."""
        if isinstance(given, bool) or not isinstance(given, int | str):
            raise ValueError(f"expected {self.accepts}")
        value = given if isinstance(given, int) else self._read(given.strip())
        if value != self.unset and not self.minimum <= value <= self.maximum:
            raise ValueError(f"out of range, expected {self.accepts}")
        return value

    def _read(self, text: str) -> int:
        match = re.fullmatch(r"([+-]?)(?:0[xX]([0-9a-fA-F]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))", text)
        if not match:
            raise ValueError(f"expected {self.accepts}")
        sign, hexadecimal, octal, decimal = match.groups()
        value = int(hexadecimal, 16) if hexadecimal else int(octal, 8) if octal else int(decimal)
        return -value if sign == "-" else value

    def is_unset(self, value: Any) -> bool:
        """Whether it is the number that stands for none."""
        return value is None or value == self.unset

    def show(self, value: Any) -> str:
        """The number, and once more in hexadecimal, as 64 bits."""
        return f"{value} ({value & ((1 << 64) - 1):#x})"

    def to_json(self, value: Any) -> Any:
        """The number."""
        return value

    def schema(self) -> Schema:
        """The range, and text that is digits: how much they are cannot be said there."""
        numbers: list[Schema] = [{"type": "integer", "minimum": self.minimum, "maximum": self.maximum}]
        if self.unset is not None:
            numbers.append({"const": self.unset})
        return any_of(*numbers, DIGITS)

    def schema_of(self, values: Iterable[Any]) -> Schema:
        """The numbers, and text that is digits."""
        return any_of({"enum": list(values)}, DIGITS)


class Hex32(Integer):
    """32 bits, printed in hexadecimal."""

    def __init__(self) -> None:
        super().__init__("uint32", 0, (1 << 32) - 1)

    def format(self, value: Any) -> str:
        """``0x`` and hexadecimal digits."""
        return f"{value:#x}"


#: as :meth:`Size.parse` reads it
_SIZE_TEXT: Schema = {
    "type": "string",
    "pattern": r"^\s*(?:0[xX][0-9a-fA-F]+|\d+[bB]?|\d+(?:\.\d+)?[kKmMgGtTpPeE])\s*$",
}


class Size(Kind):
    """Bytes with a binary suffix."""

    type_name = "size"
    accepts = "bytes, or a number with suffix K, M, G, T, P or E"
    json_type = "integer"

    def show(self, value: Any) -> str:
        """Bytes, and three digits with a binary unit (QEMU: size_to_str)."""
        power = min(max(value, 1).bit_length() - 1, 63) // 10
        return f"{value} ({value / (1 << 10 * power):.3g} {['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei'][power]}B)"

    def to_json(self, value: Any) -> Any:
        """Bytes."""
        return value

    def parse(self, given: Any) -> int:
        """Value in bytes."""
        if isinstance(given, bool):
            raise ValueError(f"expected {self.accepts}")
        if isinstance(given, int) and given >= 0:
            return given
        text = str(given).strip()
        match = re.fullmatch(r"(?:0[xX]([0-9a-fA-F]+)|(\d+)(?:\.(\d+))?([bBkKmMgGtTpPeE]?))", text)
        if not match or (match[3] and match[4].lower() in ("", "b")):  # there are no parts of a byte
            raise ValueError(f"expected {self.accepts}")
        hexadecimal, whole, part, suffix = match.groups()
        scale = 1 << (10 * "bkmgtpe".index((suffix or "b").lower()))
        value = int(hexadecimal, 16) if hexadecimal else int(whole) * scale + int(scale * float(f"0.{part or 0}"))
        if value >= 1 << 64:
            raise ValueError("out of range, expected less than 16 EiB")
        return value

    def format(self, value: Any) -> str:
        """Bytes, with the largest suffix that divides them."""
        for power, suffix in ((40, "T"), (30, "G"), (20, "M"), (10, "K")):
            if value and value % (1 << power) == 0:
                return f"{value >> power}{suffix}"
        return str(value)

    def schema(self) -> Schema:
        """Bytes, and text with a suffix."""
        return {
            **any_of({"type": "integer", "minimum": 0, "maximum": (1 << 64) - 1}, _SIZE_TEXT),
            "examples": ["4K", "256M", "1.5G"],
        }

    def schema_of(self, values: Iterable[Any]) -> Schema:
        """The numbers of bytes, and text with a suffix."""
        return any_of({"enum": list(values)}, _SIZE_TEXT)


class BlockSize(Size):
    """The size of a block: a power of two from 512 bytes to 2 MiB, or 0 for what the device thinks right."""

    accepts = "a power of two from 512 to 2M, or 0"
    description = "A power of two between 512 B and 2 MiB"

    def parse(self, given: Any) -> int:
        """Value in bytes."""
        value = super().parse(given)
        if value and (value & (value - 1) or not 512 <= value <= 2 << 20):
            raise ValueError(f"expected {self.accepts}")
        return value

    def schema(self) -> Schema:
        """The powers, and text with a suffix."""
        return {**self.schema_of([0, *(512 << power for power in range(13))]), "examples": ["512", "4K"]}


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

    def schema(self) -> Schema:
        """The words."""
        return self.schema_of(self.choices)


class OnOffAuto(Enum):
    """on, off or auto."""

    description = "on/off/auto"

    def __init__(self) -> None:
        super().__init__("OnOffAuto", ("on", "off", "auto"))

    def parse(self, given: Any) -> str:
        """The word; other spellings of on and off are taken, as QEMU takes them."""
        word = str(given).lower()
        return super().parse("on" if word in _TRUE else "off" if word in _FALSE else word)

    def schema_of(self, values: Iterable[Any]) -> Schema:
        """All spellings of VALUES."""
        values = list(values)
        spellings = {"on": _TRUE, "off": _FALSE}
        return folded(values, (word for value in values for word in sorted(spellings.get(value, ())) if word != value))


class OnError(Enum):
    """What to do with a request that the host fails."""

    description = "Error handling policy, report/ignore/enospc/stop/auto"

    def __init__(self) -> None:
        super().__init__("BlockdevOnError", ("report", "ignore", "enospc", "stop", "auto"))


class MacAddr(Kind):
    """An Ethernet address."""

    type_name = "str"
    description = "Ethernet 6-byte MAC Address, example: 52:54:00:12:34:56"
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

    def schema(self) -> Schema:
        """Six pairs of digits."""
        return {**matching("[0-9a-fA-F]{2}(?:[:-][0-9a-fA-F]{2}){5}"), "examples": ["52:54:00:12:34:56"]}


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
        return "<unset>" if value < 0 else self.format(value)

    def is_unset(self, value: Any) -> bool:
        """Whether there is none."""
        return bool(value < 0)

    def show(self, value: Any) -> str:
        """As :meth:`legacy`."""
        return self.legacy(value)

    def to_json(self, value: Any) -> int:
        """Slot * 8 + function; -1: not set."""
        return int(value)

    def from_json(self, name: str, given: Any) -> Any:
        """Text, or slot * 8 + function."""
        if isinstance(given, bool) or not isinstance(given, int | str):
            raise ValueError(f"Invalid parameter type for '{name}', expected int or str")
        if isinstance(given, str):
            return given
        if not 0 <= given <= 255:
            raise ValueError(f"Parameter '{name}' expects a value between -1 and 255")
        return self.format(given)

    def schema(self) -> Schema:
        """Text, or a number where YAML sees one in the digits: 4, 4.1, 0x1f."""
        text = matching(r"(?:0x)?(?:[01][0-9a-fA-F]|[0-9a-fA-F])(?:\.[0-7])?")
        return {**any_of(text, {"type": "number", "minimum": 0, "exclusiveMaximum": 0x20}), "examples": ["4", "4.1", "1f.0"]}


#: what QEMU says of references to back ends
DESCRIPTIONS = {
    "drive": "Node name or ID of a block device to use as a backend",
    "netdev": "ID of a netdev to use as a backend",
    "chardev": "ID of a chardev to use as a backend",
}


class BackendRef(Kind):
    """The name of a drive, netdev or chardev; the machine puts the object in its place."""

    type_name = "str"
    reference: str

    def __init__(self, reference: str) -> None:
        self.reference = reference
        self.description = DESCRIPTIONS.get(reference)

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


class Only(Kind):
    """A kind of which only some values work; any other is refused, with the reason."""

    def __init__(self, kind: Kind, values: tuple[Any, ...], why: str) -> None:
        self.kind = kind
        self.values = values
        self.why = why
        self.type_name = kind.type_name
        self.description = kind.description
        self.json_type = kind.json_type

    @property
    def accepts(self) -> str:  # type: ignore[override]
        """The values, and why no other."""
        return f"only {' or '.join(self.format(v) if v is not None else 'nothing' for v in self.values)}: {self.why}"

    def parse(self, given: Any) -> Any:
        """The value."""
        value = self.kind.parse(given)
        if value in self.values:
            return value
        if value == "" and None in self.values:  # no text and empty text are the same
            return None
        raise ValueError(f"cannot be set: {self.why}")

    def is_unset(self, value: Any) -> bool:
        """As the kind."""
        return self.kind.is_unset(value)

    def format(self, value: Any) -> str:
        """As the kind."""
        return self.kind.format(value)

    def show(self, value: Any) -> str:
        """As the kind."""
        return self.kind.show(value)

    def to_json(self, value: Any) -> Any:
        """As the kind."""
        return self.kind.to_json(value)

    def schema(self) -> Schema:
        """The values."""
        return self.kind.schema_of(self.values)
