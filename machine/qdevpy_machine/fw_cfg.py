# SPDX-License-Identifier: Apache-2.0
"""``fw_cfg``: the device by which firmware asks its machine what it is. As QEMU's ``hw/nvram/fw_cfg.c``.

=============  ==========================================================================
port           what
=============  ==========================================================================
0x510          16-bit writes select an item
0x511          byte reads take the item's next byte
0x514, 0x518   address of a DMA request, big-endian, upper half first; the lower half starts it
=============  ==========================================================================
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, ClassVar

import attrs

from qdevpy.errors import GuestAddressError
from qdevpy.qdev import kinds
from qdevpy.qdev import property as prop
from qdevpy.qdev.sysbus import SysBusDevice

if TYPE_CHECKING:
    from qdevpy_machine.fw_cfg_items import Items

SELECTOR, DMA_ADDRESS = 0x510, 0x514
#: what the DMA register reads as, which says that there is one
DMA_SIGNATURE = int.from_bytes(b"QEMU CFG", "big")

#: bits of a DMA request's control word
ERROR, READ, SKIP, SELECT, WRITE = 1, 2, 4, 8, 16
DMA_REQUEST = struct.Struct(">IIQ")  # control, length, address
#: bytes moved at a time
CHUNK = 1 << 20
#: bits of a selector that do not name an item: write, architecture-local
KEY_MASK = 0xBFFF


class FwCfgCommon(SysBusDevice):
    """What QEMU's forms of the device have in common."""

    type_name: ClassVar[str] = "fw_cfg"
    abstract: ClassVar[bool] = True

    acpi_mr_restore: bool = prop.only(kinds.Bool(), True, why="there is no migration", help="migrate the sizes of ACPI tables")


class FwCfg(FwCfgCommon):
    """The device at its ports; what it has is in :mod:`.fw_cfg_items`, worked out when first asked for after a reset."""

    type_name: ClassVar[str] = "fw_cfg_io"
    description: ClassVar[str] = "firmware configuration"

    dma_enabled: bool = prop.boolean(True, help="requests by DMA", name="dma_enabled")
    x_file_slots: int = prop.uint16(0x20, minimum=0x10, maximum=0x3FE0, help="files that there is room for")

    items: Items | None = attrs.field(default=None, init=False)

    def do_realize(self) -> None:
        """Take the ports."""
        space = self.machine.space
        self._forget()
        self.cleanup.callback(space.map("pio", SELECTOR, 2, self._read, self._write).unmap)
        if self.dma_enabled:
            self.cleanup.callback(space.map("pio", DMA_ADDRESS, 8, self._read_dma, self._write_dma).unmap)

    def do_reset(self) -> None:
        """Nothing is selected; what there is to tell is found out anew."""
        self._forget()

    def _forget(self) -> None:
        self.items = None
        self._data = b""
        self._offset = 0
        self._dma_address = 0

    def load(self) -> Items:
        """Find out what there is to tell.

        :raises BootError: the user's files cannot be read, or there are too many
        """
        if self.items is None:
            from qdevpy_machine.fw_cfg_items import Items

            self.items = Items(self.machine, slots=self.x_file_slots, dma=self.dma_enabled)
        return self.items

    def _select(self, key: int) -> None:
        self._data = self.load().content(key & KEY_MASK)
        self._offset = 0

    def _read(self, offset: int, size: int) -> int:
        """The next byte of the item; zeros behind its end. Wider reads take as many bytes, the first the lowest."""
        value = self._data[self._offset : self._offset + size]
        self._offset += size
        return int.from_bytes(value, "little")

    def _write(self, offset: int, value: int, size: int) -> None:
        if offset == 0 and size == 2:
            self._select(value)

    # -- DMA

    def _read_dma(self, offset: int, size: int) -> int:
        return int.from_bytes(DMA_SIGNATURE.to_bytes(8, "big")[offset : offset + size], "little")

    def _write_dma(self, offset: int, value: int, size: int) -> None:
        if size == 8 and offset == 0:
            self._dma_address = int.from_bytes(value.to_bytes(8, "little"), "big")
            self._dma()
        elif size == 4 and offset == 0:
            self._dma_address = int.from_bytes(value.to_bytes(4, "little"), "big") << 32
        elif size == 4 and offset == 4:
            self._dma_address |= int.from_bytes(value.to_bytes(4, "little"), "big")
            self._dma()

    def _dma(self) -> None:
        """Carry out the request at the address that was written; its control word becomes 0, or the error bit."""
        at, self._dma_address = self._dma_address, 0
        memory = self.machine.memory
        try:
            control, length, address = DMA_REQUEST.unpack(memory.read(at, DMA_REQUEST.size))
        except GuestAddressError:
            return  # not even a place for the error bit
        if control & SELECT:
            self._select(control >> 16)
        failed = False
        if control & READ:
            failed = not self._copy(address, length)
        elif control & WRITE:
            failed = True  # no item may be written
        elif control & SKIP:
            self._offset = min(self._offset + length, len(self._data))
        memory.write(at, (ERROR if failed else 0).to_bytes(4, "big"))

    def _copy(self, address: int, length: int) -> bool:
        """The item's next LENGTH bytes to guest memory, then zeros; False: that is not all memory."""
        memory = self.machine.memory
        try:
            memory.view(address, length)  # all of it or nothing
        except GuestAddressError:
            return False
        data = self._data[self._offset : self._offset + length]
        memory.write(address, data)
        for start in range(len(data), length, CHUNK):
            memory.write(address + start, bytes(min(CHUNK, length - start)))
        self._offset = min(self._offset + length, len(self._data))
        return True
