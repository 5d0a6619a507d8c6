# SPDX-License-Identifier: Apache-2.0
"""Where everything is in guest-physical memory and I/O space. docs/board.md draws it."""

from __future__ import annotations

from typing import NamedTuple

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

# -- RAM and the hole below 4 GiB

MIN_MEMORY = 2 * MIB
LOW_RAM_END = 0xC000_0000  #: RAM beyond this is moved to 4 GiB
HIGH_RAM = 4 * GIB
PCI_HOLE = (LOW_RAM_END, 0xFEBF_FFFF)  #: what the host bridge forwards, first and last address
IOAPIC = 0xFEC0_0000
LOCAL_APIC = 0xFEE0_0000
KVM_PAGES = (0xFEFF_C000, 0x4000)  #: where KVM on Intel keeps its TSS and identity map

# -- below 1 MiB: what firmware would have left behind

GDT = 0x1000
PVH_INFO = 0x2000  #: hvm_start_info, module list, memory map; one page
BOOT_PARAMS = 0x7000  #: Linux' zero page
BOOT_STACK = 0x8FF0
PAGE_TABLES = 0x9000  #: six pages: PML4, PDPT, four page directories of 2 MiB pages
COMMAND_LINE = 0x2_0000
COMMAND_LINE_SIZE = 0x1_0000
EBDA = 0x9_FC00
VGA_HOLE = 0xA_0000
TABLES = 0xE_0000  #: ACPI; the RSDP is first, in the area that operating systems scan
SMBIOS = 0xF_0000  #: entry point, then the tables
TABLES_END = 0x10_0000
KERNEL = 0x10_0000  #: bzImages, and the lowest address an ELF kernel may use

# -- I/O ports

PCI_IO = (0xC000, 0xFFFF)  #: where BARs are put
PM_BASE = 0x600
SCI = 9
PCI_HOTPLUG = 0xAE00
GPE0 = 0xAFE0
#: what firmware writes to the PIIX3's PIRQ registers: the ISA interrupts of PIRQA to PIRQD
PIRQ_ROUTES = (10, 10, 11, 11)


class Range(NamedTuple):
    """A piece of the memory map."""

    start: int
    size: int

    @property
    def end(self) -> int:
        """First address behind it."""
        return self.start + self.size


def ram_ranges(size: int) -> list[Range]:
    """The RAM of a machine with SIZE bytes: below the PCI hole, the rest from 4 GiB on."""
    low = min(size, LOW_RAM_END)
    ranges = [Range(0, low)]
    if size > low:
        ranges.append(Range(HIGH_RAM, size - low))
    return ranges


E820_RAM = 1
E820_RESERVED = 2


def memory_map(size: int) -> list[tuple[Range, int]]:
    """What an operating system is told: E820 entries ``(range, type)``, sorted, without overlaps."""
    low, *high = ram_ranges(size)
    return [
        (Range(0, EBDA), E820_RAM),
        (Range(EBDA, VGA_HOLE - EBDA), E820_RESERVED),
        (Range(TABLES, TABLES_END - TABLES), E820_RESERVED),
        (Range(KERNEL, low.end - KERNEL), E820_RAM),
        (Range(*KVM_PAGES), E820_RESERVED),
        *((piece, E820_RAM) for piece in high),
    ]
