# SPDX-License-Identifier: Apache-2.0
"""Kernels into memory: what is put where, which registers, and what bad images are told."""

import struct
from itertools import pairwise

import pytest

from qdevpy.definition.model import BootDefinition
from qdevpy.errors import BootError
from qdevpy_machine import layout
from qdevpy_machine.loader import identity_page_tables, load_kernel

MIB = layout.MIB
SIZE = 64 * MIB
RSDP = layout.TABLES


def load(memory, boot, size=SIZE):
    return load_kernel(memory, size, boot, RSDP)


def read(memory, layout_format, address):
    return struct.unpack(layout_format, memory.read(address, struct.calcsize(layout_format)))


# -- bzImage


def test_bzimage_64_bit_starts_in_long_mode_with_zero_page(memory, boot_of, bzimage):
    state = load(memory, boot_of(bzimage(b"K" * 5000), cmdline="console=hvc0"))

    assert (state.mode, state.rip, state.rsi) == ("long", 0x100200, layout.BOOT_PARAMS)
    assert state.cr3 == layout.PAGE_TABLES
    assert memory.read(0x100000, 5000) == b"K" * 5000
    assert memory.read(layout.COMMAND_LINE, 13) == b"console=hvc0\0"
    page = memory.read(layout.BOOT_PARAMS, 4096)
    assert page[0x202:0x206] == b"HdrS"
    assert page[0x210] == 0xFF
    assert struct.unpack_from("<I", page, 0x228) == (layout.COMMAND_LINE,)
    assert struct.unpack_from("<Q", page, 0x70) == (RSDP,)
    assert struct.unpack_from("<II", page, 0x218) == (0, 0)
    assert page[0x1E8] == 5
    assert struct.unpack_from("<QQI", page, 0x2D0 + 60) == (MIB, 63 * MIB, 1)


def test_bzimage_gets_a_gdt_with_linux_selectors(memory, boot_of, bzimage):
    state = load(memory, boot_of(bzimage()))

    code, data = read(memory, "<QQ", state.gdt_base + 16)
    assert state.gdt_limit == 31
    assert code >> 53 & 1 == 1  # L: 64-bit
    assert data >> 40 & 0xFF == 0x93


def test_bzimage_without_64_bit_entry_starts_in_protected_mode(memory, boot_of, bzimage):
    state = load(memory, boot_of(bzimage(version=0x0206, xloadflags=0)))

    assert (state.mode, state.rip, state.rsi, state.cr3) == ("protected", 0x100000, layout.BOOT_PARAMS, 0)


def test_initrd_is_page_aligned_at_the_end_of_ram(memory, boot_of, bzimage):
    load(memory, boot_of(bzimage(), initrd=b"I" * 5000))

    start, size = read(memory, "<II", layout.BOOT_PARAMS + 0x218)
    assert (start, size) == (SIZE - 8192, 5000)
    assert memory.read(start, size) == b"I" * 5000


def test_initrd_stays_below_the_kernels_limit(memory, boot_of, bzimage):
    kernel = bzimage(at_22c=struct.pack("<I", 48 * MIB - 1))
    load(memory, boot_of(kernel, initrd=b"I"))

    assert read(memory, "<I", layout.BOOT_PARAMS + 0x218) == (48 * MIB - 4096,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"version": 0x0205}, r"boot protocol 2\.05; expected 2\.06 or newer"),
        ({"loadflags": 0}, "a zImage"),
        ({"payload": b"K" * 100}, "truncated: the kernel starts at offset 1024, the file has 1124"),
        ({"init_size": 60 * MIB}, "needs memory up to 0x4c00000, the machine's ends at 0x4000000; give it at least 76M"),
        ({"cmdline_size": 3}, "at most 3 bytes; boot.cmdline has 5"),
    ],
)
def test_bzimage_that_cannot_boot_says_why(memory, boot_of, bzimage, options, message):
    boot = boot_of(bzimage(**options), cmdline="quiet")

    with pytest.raises(BootError, match=message) as caught:
        load(memory, boot)
    assert str(caught.value).startswith(f"kernel '{boot.kernel.given}': ")


def test_old_bzimage_without_init_size_needs_room_to_unpack(memory, boot_of, bzimage):
    with pytest.raises(BootError, match="needs memory up to"):
        load(memory, boot_of(bzimage(b"K" * 10 * MIB, version=0x0207, xloadflags=0)))


def test_initrd_too_large_says_so(memory, boot_of, bzimage):
    with pytest.raises(BootError, match=r"initrd .*: 50331648 bytes do not fit between .* give the machine more memory"):
        load(memory, boot_of(bzimage(), initrd=bytes(48 * MIB)))


def test_initrd_empty_says_so(memory, boot_of, bzimage):
    with pytest.raises(BootError, match=r"initrd .*: the file is empty"):
        load(memory, boot_of(bzimage(), initrd=b""))


def test_initrd_missing_says_so(memory, boot_of, bzimage, tmp_path):
    boot = boot_of(bzimage(), initrd=b"I")
    (tmp_path / "initrd").unlink()

    with pytest.raises(BootError, match=r"initrd .*: cannot be opened: No such file or directory"):
        load(memory, boot)


# -- ELF


def test_elf_without_note_starts_at_its_entry_in_long_mode(memory, boot_of, elf):
    state = load(memory, boot_of(elf(entry=0x200010), initrd=b"I" * 10, cmdline="x"))

    assert (state.mode, state.rip, state.rsi) == ("long", 0x200010, layout.BOOT_PARAMS)
    assert read(memory, "<4s", layout.BOOT_PARAMS + 0x202) == (b"HdrS",)
    assert read(memory, "<II", layout.BOOT_PARAMS + 0x218) == (SIZE - 4096, 10)


def test_elf_with_virtual_entry_is_entered_at_its_physical_address(memory, boot_of, elf):
    state = load(memory, boot_of(elf(entry=0xFFFF_FFFF_8000_0010, virtual=0xFFFF_FFFF_8000_0000)))

    assert state.rip == 0x200010


def test_elf_with_pvh_note_gets_start_info(memory, boot_of, elf):
    state = load(memory, boot_of(elf(pvh=0x200020), initrd=b"I" * 10, cmdline="hello"))

    assert (state.mode, state.rip, state.rbx) == ("protected", 0x200020, layout.PVH_INFO)
    magic, version, flags, modules, module_at, cmdline, rsdp, map_at, entries, _ = read(memory, "<IIIIQQQQII", state.rbx)
    assert (magic, version, flags, modules, rsdp) == (0x336EC578, 1, 0, 1, RSDP)
    assert read(memory, "<QQQQ", module_at) == (SIZE - 4096, 10, 0, 0)
    assert memory.read(cmdline, 6) == b"hello\0"
    assert entries == 5
    assert read(memory, "<QQII", map_at) == (0, layout.EBDA, 1, 0)


def test_elf_with_pvh_note_and_no_initrd_has_no_modules(memory, boot_of, elf):
    state = load(memory, boot_of(elf(pvh=0x200000)))

    assert read(memory, "<IQ", state.rbx + 12) == (0, 0)


def test_elf_memory_behind_the_files_bytes_is_cleared(memory, boot_of, elf):
    memory.write(0x200000, b"\xff" * 0x40000)
    load(memory, boot_of(elf(b"C" * 100, memory_size=0x20000)))

    assert memory.read(0x200000, 0x20000) == b"C" * 100 + bytes(0x20000 - 100)
    assert memory.read(0x220000, 1) == b"\xff"


def test_elf_of_32_bits_with_pvh_note_starts(memory, boot_of):
    note = struct.pack("<III4sI", 4, 4, 18, b"Xen\0", 0x200004)
    code_at, note_at = 52 + 64, 52 + 64 + 16
    head = b"\x7fELF\x01\x01\x01" + bytes(9) + struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, 0x200000, 52, 0, 0, 52, 32, 2, 0, 0, 0)
    table = struct.pack("<8I", 1, code_at, 0x200000, 0x200000, 16, 16, 7, 4096)
    table += struct.pack("<8I", 4, note_at, 0, 0, len(note), len(note), 4, 4)

    state = load(memory, boot_of(head + table + b"\xf4" * 16 + note))

    assert (state.mode, state.rip) == ("protected", 0x200004)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"machine": 183}, r"ELF for another machine \(e_machine 183\); expected x86-64"),
        ({"elf_class": 3}, "ELF for another machine"),
        ({"entry_size": 64}, "program headers of 64 bytes"),
        ({"count": 0}, "0 program headers"),
        ({"count": 60000}, "60000 program headers"),
        ({"file_size": 5000, "memory_size": 6000}, r"truncated: 5000 bytes expected at offset 120"),
        ({"file_size": 64, "memory_size": 10}, "longer in the file than in memory"),
        ({"address": 0x9000, "entry": 0x9000}, "memory below 1 MiB is the boot loader's"),
        ({"address": 1 << 33, "entry": 1 << 33}, "do not fit in the machine's 64 MiB of RAM"),
        ({"memory_size": 1 << 40}, "does not fit in memory; give the machine more"),
        ({"entry": 0x100}, "entry point 0x100 is outside all segments"),
        ({"pvh": 0x200000, "note_size": 1 << 30}, "ELF notes of 1073741824 bytes"),
    ],
)
def test_elf_that_cannot_boot_says_why(memory, boot_of, elf, options, message):
    with pytest.raises(BootError, match=message):
        load(memory, boot_of(elf(**options)))


def test_elf_with_nonsense_notes_is_booted_without_pvh(memory, boot_of, elf):
    kernel = elf(pvh=0x200000).replace(struct.pack("<II", 4, 4) + b"\x12", struct.pack("<II", 4, 1 << 30) + b"\x12")

    assert load(memory, boot_of(kernel)).mode == "long"


def test_elf_of_zero_segments_to_load_says_so(memory, boot_of, elf):
    kernel = bytearray(elf())
    struct.pack_into("<I", kernel, 64, 6)

    with pytest.raises(BootError, match="ELF without anything to load"):
        load(memory, boot_of(bytes(kernel)))


# -- neither


def test_no_kernel_says_what_to_set(memory):
    with pytest.raises(BootError, match=r"set boot\.kernel"):
        load(memory, BootDefinition())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a kernel"),
        (b"#!/bin/sh\n", "not a kernel: expected a Linux bzImage, or an ELF file for x86-64"),
        (b"\x1f\x8b" + bytes(100), "compressed with gzip"),
        (b"\x7fELF", "truncated: 20 bytes expected at offset 0"),
    ],
)
def test_file_that_is_no_kernel_says_so(memory, boot_of, data, message):
    with pytest.raises(BootError, match=message):
        load(memory, boot_of(data))


def test_kernel_that_is_a_folder_says_so(memory, boot_of, tmp_path):
    boot = boot_of(b"")
    (tmp_path / "kernel").unlink()
    (tmp_path / "kernel").mkdir()

    with pytest.raises(BootError, match="not a plain file"):
        load(memory, boot)


def test_kernel_cut_while_it_is_read_says_so(memory, boot_of, elf, tmp_path):
    from qdevpy_machine.image import Image

    boot_of(elf())
    with Image("kernel", str(tmp_path / "kernel")) as image:
        (tmp_path / "kernel").write_bytes(b"")
        with pytest.raises(BootError, match="ended while it was read"):
            image.read(0, 64)
        with pytest.raises(BootError, match="ended while it was read"):
            image.load(memory, 0, 64, 0x100000)


# -- memory


def test_page_tables_map_4_gib_onto_themselves():
    tables = identity_page_tables(0x9000)

    assert len(tables) == 6 * 4096
    assert struct.unpack_from("<Q", tables, 0) == (0xA003,)
    assert struct.unpack_from("<4Q", tables, 4096) == (0xB003, 0xC003, 0xD003, 0xE003)
    entries = struct.unpack_from("<2048Q", tables, 8192)
    assert all(entry == index * 2 * MIB | 0x83 for index, entry in enumerate(entries))


@pytest.mark.parametrize("size", [2 * MIB, 256 * MIB, 3 << 30, (3 << 30) + MIB, 16 << 30])
def test_memory_map_is_sorted_without_overlaps_and_inside_ram_or_reserved(size):
    pieces = layout.memory_map(size)

    assert all(a.end <= b.start for (a, _), (b, _) in pairwise(pieces))
    ram = sum(piece.size for piece, kind in pieces if kind == layout.E820_RAM)
    assert size - ram == 0x100000 - layout.EBDA


def test_memory_beyond_3_gib_is_moved_to_4_gib():
    assert layout.ram_ranges(5 << 30) == [(0, 3 << 30), (4 << 30, 2 << 30)]
