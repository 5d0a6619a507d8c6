# SPDX-License-Identifier: Apache-2.0
"""A kernel for firmware to start: items of fw_cfg, and the option ROM that turns them into a booted kernel.

As QEMU with -bios and -kernel. The ROM (linuxboot_dma.bin) is QEMU's.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from qdevpy_machine import fw_cfg_items as keys
from qdevpy_machine import layout, linux
from qdevpy_machine.image import Image

if TYPE_CHECKING:
    from qdevpy.vm.machine import Machine

ROM, ROM_FILE = "linuxboot_dma.bin", "genroms/linuxboot_dma.bin"
SETUP, COMMAND_LINE = 0x1_0000, 0x2_0000
HEAP_END, CAN_USE_HEAP = 0x224, 0x80
LOADER_QEMU = 0xB0


def kernel_items(machine: Machine) -> tuple[dict[int, bytes], dict[str, bytes]]:
    """Numbered items and files for the definition's kernel.

    :raises BootError: it is no bzImage, does not fit, or the option ROM is not installed
    """
    boot = machine.definition.boot
    assert boot.kernel is not None
    with Image("kernel", boot.kernel.given) as image:
        head = image.read(0, min(1024, image.size)).ljust(1024, b"\0")
        if not linux.is_bzimage(head):
            raise image.error("no bzImage; firmware starts nothing else; leave boot.firmware out")
        path = machine.find_data_file(ROM)
        if path is None:
            raise image.error(f"firmware needs {ROM} to start it (Debian: qemu-system-data); or leave boot.firmware out")
        start = (head[linux.SETUP_SECTS] or 4) * 512 + 512
        setup, kernel = bytearray(image.read(0, start)), image.read(start, image.size - start)
    initrd = b""
    if boot.initrd is not None:
        with Image("initrd", boot.initrd.given) as image:
            initrd = image.read(0, image.size)
    cmdline = (boot.cmdline.given if boot.cmdline is not None else "").encode("utf-8", "surrogateescape") + b"\0"
    initrd_at = _place_initrd(machine, setup, len(initrd))
    setup[linux.LOADER_TYPE] = LOADER_QEMU
    setup[linux.LOAD_FLAGS] |= CAN_USE_HEAP
    struct.pack_into("<H", setup, HEAP_END, COMMAND_LINE - SETUP - 0x200)
    struct.pack_into("<I", setup, linux.COMMAND_LINE, COMMAND_LINE)
    struct.pack_into("<II", setup, linux.RAMDISK_IMAGE, initrd_at if initrd else 0, len(initrd))
    items: dict[int, bytes] = {}
    for content, address, at, size, data in (
        (bytes(setup), SETUP, keys.SETUP_ADDR, keys.SETUP_SIZE, keys.SETUP_DATA),
        (kernel, layout.KERNEL, keys.KERNEL_ADDR, keys.KERNEL_SIZE, keys.KERNEL_DATA),
        (cmdline, COMMAND_LINE, keys.CMDLINE_ADDR, keys.CMDLINE_SIZE, keys.CMDLINE_DATA),
        (initrd, initrd_at, keys.INITRD_ADDR, keys.INITRD_SIZE, keys.INITRD_DATA),
    ):
        items[at], items[size], items[data] = struct.pack("<I", address), struct.pack("<I", len(content)), content
    with open(path, "rb") as file:
        return items, {ROM_FILE: file.read()}


def _place_initrd(machine: Machine, setup: bytearray, size: int) -> int:
    """The highest page below what the kernel takes and what firmware leaves of low memory."""
    limit = struct.unpack_from("<I", setup, linux.INITRD_MAX)[0]
    low_end = layout.ram_ranges(machine.memory_size)[0].end
    return int((min(limit, low_end - 0x2_0000) - size) & ~0xFFF)
