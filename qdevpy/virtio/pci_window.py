# SPDX-License-Identifier: Apache-2.0
"""The PCI configuration access capability (virtio 1.2, 4.1.4.9): registers for who cannot reach the BARs.

Firmware uses it before BARs are placed or where they are out of its reach, so it works whether they are decoded or not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from qdevpy.pci.config import ConfigSpace

LENGTH = 20
BAR, OFFSET, SIZE, DATA = 4, 8, 12, 16


class Reachable(NamedTuple):
    """A BAR as the window sees it.

    :ivar size: bytes
    """

    size: int
    read: Callable[[int, int], int]
    write: Callable[[int, int, int], None]


class ConfigWindow:
    """The window of one function.

    :param at: offset of the capability, :data:`LENGTH` bytes
    :param bars: what can be reached through it, by BAR index
    """

    def __init__(self, config: ConfigSpace, at: int, bars: dict[int, Reachable]) -> None:
        self._config = config
        self._at = at
        self._bars = bars
        config.set(at + BAR, 0, 1, mask=0xFF)
        for field in (OFFSET, SIZE, DATA):
            config.set(at + field, 0, 4, mask=0xFFFFFFFF)

    def _target(self) -> tuple[Reachable, int, int] | None:
        """BAR, offset and size of the access; None where the driver asks for what it must not (4.1.4.9.2)."""
        config, at = self._config, self._at
        bar = self._bars.get(config.get(at + BAR, 1))
        offset, size = config.get(at + OFFSET, 4), config.get(at + SIZE, 4)
        if bar is None or size not in (1, 2, 4) or offset % size or offset + size > bar.size:
            return None
        return bar, offset, size

    def _covers_data(self, offset: int, size: int) -> bool:
        return offset < self._at + LENGTH and offset + size > self._at + DATA

    def before_read(self, offset: int, size: int) -> None:
        """The guest is about to read its configuration space: put the register's value where it will look."""
        target = self._target() if self._covers_data(offset, size) else None
        if target is not None:
            bar, place, width = target
            self._config.set(self._at + DATA, bar.read(place, width) & ((1 << 8 * width) - 1), 4)

    def after_write(self, offset: int, size: int) -> None:
        """The guest has written its configuration space: hand the data on."""
        target = self._target() if self._covers_data(offset, size) else None
        if target is not None:
            bar, place, width = target
            bar.write(place, self._config.get(self._at + DATA, width), width)
