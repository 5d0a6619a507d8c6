# SPDX-License-Identifier: Apache-2.0
"""Linux' own boot protocol (Documentation/arch/x86/boot.rst): bzImage, and the zero page that its kernels read."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from qdevpy_machine import layout
from qdevpy_machine.image import Image

if TYPE_CHECKING:
    from qdevpy.accel.base import BootState
    from qdevpy_machine.loader import Payload

#: offsets in the zero page; the setup header stands at the same offsets in the file
RSDP_ADDRESS = 0x070
EXT_RAMDISK_IMAGE, EXT_RAMDISK_SIZE = 0x0C0, 0x0C4
E820_COUNT, E820_TABLE = 0x1E8, 0x2D0
SETUP_SECTS, BOOT_FLAG = 0x1F1, 0x1FE
JUMP, HEADER, VERSION = 0x200, 0x202, 0x206
LOADER_TYPE, LOAD_FLAGS = 0x210, 0x211
RAMDISK_IMAGE, RAMDISK_SIZE = 0x218, 0x21C
COMMAND_LINE, INITRD_MAX = 0x228, 0x22C
ALIGNMENT, RELOCATABLE, XLOADFLAGS, COMMAND_LINE_SIZE = 0x230, 0x234, 0x236, 0x238
PREFERRED, INIT_SIZE = 0x258, 0x260
HEADER_END = 0x290  #: the longest header that fits, however new the protocol

LOADED_HIGH = 0x01
KERNEL_64 = 0x01  #: XLF_KERNEL_64: there is an entry point for long mode, 512 bytes into the kernel
ENTRY_64 = 0x200
OTHER_LOADER = 0xFF

#: 2.06 is the first with cmdline_size, and old enough (Linux 2.6.22)
OLDEST = 0x0206
#: without init_size (2.10): what a kernel may need around its compressed self
GUESSED_GROWTH = 8


def is_bzimage(head: bytes) -> bool:
    """Whether HEAD, the first 1 KiB of a file, is a Linux kernel's."""
    return head[HEADER : HEADER + 4] == b"HdrS" and head[BOOT_FLAG : BOOT_FLAG + 2] == b"\x55\xaa"


def load_bzimage(image: Image, head: bytes, payload: Payload) -> BootState:
    """Put a bzImage at 1 MiB with its zero page, and start it at its 64-bit entry, else at its 32-bit one.

    :raises BootError: too old, damaged, or too large
    """
    version = struct.unpack_from("<H", head, VERSION)[0]
    if version < OLDEST:
        raise image.error(f"boot protocol {version >> 8}.{version & 0xFF:02}; expected 2.06 or newer (Linux 2.6.22)")
    if not head[LOAD_FLAGS] & LOADED_HIGH:
        raise image.error("a zImage, which loads below 1 MiB; expected a bzImage")
    start = (head[SETUP_SECTS] or 4) * 512 + 512
    size = image.size - start
    if size <= ENTRY_64:
        raise image.error(f"truncated: the kernel starts at offset {start}, the file has {image.size} bytes")
    wide = version >= 0x020C and bool(struct.unpack_from("<H", head, XLOADFLAGS)[0] & KERNEL_64)
    end = _end_of_kernel(head, version, size)
    low_end = payload.low_end
    if end > low_end:
        raise image.error(f"needs memory up to {end:#x}, the machine's ends at {low_end:#x}; give it at least {-(-end >> 20)}M")
    image.load(payload.memory, start, size, layout.KERNEL)
    payload.place_command_line(image, struct.unpack_from("<I", head, COMMAND_LINE_SIZE)[0])
    payload.place_initrd(end, struct.unpack_from("<I", head, INITRD_MAX)[0] + 1)
    header_end = min(HEADER_END, HEADER + head[JUMP + 1])
    return enter(payload, layout.KERNEL + ENTRY_64 if wide else layout.KERNEL, head[SETUP_SECTS:header_end], wide=wide)


def _end_of_kernel(head: bytes, version: int, size: int) -> int:
    """First address that the kernel leaves alone while it unpacks itself."""
    if version < 0x020A:
        return layout.KERNEL + size * GUESSED_GROWTH
    preferred, init_size = struct.unpack_from("<QI", head, PREFERRED)
    alignment = struct.unpack_from("<I", head, ALIGNMENT)[0] or 1
    start = layout.KERNEL + -layout.KERNEL % alignment
    return int(max(start, preferred, layout.KERNEL) + max(init_size, size))


def enter_vmlinux(payload: Payload, entry: int) -> BootState:
    """Start an uncompressed 64-bit kernel, whose setup header is not in the file."""
    header = bytearray(HEADER_END - SETUP_SECTS)
    struct.pack_into("<H", header, BOOT_FLAG - SETUP_SECTS, 0xAA55)
    struct.pack_into("<4sH", header, HEADER - SETUP_SECTS, b"HdrS", 0x020F)
    header[LOAD_FLAGS - SETUP_SECTS] = LOADED_HIGH
    return enter(payload, entry, bytes(header), wide=True)


def enter(payload: Payload, entry: int, header: bytes, *, wide: bool) -> BootState:
    """Write the zero page and say with which registers the kernel starts.

    :param entry: physical address of the first instruction
    :param header: the setup header from SETUP_SECTS on
    :param wide: start in long mode, else in protected mode
    """
    page = bytearray(4096)
    page[SETUP_SECTS : SETUP_SECTS + len(header)] = header
    page[LOADER_TYPE] = OTHER_LOADER
    struct.pack_into("<Q", page, RSDP_ADDRESS, payload.rsdp)
    struct.pack_into("<I", page, COMMAND_LINE, layout.COMMAND_LINE)
    if payload.initrd is not None:
        struct.pack_into("<II", page, RAMDISK_IMAGE, payload.initrd.start, payload.initrd.size)
    entries = layout.memory_map(payload.memory_size)
    page[E820_COUNT] = len(entries)
    for index, (piece, kind) in enumerate(entries):
        struct.pack_into("<QQI", page, E820_TABLE + 20 * index, piece.start, piece.size, kind)
    payload.memory.write(layout.BOOT_PARAMS, page)
    return payload.boot_state(entry, wide=wide, rsi=layout.BOOT_PARAMS)
