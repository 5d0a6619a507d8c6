# SPDX-License-Identifier: Apache-2.0
"""Base address registers (PCI 3.0, 6.2.5): decoded while the command register says so."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from qdevpy.pci import config

if TYPE_CHECKING:
    from qdevpy.native.space import AddressSpace

log = logging.getLogger(__name__)


class Mapped(Protocol):
    """Something that can be taken out of the address space."""

    def unmap(self) -> None:
        """Take it out."""


class Bar:
    """One BAR of a function.

    :param kind: ``io``, ``mem`` or ``mem64``
    :param size: bytes, a power of two; at least 4 for I/O and 16 for memory
    :param on_map: called with the address space, ``pio`` or ``mmio``, and the base; maps, and yields what it mapped
    :ivar base: where it is decoded, or None
    """

    def __init__(
        self,
        index: int,
        kind: str,
        size: int,
        on_map: Callable[[AddressSpace, str, int], Iterable[Mapped]],
    ) -> None:
        assert size & (size - 1) == 0, f"BAR {index}: {size} bytes, not a power of two"
        assert size >= (4 if kind == "io" else 16), f"BAR {index}: {size} bytes, too small"
        self.index = index
        self.kind = kind
        self.size = size
        self.base: int | None = None
        self._on_map = on_map
        self._mappings: list[Mapped] = []

    @property
    def offset(self) -> int:
        """Where in the configuration space."""
        return config.BAR0 + 4 * self.index

    @property
    def bus(self) -> str:
        """``pio`` or ``mmio``."""
        return "pio" if self.kind == "io" else "mmio"

    def declare(self, space: config.ConfigSpace) -> None:
        """Write type bits and the mask by which the guest finds out the size."""
        flags = {"io": 1, "mem": 0, "mem64": 0xC}[self.kind]
        width = 8 if self.kind == "mem64" else 4
        mask = ~(self.size - 1) & ((1 << 8 * width) - 1)
        space.set(self.offset, flags, width, mask=mask)

    def wanted(self, space: config.ConfigSpace) -> int | None:
        """The base that the registers ask for now, or None while the BAR is not decoded."""
        enable = config.COMMAND_IO if self.kind == "io" else config.COMMAND_MEMORY
        if not space.get(config.COMMAND, 2) & enable:
            return None
        base = space.get(self.offset, 8 if self.kind == "mem64" else 4) & ~(self.size - 1)
        limit = {"io": 0x10000, "mem": 1 << 32, "mem64": 1 << 52}[self.kind]
        # 0 is "not placed"; a guest that sizes a BAR has ones in it for a moment: nothing is decoded there
        return base if 0 < base < limit - self.size else None

    def update(self, space: config.ConfigSpace, target: AddressSpace) -> bool:
        """Move to where the registers say; whether that is somewhere else than before."""
        wanted = self.wanted(space)
        if wanted == self.base:
            return False
        self.unmap()
        if wanted is not None:
            self.base = wanted
            try:
                for mapping in self._on_map(target, self.bus, wanted):
                    self._mappings.append(mapping)
            except ValueError as error:  # a guest that scatters hundreds of BARs
                log.warning("BAR %d at %#x: %s; nobody answers there", self.index, wanted, error)
                self.unmap()
        return True

    def unmap(self) -> None:
        """Take it out of the address space."""
        for mapping in self._mappings:
            mapping.unmap()
        self._mappings = []
        self.base = None
