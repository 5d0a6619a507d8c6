# SPDX-License-Identifier: Apache-2.0
"""A virtio device's config space as a class with typed fields, little-endian (virtio 1.2, 2.5).

::

    class LampConfig(ConfigSpace):
        brightness: int = le16(100, writable=True)
        lamps: int = le32(1)
        name: bytes = raw(8)

    class Lamp(VirtIODevice):
        config_type = LampConfig

The device finds it as ``self.config_space`` from ``do_realize`` on. Fields lie one after the other without gaps, as in the
specification's tables: declare a ``raw`` field where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Self, cast, dataclass_transform

import attrs

_KEY = "qdevpy.config"


class ConfigField(NamedTuple):
    """Where a field is, and whether the driver may write it."""

    name: str
    offset: int
    size: int
    writable: bool
    is_bytes: bool


def _declare(size: int, default: Any, *, writable: bool, is_bytes: bool) -> Any:
    return attrs.field(default=default, kw_only=True, metadata={_KEY: (size, writable, is_bytes)})


def le8(default: int = 0, *, writable: bool = False) -> Any:
    """One byte. WRITABLE: the driver may set it."""
    return _declare(1, default, writable=writable, is_bytes=False)


def le16(default: int = 0, *, writable: bool = False) -> Any:
    """Two bytes."""
    return _declare(2, default, writable=writable, is_bytes=False)


def le32(default: int = 0, *, writable: bool = False) -> Any:
    """Four bytes."""
    return _declare(4, default, writable=writable, is_bytes=False)


def le64(default: int = 0, *, writable: bool = False) -> Any:
    """Eight bytes."""
    return _declare(8, default, writable=writable, is_bytes=False)


def raw(size: int, default: bytes = b"", *, writable: bool = False) -> Any:
    """SIZE bytes as they are (a MAC address, a name, a gap); shorter values are filled up with zeros."""
    return _declare(size, default, writable=writable, is_bytes=True)


@dataclass_transform(kw_only_default=True, field_specifiers=(le8, le16, le32, le64, raw))
class ConfigSpace:
    """Base class of config spaces; a subclass is an attrs class without further ado."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        attrs.define(cls, slots=False)

    @classmethod
    def fields(cls) -> Iterator[ConfigField]:
        """All fields, in their order."""
        offset = 0
        for field in attrs.fields(cast(Any, cls)):  # subclasses are attrs classes
            size, writable, is_bytes = field.metadata[_KEY]
            yield ConfigField(field.name, offset, size, writable, is_bytes)
            offset += size

    def pack(self) -> bytes:
        """The bytes that the driver sees.

        :raises ValueError: a field's value does not fit; names it
        """
        return b"".join(self._pack(field) for field in self.fields())

    def _pack(self, field: ConfigField) -> bytes:
        value = getattr(self, field.name)
        if field.is_bytes and len(value) <= field.size:
            return bytes(value).ljust(field.size, b"\0")
        if not field.is_bytes and 0 <= value < 1 << 8 * field.size:
            return int(value).to_bytes(field.size, "little")
        raise ValueError(f"config space field {field.name} has {field.size} bytes and cannot be {value!r}")

    def written(self, offset: int, data: bytes) -> list[str]:
        """The driver wrote DATA at OFFSET: writable fields take their share; the names of those that did."""
        packed = bytearray(self.pack())
        packed[offset : offset + len(data)] = data
        names = []
        for field in self.fields():
            if field.writable and field.offset < offset + len(data) and offset < field.offset + field.size:
                part = bytes(packed[field.offset : field.offset + field.size])
                setattr(self, field.name, part if field.is_bytes else int.from_bytes(part, "little"))
                names.append(field.name)
        return names

    def changed(self, **values: Any) -> Self:
        """A copy with other VALUES.

        :raises ValueError: one does not fit
        """
        other: Self = attrs.evolve(cast(Any, self), **values)
        other.pack()
        return other
