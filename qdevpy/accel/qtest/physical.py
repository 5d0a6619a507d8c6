# SPDX-License-Identifier: Apache-2.0
"""Guest-physical addresses as a processor meets them: RAM, ROM, devices, and nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qdevpy.native.memory import GuestMemory
    from qdevpy.native.space import AddressSpace

END = 1 << 64


class PhysicalMemory:
    """Reads and writes of any length. With the VM lock held."""

    def __init__(self, memory: GuestMemory, space: AddressSpace) -> None:
        self._memory = memory
        self._space = space

    def read(self, address: int, size: int) -> bytes:
        """SIZE bytes; where nobody answers, ones."""
        result = bytearray()
        for start, data, _, length in self._memory.cpu_pieces(address, min(size, END - address)):
            if data is not None:
                result += data
                continue
            for place, width in accesses(start, length):
                result += self._space.read("mmio", place, width).to_bytes(width, "little")
        return bytes(result.ljust(size, b"\xff"))

    def write(self, address: int, data: bytes) -> None:
        """All of DATA; what nobody takes is lost."""
        rest = memoryview(data)[: END - address]
        for start, memory, writable, length in self._memory.cpu_pieces(address, len(rest)):
            piece, rest = rest[:length], rest[length:]
            if memory is not None and writable:
                memory[:] = piece
                continue
            for place, width in accesses(start, length):
                offset = place - start
                self._space.write("mmio", place, int.from_bytes(piece[offset : offset + width], "little"), width)


def accesses(start: int, length: int) -> Iterator[tuple[int, int]]:
    """``(address, bytes)`` of what a processor makes of a long access: one, or aligned ones of at most four bytes."""
    if length in (1, 2, 4, 8):
        yield start, length
        return
    end = start + length
    while start < end:
        width = next(w for w in (4, 2, 1) if start % w == 0 and w <= end - start)
        yield start, width
        start += width
