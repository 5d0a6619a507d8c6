# SPDX-License-Identifier: Apache-2.0
"""Bus-master DMA of a device in Python: guest memory, when the driver lets the function have it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qdevpy.errors import DMAError, GuestAddressError

if TYPE_CHECKING:
    from qdevpy.pci.device import PCIDevice


class Dma:
    """A function's way to guest memory. With the VM lock held.

    Every method raises :class:`DMAError` where bus mastering is off (PCI 3.0, 6.2.2) or any of the bytes is not RAM; then
    nothing has been read or written.
    """

    def __init__(self, function: PCIDevice) -> None:
        self._function = function

    def view(self, address: int, length: int) -> memoryview:
        """The bytes themselves, writable; the driver may change them at any moment. Not to be kept over a callback."""
        function = self._function
        if not function.bus_master:
            why = "bus mastering is off in the command register; the driver must switch it on first"
            raise DMAError(why, address=address, length=length, device=function.label)
        try:
            return function.machine.memory.view(address, length)
        except GuestAddressError:
            raise DMAError("not inside guest memory", address=address, length=length, device=function.label) from None

    def read(self, address: int, length: int) -> bytes:
        """Copy LENGTH bytes out."""
        return bytes(self.view(address, length))

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Copy DATA in."""
        self.view(address, len(data))[:] = data

    def load(self, address: int, width: int) -> int:
        """A little-endian number of WIDTH bytes."""
        return int.from_bytes(self.view(address, width), "little")

    def store(self, address: int, value: int, width: int) -> None:
        """A little-endian number of WIDTH bytes.

        :raises OverflowError: VALUE has more
        """
        self.write(address, value.to_bytes(width, "little"))
