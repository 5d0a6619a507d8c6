# SPDX-License-Identifier: Apache-2.0
"""What CPUs find at guest-physical addresses: RAM, and what lies on top of it: ROM, shadow RAM, holes.

Devices (DMA) always see the RAM below. An access of a CPU that an overlay does not serve (a hole, a write to ROM)
goes to the address space, as any address without memory does.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from qdevpy.native.core import ffi

if TYPE_CHECKING:
    from qdevpy.native.memory import RamRegion, Slot

PAGE = 4096


class HostPages:
    """Whole pages of this process that a guest may be shown: a ROM's content.

    :param content: what they hold; zeros follow up to a whole page
    :ivar hva: address of the first byte
    :ivar data: the bytes, writable
    """

    def __init__(self, content: bytes) -> None:
        self.size = -(-len(content) // PAGE) * PAGE
        self._map = mmap.mmap(-1, self.size)
        self._map[: len(content)] = content
        self._start: Any = ffi.from_buffer("uint8_t[]", self._map, require_writable=True)
        self.hva = int(ffi.cast("uintptr_t", self._start))
        self.data = memoryview(self._map)

    def close(self) -> None:
        """Give the pages back; no overlay shows them any more. May be called twice."""
        self.data.release()
        ffi.release(self._start)
        with suppress(BufferError):
            self._map.close()


class Overlay(NamedTuple):
    """A range that lies over what is below.

    :ivar hva: address in this process of what shows there; 0: a hole
    :ivar data: the same bytes; None: a hole
    """

    gpa: int
    size: int
    hva: int = 0
    data: memoryview | None = None
    writable: bool = False


def flatten(regions: Sequence[RamRegion], overlays: Sequence[Overlay]) -> list[Slot]:
    """RAM as far as no overlay hides it, and the overlays, of which the later wins; sorted by address.

    Pieces are never joined: who cuts memory the same way every time keeps the other pieces as they are.
    """
    pieces: list[Slot] = [(ram.gpa, ram.size, ram.hva, True) for ram in regions]
    for over in overlays:
        end = over.gpa + over.size
        kept: list[Slot] = []
        for piece in pieces:
            gpa, size, hva, writable = piece
            if gpa + size <= over.gpa or end <= gpa:
                kept.append(piece)
                continue
            if gpa < over.gpa:
                kept.append((gpa, over.gpa - gpa, hva, writable))
            if end < gpa + size:
                kept.append((end, gpa + size - end, hva + end - gpa, writable))
        if over.hva:
            kept.append((over.gpa, over.size, over.hva, over.writable))
        pieces = kept
    return sorted(pieces)
