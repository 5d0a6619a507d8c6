# SPDX-License-Identifier: Apache-2.0
"""Kernels of a few bytes: an ELF file with a PVH note around 32-bit code (Xen's x86 HVM direct boot ABI)."""

import struct

LOAD = 0x100000
COUNTER = 0x500000  # survives a reset: nobody loads anything there

PVH_ENTRY_NOTE = 18


def pvh_kernel(code: bytes) -> bytes:
    """An ELF executable that is loaded at 1 MiB and entered at the first byte of CODE."""
    note = struct.pack("<III4sI", 4, 4, PVH_ENTRY_NOTE, b"Xen\0", LOAD)
    headers = 64 + 2 * 56
    note_at, code_at = headers, headers + len(note)
    elf = struct.pack("<4sBBBB8xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, 2, 62, 1, LOAD, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, code_at, LOAD, LOAD, len(code), len(code), 0)
    notes = struct.pack("<IIQQQQQQ", 4, 4, note_at, 0, 0, len(note), len(note), 4)
    return elf + load + notes + note + code


def elf64_kernel(code: bytes) -> bytes:
    """An ELF executable without a note: entered at 1 MiB in 64-bit mode, as Linux's vmlinux is."""
    elf = struct.pack("<4sBBBB8xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, 2, 62, 1, LOAD, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, 64 + 56, LOAD, LOAD, len(code), len(code), 0)
    return elf + load + code


def out8(port: int, value: int) -> bytes:
    """mov dx, PORT; mov al, VALUE; out dx, al"""
    return b"\x66\xba" + struct.pack("<H", port) + b"\xb0" + bytes([value]) + b"\xee"


def out16(port: int, value: int) -> bytes:
    """mov dx, PORT; mov ax, VALUE; out dx, ax"""
    return b"\x66\xba" + struct.pack("<H", port) + b"\x66\xb8" + struct.pack("<H", value) + b"\x66\xef"


HANG = b"\xf4\xeb\xfd"  # hlt; jmp back
POWER_OFF = out16(0x604, 0x2000) + HANG  # PIIX4: PM1a control, SLP_EN and S5's type
TRIPLE_FAULT = b"\x0f\x01\x1d" + struct.pack("<I", COUNTER + 64) + b"\x66\xb8\xf8\xff\x8e\xd8"  # lidt of zeroes; bad ds
BAD_INSTRUCTION = b"\xd9\x05" + struct.pack("<I", 0xD0000000)  # fld dword [D0000000h]: x87 from MMIO


def count_boots_then(boots: int, last: bytes, otherwise: bytes) -> bytes:
    """Run OTHERWISE until the BOOTSth boot, and LAST then."""
    inc = b"\xff\x05" + struct.pack("<I", COUNTER)
    compare = b"\x83\x3d" + struct.pack("<I", COUNTER) + bytes([boots])
    return inc + compare + b"\x0f\x85" + struct.pack("<i", len(last)) + last + otherwise
