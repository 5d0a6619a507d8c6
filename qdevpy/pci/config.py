# SPDX-License-Identifier: Apache-2.0
"""PCI configuration space: 256 bytes with a mask of what the guest may write (PCI 3.0, chapter 6)."""

from __future__ import annotations

from collections.abc import Iterator

SIZE = 256

VENDOR_ID = 0x00
DEVICE_ID = 0x02
COMMAND = 0x04
STATUS = 0x06
REVISION = 0x08
CLASS = 0x09
CACHE_LINE_SIZE = 0x0C
HEADER_TYPE = 0x0E
BAR0 = 0x10
SUBSYSTEM_VENDOR_ID = 0x2C
SUBSYSTEM_ID = 0x2E
CAPABILITIES = 0x34
INTERRUPT_LINE = 0x3C
INTERRUPT_PIN = 0x3D

COMMAND_IO = 1
COMMAND_MEMORY = 2
COMMAND_MASTER = 4
COMMAND_INTX_DISABLE = 0x400
#: every bit of the command register that a driver may set
COMMAND_WRITABLE = COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER | 0x100 | COMMAND_INTX_DISABLE

STATUS_INTERRUPT = 8
STATUS_CAPABILITIES = 0x10


class ConfigSpace:
    """Bytes, and for each of their bits whether the guest may change it."""

    def __init__(self) -> None:
        self.data = bytearray(SIZE)
        self.writable = bytearray(SIZE)
        self._next_capability = 0x40

    def get(self, offset: int, size: int) -> int:
        """Little-endian value of SIZE bytes; what lies beyond the space reads as ones."""
        part = self.data[offset : offset + size]
        return int.from_bytes(bytes(part).ljust(size, b"\xff"), "little")

    def set(self, offset: int, value: int, size: int, *, mask: int | None = None) -> None:
        """Device's side: store a value; MASK: also make these bits writable by the guest."""
        self.data[offset : offset + size] = value.to_bytes(size, "little")
        if mask is not None:
            self.writable[offset : offset + size] = mask.to_bytes(size, "little")

    def write(self, offset: int, value: int, size: int) -> None:
        """Guest's side: change the bits that it may."""
        for i in range(offset, min(offset + size, SIZE)):
            mask = self.writable[i]
            self.data[i] = (self.data[i] & ~mask) | (value & 0xFF & mask)
            value >>= 8

    def add_capability(self, identifier: int, length: int) -> int:
        """Put a capability of LENGTH bytes at the head of the list (6.7); returns its offset."""
        offset = self._next_capability
        assert offset + length <= SIZE, "capabilities do not fit"
        self._next_capability = (offset + length + 3) & ~3
        self.data[offset] = identifier
        self.data[offset + 1] = self.data[CAPABILITIES]
        self.data[CAPABILITIES] = offset
        self.set(STATUS, self.get(STATUS, 2) | STATUS_CAPABILITIES, 2)
        return offset

    def capabilities(self) -> Iterator[tuple[int, int]]:
        """``(id, offset)`` of every capability."""
        offset = self.data[CAPABILITIES]
        while offset:
            yield self.data[offset], offset
            offset = self.data[offset + 1]
