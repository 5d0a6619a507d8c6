# SPDX-License-Identifier: Apache-2.0
"""MSI-X (PCI 3.0, 6.8.2): a table of messages, a pending bit array, and an eventfd a vector.

Whoever interrupts signals the vector's eventfd and knows nothing else. While the vector may fire, the
accelerator turns signals into its message; while it is masked they stay in the eventfd, which is what the
pending bit is read from, and the accelerator delivers them when it is assigned again.
"""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

from qdevpy.accel.base import MsiMessage

if TYPE_CHECKING:
    from qdevpy.accel.base import Accelerator
    from qdevpy.pci.config import ConfigSpace

CAPABILITY = 0x11
ENTRY_SIZE = 16
ENABLE = 0x8000
FUNCTION_MASK = 0x4000
VECTOR_MASKED = 1


class MSIX:
    """MSI-X of one function.

    :param vectors: table entries, 1 to 2048
    :param bar: BAR that holds table and pending bits
    :param accel: delivers the messages
    :ivar enabled: the driver has switched MSI-X on
    """

    def __init__(self, config: ConfigSpace, vectors: int, bar: int, accel: Accelerator) -> None:
        assert 1 <= vectors <= 2048, f"{vectors} MSI-X vectors"
        self.vectors = vectors
        self.pba_offset = max(0x800, (vectors * ENTRY_SIZE + 0xFFF) & ~0xFFF if vectors > 128 else 0x800)
        self.size = 1 << (self.pba_offset + (vectors + 63) // 64 * 8 - 1).bit_length()
        self._config = config
        self._accel = accel
        self._table = bytearray(vectors * ENTRY_SIZE)
        self._fds = [os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(vectors)]
        self._assigned: dict[int, tuple[int, MsiMessage]] = {}
        self._offset = config.add_capability(CAPABILITY, 12)
        config.set(self._offset + 2, vectors - 1, 2, mask=ENABLE | FUNCTION_MASK)
        config.set(self._offset + 4, bar, 4)
        config.set(self._offset + 8, self.pba_offset | bar, 4)
        self.reset()

    @property
    def enabled(self) -> bool:
        """Whether the driver has switched MSI-X on."""
        return bool(self._config.get(self._offset + 2, 2) & ENABLE)

    def fd(self, vector: int) -> int:
        """The vector's eventfd, or -1 where there is no such vector."""
        return self._fds[vector] if 0 <= vector < self.vectors else -1

    def notify(self, vector: int) -> None:
        """Signal a vector; nothing where there is none."""
        if 0 <= vector < self.vectors:
            os.eventfd_write(self._fds[vector], 1)

    def pending(self, vector: int) -> bool:
        """Whether a signal waits."""
        return bool(select.select([self._fds[vector]], [], [], 0)[0])

    def read(self, offset: int, size: int) -> int:
        """Guest's read of the BAR."""
        value = 0
        for i in range(size):
            value |= self._byte(offset + i) << (8 * i)
        return value

    def _byte(self, offset: int) -> int:
        if offset < len(self._table):
            return self._table[offset]
        first = (offset - self.pba_offset) * 8
        if not 0 <= first < self.vectors:
            return 0
        bits = range(first, min(first + 8, self.vectors))
        # a vector that is assigned is delivered by the accelerator and never pending for the guest
        return sum(1 << (v - first) for v in bits if v not in self._assigned and self.pending(v))

    def write(self, offset: int, value: int, size: int) -> None:
        """Guest's write to the BAR; pending bits are read-only."""
        if offset + size > len(self._table):
            return
        self._table[offset : offset + size] = value.to_bytes(size, "little")
        for vector in range(offset // ENTRY_SIZE, (offset + size - 1) // ENTRY_SIZE + 1):
            self._update(vector)

    def config_written(self) -> None:
        """The capability's control word may have changed."""
        for vector in range(self.vectors):
            self._update(vector)

    def _message(self, vector: int) -> MsiMessage | None:
        """What the vector sends, or None while it is masked."""
        control = self._config.get(self._offset + 2, 2)
        entry = self._table[vector * ENTRY_SIZE : (vector + 1) * ENTRY_SIZE]
        if not control & ENABLE or control & FUNCTION_MASK or entry[12] & VECTOR_MASKED:
            return None
        return MsiMessage(int.from_bytes(entry[0:8], "little"), int.from_bytes(entry[8:12], "little"))

    def _update(self, vector: int) -> None:
        message = self._message(vector)
        handle, before = self._assigned.get(vector, (0, None))
        if message == before:
            return
        if message is None:
            del self._assigned[vector]
            self._accel.deassign_irqfd(handle)
        elif before is None:
            self._assigned[vector] = (self._accel.assign_irqfd(self._fds[vector], message), message)
        else:
            self._accel.update_irqfd(handle, message)
            self._assigned[vector] = (handle, message)

    def reset(self) -> None:
        """All vectors masked, MSI-X off, nothing pending."""
        self._config.set(self._offset + 2, self.vectors - 1, 2)
        self._table[:] = bytes(len(self._table))
        for vector in range(self.vectors):
            self._table[vector * ENTRY_SIZE + 12] = VECTOR_MASKED
        self.config_written()
        for fd in self._fds:
            if select.select([fd], [], [], 0)[0]:
                os.eventfd_read(fd)

    def close(self) -> None:
        """Deassign everything and close the eventfds; nobody signals them any more."""
        for handle, _ in self._assigned.values():
            self._accel.deassign_irqfd(handle)
        self._assigned.clear()
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()
