# SPDX-License-Identifier: Apache-2.0
"""Option ROMs: a file behind the expansion ROM BAR (PCI 3.0, 6.2.5.2), which firmware copies and runs.

As QEMU's ``pci_add_option_rom``. CPUs read it without leaving the guest; nobody writes it.
"""

from __future__ import annotations

import logging
import struct
from typing import TYPE_CHECKING

from qdevpy.errors import RealizeError
from qdevpy.native.overlay import PAGE, Overlay
from qdevpy.pci import config

if TYPE_CHECKING:
    from qdevpy.pci.config import ConfigSpace
    from qdevpy.pci.device import PCIDevice
    from qdevpy.vm.machine import Machine

log = logging.getLogger(__name__)

REGISTER = 0x30
ENABLE = 1
SMALLEST, LARGEST = 2048, 2 << 30

#: of an image: what it begins with, and where its checksum and its PCI data structure's offset are
SIGNATURE, CHECKSUM, DATA_POINTER = b"\x55\xaa", 6, 0x18


def find(device: PCIDevice) -> str | None:
    """The file of DEVICE's ROM; None: it has none.

    :raises RealizeError: the user's is not there
    """
    if device.romfile is not None:
        path = device.machine.find_data_file(device.romfile) if device.romfile else None
        if device.romfile and path is None:
            raise RealizeError(
                f"romfile: '{device.romfile}' not found; give its path, or a folder in data-dirs", device=device.label
            )
        return path
    default = device.default_romfile
    if default is None or not device.machine.board.runs_firmware:
        return None
    path = device.machine.find_data_file(default)
    if path is None:
        log.debug("%s: no %s, which is its option ROM (Debian: ipxe-qemu)", device.label, default)
    return path


def read(device: PCIDevice, path: str) -> bytes:
    """The ROM's content.

    :raises RealizeError: it cannot be read, or is empty or too large
    """
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise RealizeError(f"romfile '{path}': {error.strerror}", device=device.label) from error
    if not 0 < len(content) <= LARGEST:
        raise RealizeError(f"romfile '{path}': {len(content)} bytes: expected 1 to {LARGEST}", device=device.label)
    return content


class OptionRom:
    """The BAR.

    :param size: bytes that it decodes, a power of two; None: what the content needs
    :raises ValueError: the content does not fit, or SIZE is no power of two
    :ivar base: where it is decoded, or None
    """

    def __init__(self, machine: Machine, content: bytes, size: int | None) -> None:
        needed = max(SMALLEST, 1 << (len(content) - 1).bit_length())
        self.size = needed if size is None else size
        if self.size & self.size - 1 or self.size < len(content):
            raise ValueError(f"{self.size} bytes: expected a power of two, at least {needed}")
        self.base: int | None = None
        self._memory = machine.memory
        # what CPUs are shown is whole pages: a smaller BAR is shown with zeros behind it
        self._pages = machine.memory.add_pages(content.ljust(max(self.size, PAGE), b"\0"))
        self._overlay: Overlay | None = None

    def rename(self, vendor: int, device: int) -> None:
        """Put these ids in the ROM's PCI data structure (PCI firmware 3.0, 5.1.2): firmware runs it for no other function.

        One file serves several ids of a type (1AF4:1000 and 1AF4:1041). QEMU: ``pci_patch_ids``.
        """
        rom = self._pages.data
        at = int.from_bytes(rom[DATA_POINTER : DATA_POINTER + 2], "little")
        if bytes(rom[:2]) != SIGNATURE or bytes(rom[at : at + 4]) != b"PCIR" or len(rom) < at + 8:
            return
        ids = struct.pack("<HH", vendor, device)
        # the image's bytes still sum up to zero
        rom[CHECKSUM] = (rom[CHECKSUM] + sum(rom[at + 4 : at + 8]) - sum(ids)) & 0xFF
        rom[at + 4 : at + 8] = ids

    def declare(self, space: ConfigSpace) -> None:
        """Write the register, and the mask by which the guest finds out the size."""
        space.set(REGISTER, 0, 4, mask=~(self.size - 1) & 0xFFFF_FFFF | ENABLE)

    def update(self, space: ConfigSpace) -> None:
        """Move to where the registers say."""
        register = space.get(REGISTER, 4)
        base = register & ~(self.size - 1) & 0xFFFF_FFFF
        enabled = register & ENABLE and space.get(config.COMMAND, 2) & config.COMMAND_MEMORY
        wanted = base if enabled and 0 < base < (1 << 32) - self.size and base % PAGE == 0 else None
        if wanted == self.base:
            return
        self.unmap()
        if wanted is not None:
            self.base = wanted
            self._overlay = Overlay(wanted, self._pages.size, self._pages.hva, self._pages.data)
            self._memory.change_overlays(add=[self._overlay])

    def unmap(self) -> None:
        """Nobody sees it."""
        if self._overlay is not None:
            self._memory.change_overlays(remove=[self._overlay])
        self._overlay = self.base = None

    def close(self) -> None:
        """The function goes."""
        self.unmap()
        self._memory.remove_pages(self._pages)
