# SPDX-License-Identifier: Apache-2.0
"""ACPI tables for firmware to put where it wants: two files, and the commands that tie them together.

As QEMU's ``hw/acpi/bios-linker-loader.c``: firmware allocates the files, adds their addresses to pointers that
hold offsets until then, and sets checksums.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qdevpy.vm.machine import Machine

TABLES, RSDP, LOADER = "etc/acpi/tables", "etc/acpi/rsdp", "etc/table-loader"
ALLOCATE, ADD_POINTER, ADD_CHECKSUM = 1, 2, 3
HIGH, FSEG = 1, 2
ENTRY_SIZE = 128
#: offsets and sizes of the FADT's pointers (ACPI 6.4, 5.2.9): FIRMWARE_CTRL, DSDT, and the wide ones
FADT_POINTERS = ((36, 4), (40, 4), (132, 8), (140, 8))


def acpi_files(machine: Machine) -> dict[str, bytes]:
    """The three files."""
    from qdevpy_machine.direct import acpi_tables

    blob = acpi_tables(machine, 0)
    return {TABLES: blob, RSDP: blob[:36], LOADER: b"".join(commands(blob))}


def allocate(name: str, align: int, zone: int) -> bytes:
    """Find memory for a file."""
    return struct.pack("<I56sIB", ALLOCATE, name.encode(), align, zone).ljust(ENTRY_SIZE, b"\0")


def add_pointer(name: str, offset: int, size: int) -> bytes:
    """Add the tables' address to the pointer in file NAME."""
    return struct.pack("<I56s56sIB", ADD_POINTER, name.encode(), TABLES.encode(), offset, size).ljust(ENTRY_SIZE, b"\0")


def add_checksum(name: str, offset: int, start: int, length: int) -> bytes:
    """Make bytes sum up to zero by that at OFFSET."""
    return struct.pack("<I56sIII", ADD_CHECKSUM, name.encode(), offset, start, length).ljust(ENTRY_SIZE, b"\0")


def commands(blob: bytes) -> Iterator[bytes]:
    """The loader's commands for tables that were built for address 0, the RSDP first."""
    yield allocate(TABLES, 64, HIGH)
    yield allocate(RSDP, 16, FSEG)
    (rsdt,) = struct.unpack_from("<I", blob, 16)
    (xsdt,) = struct.unpack_from("<Q", blob, 24)
    for root, size, form in ((rsdt, 4, "<I"), (xsdt, 8, "<Q")):
        (length,) = struct.unpack_from("<I", blob, root + 4)
        for at in range(root + 36, root + length, size):
            if size == 4:
                yield from _table(blob, *struct.unpack_from(form, blob, at))
            yield add_pointer(TABLES, at, size)
        yield add_checksum(TABLES, root + 9, root, length)
    yield add_pointer(RSDP, 16, 4)
    yield add_pointer(RSDP, 24, 8)
    yield add_checksum(RSDP, 8, 0, 20)
    yield add_checksum(RSDP, 32, 0, 36)


def _table(blob: bytes, table: int) -> Iterator[bytes]:
    """What a table needs that has pointers: only the FADT."""
    if blob[table : table + 4] == b"FACP":
        (length,) = struct.unpack_from("<I", blob, table + 4)
        for offset, size in FADT_POINTERS:
            yield add_pointer(TABLES, table + offset, size)
        yield add_checksum(TABLES, table + 9, table, length)
