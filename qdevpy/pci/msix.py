# SPDX-License-Identifier: Apache-2.0
"""MSI-X (PCI 3.0, 6.8.2): a table of messages, a pending bit array, and an eventfd a vector.

How signals become messages is in :mod:`.vectors`. A vector fires only while somebody uses it (QEMU:
``msix_vector_use``), so that a reset can take the interrupts of an earlier driver's time away from the next one.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from qdevpy.accel.base import MsiMessage
from qdevpy.pci.vectors import Vectors

if TYPE_CHECKING:
    from qdevpy.accel.base import Accelerator
    from qdevpy.pci.config import ConfigSpace

CAPABILITY = 0x11
MAX_VECTORS = 2048
ENTRY_SIZE = 16
ENABLE = 0x8000
FUNCTION_MASK = 0x4000
VECTOR_MASKED = 1


class MSIX:
    """MSI-X of one function.

    :param vectors: table entries, 1 to 2048
    :param bar: BAR that holds table and pending bits
    :param accel: delivers the messages
    :ivar size: bytes that the BAR needs, a power of two
    """

    def __init__(self, config: ConfigSpace, vectors: int, bar: int, accel: Accelerator) -> None:
        assert 1 <= vectors <= MAX_VECTORS, f"{vectors} MSI-X vectors"
        self.vectors = vectors
        # as QEMU's msix_init_exclusive_bar: table and pending bits share one page where they fit
        self.pba_offset = 2048 if vectors <= 128 else -(-vectors * ENTRY_SIZE // 4096) * 4096
        self.size = max(4096, 1 << (self.pba_offset + (vectors + 63) // 64 * 8 - 1).bit_length())
        self._config = config
        self._table = bytearray(vectors * ENTRY_SIZE)
        self._lines = Vectors("MSI-X", vectors, accel)
        self._users: Counter[int] = Counter()
        self._offset = config.add_capability(CAPABILITY, 12)
        config.set(self._offset + 2, vectors - 1, 2, mask=ENABLE | FUNCTION_MASK)
        config.set(self._offset + 4, bar, 4)
        config.set(self._offset + 8, self.pba_offset | bar, 4)
        self._control = 0
        self.reset()

    @property
    def enabled(self) -> bool:
        """Whether the driver has switched MSI-X on."""
        return bool(self._control & ENABLE)

    # -- for the function

    def use(self, vector: int) -> None:
        """One more user of a vector; nothing where there is no such vector."""
        if 0 <= vector < self.vectors:
            self._users[vector] += 1
            self._update(vector)

    def unuse(self, vector: int) -> None:
        """One user less; with the last one goes what is pending."""
        if self._users[vector] > 0:
            self._users[vector] -= 1
            if not self._users[vector]:
                self._update(vector)
                self._lines.drain(vector)

    def unuse_all(self) -> None:
        """Nobody uses any vector, and nothing is pending: the device was reset (msix_unuse_all_vectors)."""
        used = [vector for vector, users in self._users.items() if users]
        self._users.clear()
        for vector in used:
            self._update(vector)
            self._lines.drain(vector)

    def fd(self, vector: int) -> int:
        """The vector's eventfd, or -1 where there is no such vector."""
        return self._lines.fd(vector)

    def notify(self, vector: int) -> None:
        """Signal a vector; nothing where there is none, or nobody uses it."""
        if self._users[vector] > 0:
            self._lines.signal(vector)

    def is_pending(self, vector: int) -> bool:
        """Whether a signal waits for the vector to be unmasked."""
        return self._lines.is_pending(vector)

    # -- for the guest

    def read(self, offset: int, size: int) -> int:
        """Read the BAR."""
        return int.from_bytes(bytes(self._byte(offset + i) for i in range(size)), "little")

    def _byte(self, offset: int) -> int:
        if offset < len(self._table):
            return self._table[offset]
        first = (offset - self.pba_offset) * 8
        if not 0 <= first < self.vectors:
            return 0
        vectors = range(first, min(first + 8, self.vectors))
        return sum(1 << (vector - first) for vector in vectors if self.is_pending(vector))

    def write(self, offset: int, value: int, size: int) -> None:
        """Write the BAR; pending bits are read-only, and so is the table where an access reaches beyond it."""
        if offset + size > len(self._table):
            return
        self._table[offset : offset + size] = value.to_bytes(size, "little")
        for vector in range(offset // ENTRY_SIZE, (offset + size - 1) // ENTRY_SIZE + 1):
            entry = vector * ENTRY_SIZE
            self._table[entry] &= 0xFC  # 6.8.2.4: a dword's address
            self._table[entry + 12 : entry + 16] = bytes([self._table[entry + 12] & VECTOR_MASKED, 0, 0, 0])
            self._update(vector)

    def config_written(self) -> None:
        """The capability's control word may have changed."""
        control = self._config.get(self._offset + 2, 2)
        if control != self._control:
            self._control = control
            for vector in range(self.vectors):
                self._update(vector)

    def _message(self, vector: int) -> MsiMessage | None:
        """What the vector sends now, or None while it does not."""
        entry = self._table[vector * ENTRY_SIZE : (vector + 1) * ENTRY_SIZE]
        if not self.enabled or self._control & FUNCTION_MASK or entry[12] & VECTOR_MASKED or not self._users[vector]:
            return None
        return MsiMessage(int.from_bytes(entry[0:8], "little"), int.from_bytes(entry[8:12], "little"))

    def _update(self, vector: int) -> None:
        """Have the accelerator deliver what the table says."""
        self._lines.send(vector, self._message(vector))

    # -- life

    def reset(self) -> None:
        """All vectors masked and unused, MSI-X off, nothing pending."""
        self._config.set(self._offset + 2, self.vectors - 1, 2)
        self._table[:] = bytes(len(self._table))
        for vector in range(self.vectors):
            self._table[vector * ENTRY_SIZE + 12] = VECTOR_MASKED
        self.unuse_all()
        self.config_written()

    def save(self) -> dict[str, object]:
        """Table and pending bits, as plain data; the control word is in the configuration space."""
        pending = [vector for vector in range(self.vectors) if self.is_pending(vector)]
        return {"table": bytes(self._table).hex(), "pending": pending}

    def load(self, state: dict[str, object]) -> None:
        """What :meth:`save` returned; users come back with the function's own state."""
        self._table[:] = bytes.fromhex(str(state["table"]))
        pending = state["pending"]
        assert isinstance(pending, list)
        for vector in pending:
            self._lines.signal(vector)
        self._control = self._config.get(self._offset + 2, 2)
        for vector in range(self.vectors):
            self._update(vector)

    def close(self) -> None:
        """Deassign everything and close the eventfds; nobody signals them any more."""
        self._lines.close()
