# SPDX-License-Identifier: Apache-2.0
"""The boot loader: kernel, initrd and command line into guest memory, and the registers to start with.

===================================  =========================  ==============================
image                                entered at                 told by
===================================  =========================  ==============================
bzImage, 2.12 and newer, 64-bit      load address + 0x200       RSI: zero page; long mode
bzImage, 2.06 and newer              load address               ESI: zero page; protected mode
ELF with note XEN_ELFNOTE 18         the note's address         EBX: start info; protected mode
64-bit ELF without                   its entry point            RSI: zero page; long mode
===================================  =========================  ==============================
"""

from __future__ import annotations

import struct
from array import array
from typing import TYPE_CHECKING

from qdevpy.accel.base import BootState
from qdevpy.errors import BootError
from qdevpy_machine import layout
from qdevpy_machine.image import Image, describe
from qdevpy_machine.layout import Range

if TYPE_CHECKING:
    from qdevpy.definition.model import BootDefinition
    from qdevpy.native.memory import GuestMemory

#: entries 2 and 3 are __BOOT_CS (0x10) and __BOOT_DS (0x18), as Linux wants them
CODE_64, CODE_32, DATA = 0x00AF_9B00_0000_FFFF, 0x00CF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF

PAGE = 4096
PRESENT_WRITABLE = 0x03
LARGE_PAGE = 0x83

COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4"}


class Payload:
    """What goes with a kernel, and where it was put.

    :ivar initrd: where it is; None where there is none
    :ivar rsdp: address of the ACPI root pointer
    :ivar low_end: first address behind the RAM below the PCI hole
    """

    def __init__(self, memory: GuestMemory, memory_size: int, boot: BootDefinition, rsdp: int) -> None:
        self.memory = memory
        self.memory_size = memory_size
        self.low_end = layout.ram_ranges(memory_size)[0].end
        self.rsdp = rsdp
        self.initrd: Range | None = None
        self._boot = boot

    def place_command_line(self, kernel: Image, limit: int) -> None:
        """Write the command line; LIMIT: the longest that the kernel takes, in bytes without the final zero.

        :raises BootError: it is longer
        """
        text = self._boot.cmdline.given if self._boot.cmdline is not None else ""
        encoded = text.encode("utf-8", "surrogateescape")
        limit = min(limit, layout.COMMAND_LINE_SIZE - 1)
        if len(encoded) > limit:
            raise kernel.error(f"takes a command line of at most {limit} bytes; boot.cmdline has {len(encoded)}")
        self.memory.write(layout.COMMAND_LINE, encoded + b"\0")

    def place_initrd(self, kernel_end: int, limit: int) -> None:
        """Load the initrd as high as it goes in the RAM between KERNEL_END and LIMIT.

        :raises BootError: it cannot be read, or does not fit
        """
        if self._boot.initrd is None:
            return
        with Image("initrd", self._boot.initrd.given) as image:
            top = min(limit, self.low_end)
            start = (top - image.size) // PAGE * PAGE
            if not image.size:
                raise image.error("the file is empty")
            if start < kernel_end:
                raise image.error(
                    f"{image.size} bytes do not fit between the kernel's end {kernel_end:#x} and {top:#x}, "
                    f"with {describe(self.memory)}; give the machine more memory"
                )
            image.load(self.memory, 0, image.size, start)
            self.initrd = Range(start, image.size)

    def boot_state(self, entry: int, *, wide: bool, rsi: int = 0, rbx: int = 0) -> BootState:
        """Write GDT and, for long mode, page tables; the registers to start with."""
        gdt = struct.pack("<4Q", 0, 0, CODE_64 if wide else CODE_32, DATA)
        self.memory.write(layout.GDT, gdt)
        if wide:
            self.memory.write(layout.PAGE_TABLES, identity_page_tables(layout.PAGE_TABLES))
        return BootState(
            mode="long" if wide else "protected",
            rip=entry,
            rsi=rsi,
            rbx=rbx,
            rsp=layout.BOOT_STACK,
            cr3=layout.PAGE_TABLES if wide else 0,
            gdt_base=layout.GDT,
            gdt_limit=len(gdt) - 1,
        )


def identity_page_tables(base: int) -> bytes:
    """Page tables for BASE that map the first 4 GiB onto themselves: PML4, PDPT, four directories of 2 MiB pages."""
    pml4 = struct.pack("<Q", base + PAGE | PRESENT_WRITABLE).ljust(PAGE, b"\0")
    pdpt = struct.pack("<4Q", *(base + (2 + n) * PAGE | PRESENT_WRITABLE for n in range(4))).ljust(PAGE, b"\0")
    return pml4 + pdpt + array("Q", range(LARGE_PAGE, 4 * layout.GIB, 2 * layout.MIB)).tobytes()


def load_kernel(memory: GuestMemory, memory_size: int, boot: BootDefinition, rsdp: int) -> BootState:
    """Load what ``boot:`` names.

    :param rsdp: address of the ACPI root pointer
    :raises BootError: names the image and what is wrong with it
    """
    if boot.kernel is None:
        raise BootError(
            "nothing to boot: set boot.kernel (--kernel FILE) to a bzImage or an ELF kernel; booting from disk needs "
            "firmware, and there is no bios-256k.bin in data-dirs, /usr/share/seabios or /usr/share/qemu: install seabios, "
            "or set boot.firmware"
        )
    from qdevpy_machine import linux

    payload = Payload(memory, memory_size, boot, rsdp)
    with Image("kernel", boot.kernel.given) as image:
        head = image.read(0, min(1024, image.size))
        if linux.is_bzimage(head):
            return linux.load_bzimage(image, head.ljust(1024, b"\0"), payload)
        if head.startswith(b"\x7fELF"):
            return _load_elf(image, payload)
        for magic, name in COMPRESSED.items():
            if head.startswith(magic):
                raise image.error(f"compressed with {name}; give the bzImage, or unpack it to an ELF file")
        raise image.error("not a kernel: expected a Linux bzImage, or an ELF file for x86-64")


def _load_elf(image: Image, payload: Payload) -> BootState:
    from qdevpy_machine import elf, linux, pvh

    executable = elf.parse(image)
    if not executable.wide and executable.pvh_entry is None:
        raise image.error("a 32-bit ELF file without a PVH entry point (note Xen, type 18); expected a 64-bit one")
    elf.load(image, executable, payload.memory)
    payload.place_command_line(image, layout.COMMAND_LINE_SIZE - 1)
    payload.place_initrd(executable.end, payload.low_end)
    if executable.pvh_entry is not None:
        return pvh.enter(payload, executable.pvh_entry)
    return linux.enter_vmlinux(payload, executable.entry)
