# SPDX-License-Identifier: Apache-2.0
"""``cfi.pflash01``: NOR flash below 4 GiB, for firmware and what it keeps (Intel's command set, JEDEC CFI).

In read-array mode CPUs read it as memory; a write leaves the guest and is a command. As QEMU's
``hw/block/pflash_cfi01.c``, one byte wide as the pc board has it.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, ClassVar

import attrs

from qdevpy.errors import RealizeError
from qdevpy.native.overlay import Overlay
from qdevpy.qdev import property as prop
from qdevpy.qdev.sysbus import SysBusDevice

if TYPE_CHECKING:
    from qdevpy.backend.drive import Drive
    from qdevpy.native.overlay import HostPages

log = logging.getLogger(__name__)

READ_ARRAY, READ_STATUS, CLEAR_STATUS, READ_ID, CFI_QUERY = 0xFF, 0x70, 0x50, 0x90, 0x98
PROGRAM, PROGRAM_ALTERNATE, ERASE, CONFIRM, BUFFER, LOCK = 0x40, 0x10, 0x20, 0xD0, 0xE8, 0x60
READY, ERASE_ERROR, PROGRAM_ERROR = 0x80, 0x20, 0x10
SECTOR = 4096
BUFFER_SIZE = 2048
LARGEST = 8 << 20
MANUFACTURER, DEVICE = 0x89, 0x18


class PFlash(SysBusDevice):
    """One chip.

    :ivar base: its first address; the board sets it after :meth:`measure`
    :ivar pages: its content, as CPUs are shown it
    """

    type_name: ClassVar[str] = "cfi.pflash01"
    description: ClassVar[str] = "NOR flash for firmware"
    user_creatable: ClassVar[bool] = False
    abstract: ClassVar[bool] = False

    drive: Drive | None = prop.drive(help="its content")
    sector_length: int = prop.uint64(SECTOR, name="sector-length", help="bytes erased at once")
    width: int = prop.uint8(1, minimum=1, maximum=1, help="bytes of its bus")

    base: int = attrs.field(default=0, init=False)
    pages: HostPages = attrs.field(default=None, init=False)

    def measure(self) -> int:
        """Bytes of it.

        :raises RealizeError: the image is not one for a flash
        """
        assert self.drive is not None
        size = self.drive.size
        if not size or size % SECTOR or size > LARGEST:
            message = f"drive '{self.drive.name}': {size} bytes: expected whole pages of 4096, at most 8 MiB"
            raise RealizeError(message, device=self.label)
        return size

    def do_realize(self) -> None:
        """Take the drive and show its content.

        :raises BackendError: another device has it
        """
        assert self.drive is not None
        drive, memory = self.drive, self.machine.memory
        drive.take(self.label)
        self.cleanup.callback(drive.release)
        self.pages = memory.add_pages(os.pread(drive.fd, self.measure(), drive.offset).ljust(drive.size, b"\0"))
        self.cleanup.callback(memory.remove_pages, self.pages)
        self._overlay: Overlay | None = None
        self.cleanup.callback(self._show, False)
        mapping = self.machine.space.map("mmio", self.base, self.pages.size, self._read, self._write)
        self.cleanup.callback(mapping.unmap)
        self.do_reset()

    def do_reset(self) -> None:
        """Read-array mode, no error."""
        self._status = READY
        self._command = READ_ARRAY
        self._left = 0  # bytes of a buffer that are still to come; -1: their number is
        self._buffer: list[tuple[int, bytes]] = []
        self._show(True)

    def _show(self, array: bool) -> None:
        """Whether CPUs read the content, or leave the guest for :meth:`_read`."""
        memory = self.machine.memory
        if array and self._overlay is None:
            self._overlay = Overlay(self.base, self.pages.size, self.pages.hva, self.pages.data)
            memory.change_overlays(add=[self._overlay])
        elif not array and self._overlay is not None:
            memory.change_overlays(remove=[self._overlay])
            self._overlay = None

    # -- outside read-array mode

    def _read(self, offset: int, size: int) -> int:
        if self._command == READ_ARRAY:
            return int.from_bytes(self.pages.data[offset : offset + size], "little")
        if self._command == READ_ID:
            return {0: MANUFACTURER, 1: DEVICE}.get(offset & 0xFF, 0)
        if self._command == CFI_QUERY:
            return self._query()[offset & 0xFF] if offset & 0xFF < len(self._query()) else 0
        return self._status

    def _query(self) -> bytes:
        """The CFI query table (JEDEC JESD68.01): signature, command set, geometry."""
        table = bytearray(0x40)
        table[0x10:0x1B] = b"QRY\x01\x00\x31\x00\x00\x00\x00\x00"
        table[0x1B:0x27] = bytes([0x45, 0x55, 0, 0, 7, 7, 10, 0, 4, 4, 4, 0])
        table[0x27] = (self.pages.size - 1).bit_length()
        table[0x2A] = BUFFER_SIZE.bit_length() - 1
        table[0x2C] = 1
        table[0x2D:0x2F] = (self.pages.size // SECTOR - 1).to_bytes(2, "little")
        table[0x2F:0x31] = (SECTOR >> 8).to_bytes(2, "little")
        table[0x31:0x34] = b"PRI"
        return bytes(table)

    def _write(self, offset: int, value: int, size: int) -> None:
        """The next step of a command, or a new one."""
        command, first = self._command, value & 0xFF
        if command in (PROGRAM, PROGRAM_ALTERNATE):
            self._program(offset, value.to_bytes(size, "little"))
            self._command = READ_STATUS
        elif command == ERASE:
            self._erase(offset, first == CONFIRM)
        elif command == LOCK:
            self._command = READ_STATUS  # blocks have no locks; asking for one succeeds
        elif command == BUFFER:
            self._fill_buffer(offset, value, size)
        else:
            self._start(first)

    def _start(self, command: int) -> None:
        if command == CLEAR_STATUS:
            self._status = READY
            command = READ_ARRAY
        elif command == BUFFER:
            self._left, self._buffer = -1, []
        elif command not in (READ_STATUS, READ_ID, CFI_QUERY, PROGRAM, PROGRAM_ALTERNATE, ERASE, LOCK):
            command = READ_ARRAY  # 0xFF, 0xF0 and what is none
        self._command = command
        self._show(command == READ_ARRAY)

    def _fill_buffer(self, offset: int, value: int, size: int) -> None:
        if self._left < 0:
            self._left = (value & 0xFFFF) + 1  # how many follow, less one
        elif self._left > 0:
            self._buffer.append((offset, value.to_bytes(size, "little")))
            self._left = max(0, self._left - size)
        else:
            if value & 0xFF == CONFIRM:
                for at, data in self._buffer:
                    self._program(at, data)
            else:
                self._status |= PROGRAM_ERROR
            self._command = READ_STATUS

    def _erase(self, offset: int, confirmed: bool) -> None:
        if confirmed:
            start = offset - offset % SECTOR
            self._store(start, b"\xff" * SECTOR, ERASE_ERROR)
        else:
            self._status |= ERASE_ERROR | PROGRAM_ERROR
        self._command = READ_STATUS

    def _program(self, offset: int, data: bytes) -> None:
        """Bits go from 1 to 0 only in a real chip; here, as in QEMU, what is written is what is there."""
        self._store(offset, data, PROGRAM_ERROR)

    def _store(self, offset: int, data: bytes, error: int) -> None:
        assert self.drive is not None
        if self.drive.readonly:
            self._status |= error
            return
        data = data[: self.pages.size - offset]
        self.pages.data[offset : offset + len(data)] = data
        try:
            os.pwrite(self.drive.fd, data, self.drive.offset + offset)
        except OSError as failure:
            log.warning("%s: cannot be written: %s", self.label, failure.strerror)
            self._status |= error
