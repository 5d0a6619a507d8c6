# SPDX-License-Identifier: Apache-2.0
"""MSI (PCI 3.0, 6.8.1): 1 to 32 messages that differ in their data's low bits. As QEMU's ``hw/pci/msi.c``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qdevpy.accel.base import MsiMessage
from qdevpy.pci.vectors import Vectors

if TYPE_CHECKING:
    from qdevpy.accel.base import Accelerator
    from qdevpy.pci.config import ConfigSpace

CAPABILITY = 0x05
MAX_VECTORS = 32
# message control (6.8.1.3)
ENABLE = 0x0001
MULTIPLE_CAPABLE_SHIFT = 1
MULTIPLE_ENABLE_SHIFT, MULTIPLE_ENABLE = 4, 0x0070
BITS64 = 0x0080
MASKING = 0x0100


class MSI:
    """MSI of one function.

    :param vectors: offered, a power of two up to 32; the driver enables as many or fewer
    :param bits64: messages may go above 4 GiB
    :param masking: each vector has a mask and a pending bit
    """

    def __init__(
        self, config: ConfigSpace, vectors: int, accel: Accelerator, *, bits64: bool = True, masking: bool = False
    ) -> None:
        assert vectors in (1, 2, 4, 8, 16, 32), f"{vectors} MSI vectors"
        self.vectors = vectors
        self._config = config
        self._lines = Vectors("MSI", vectors, accel)
        self._bits64, self._masking = bits64, masking
        after = 8 + 4 * bits64  # where the data register is
        self._offset = config.add_capability(CAPABILITY, after + (12 if masking else 2))
        self._data, self._mask = self._offset + after, self._offset + after + 4
        flags = (vectors.bit_length() - 1) << MULTIPLE_CAPABLE_SHIFT | BITS64 * bits64 | MASKING * masking
        config.set(self._offset + 2, flags, 2, mask=ENABLE | MULTIPLE_ENABLE)
        config.set(self._offset + 4, 0, 4, mask=0xFFFF_FFFC)
        if bits64:
            config.set(self._offset + 8, 0, 4, mask=0xFFFF_FFFF)
        config.set(self._data, 0, 4, mask=0xFFFF_FFFF)  # 2 bytes in PCI 3.0; QEMU lets drivers write the reserved ones, too
        if masking:
            config.set(self._mask, 0, 4, mask=(1 << vectors) - 1)

    @property
    def _control(self) -> int:
        return self._config.get(self._offset + 2, 2)

    @property
    def enabled(self) -> bool:
        """Whether the driver has switched MSI on."""
        return bool(self._control & ENABLE)

    @property
    def enabled_vectors(self) -> int:
        """How many vectors the driver has given messages to, whether MSI is on or not."""
        return min(1 << ((self._control & MULTIPLE_ENABLE) >> MULTIPLE_ENABLE_SHIFT), self.vectors)

    def notify(self, vector: int) -> None:
        """Send a vector's message, or keep it while it is masked; nothing while MSI is off."""
        if self.enabled and 0 <= vector < self.enabled_vectors:
            self._lines.signal(vector)
            self._show_pending()

    def is_pending(self, vector: int) -> bool:
        """Whether a signal waits for the vector to be unmasked."""
        return self._lines.is_pending(vector)

    def config_written(self) -> None:
        """Any register of the capability may have changed."""
        excess = (self._control & MULTIPLE_ENABLE) >> MULTIPLE_ENABLE_SHIFT
        allowed = self.vectors.bit_length() - 1
        if excess > allowed:  # a driver that asks for more than is offered gets what is offered
            control = self._control & ~MULTIPLE_ENABLE | allowed << MULTIPLE_ENABLE_SHIFT
            self._config.set(self._offset + 2, control, 2)
        for vector in range(self.vectors):
            self._lines.send(vector, self._message(vector))
            if not self.enabled:
                self._lines.drain(vector)
        self._show_pending()

    def _message(self, vector: int) -> MsiMessage | None:
        """What the vector sends now, or None while it does not (6.8.3.4)."""
        masked = self._masking and self._config.get(self._mask, 4) >> vector & 1
        if not self.enabled or masked or vector >= self.enabled_vectors:
            return None
        address = self._config.get(self._offset + 4, 8 if self._bits64 else 4)
        return MsiMessage(address, self._config.get(self._data, 2) & ~(self.enabled_vectors - 1) | vector)

    def _show_pending(self) -> None:
        if self._masking:
            bits = sum(1 << vector for vector in range(self.vectors) if self._lines.is_pending(vector))
            self._config.set(self._mask + 4, bits, 4)

    def reset(self) -> None:
        """MSI off, nothing pending."""
        self._config.set(self._offset + 2, self._control & ~(ENABLE | MULTIPLE_ENABLE), 2)
        self._config.set(self._offset + 4, 0, 8 if self._bits64 else 4)
        self._config.set(self._data, 0, 4)
        if self._masking:
            self._config.set(self._mask, 0, 4)
        self.config_written()

    def close(self) -> None:
        """Nobody interrupts any more."""
        self._lines.close()
