# SPDX-License-Identifier: Apache-2.0
"""ELF kernels: segments, the PVH entry point in a note, the plain entry point.

Parsed with struct: the headers are small, every offset must be checked anyway, and importing pyelftools costs
more than 100 ms, which is most of the time a machine may take to start.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from qdevpy_machine import layout
from qdevpy_machine.image import Image

if TYPE_CHECKING:
    from qdevpy.native.memory import GuestMemory

MAGIC = b"\x7fELF"
CLASS_32, CLASS_64 = 1, 2
LITTLE_ENDIAN = 1
MACHINE_386, MACHINE_X86_64 = 3, 62
PT_LOAD, PT_NOTE = 1, 4

#: Xen's note with the physical address of the 32-bit entry point (xen/include/public/elfnote.h)
PHYS32_ENTRY = 18

MAX_SEGMENTS = 128
MAX_NOTES = 1 << 20
ZEROS = bytes(1 << 16)


class Segment(NamedTuple):
    """A program header; sizes in bytes."""

    kind: int
    offset: int
    virtual: int
    physical: int
    file_size: int
    memory_size: int
    align: int


class Executable(NamedTuple):
    """What there is to know about an ELF kernel.

    :ivar entry: physical address of the plain entry point
    :ivar pvh_entry: physical address of the PVH entry point; None where there is no such note
    :ivar end: first address behind all segments
    """

    wide: bool
    entry: int
    pvh_entry: int | None
    end: int
    segments: tuple[Segment, ...]


def parse(image: Image) -> Executable:
    """Read headers and notes.

    :raises BootError: not an x86 ELF executable, or damaged
    """
    identity = image.read(0, 20)
    wide = identity[4] == CLASS_64
    machine = struct.unpack_from("<H", identity, 18)[0]
    if identity[4] not in (CLASS_32, CLASS_64) or identity[5] != LITTLE_ENDIAN or machine not in (MACHINE_386, MACHINE_X86_64):
        raise image.error(f"ELF for another machine (e_machine {machine}); expected x86-64")
    entry, table, entry_size, count = _file_header(image, wide)
    if entry_size != (56 if wide else 32) or not 0 < count <= MAX_SEGMENTS:
        raise image.error(
            f"ELF with {count} program headers of {entry_size} bytes: expected 1 to {MAX_SEGMENTS}; is it an object file?"
        )
    headers = image.read(table, entry_size * count)
    segments = [_segment(headers, index * entry_size, wide) for index in range(count)]
    loaded = tuple(s for s in segments if s.kind == PT_LOAD and s.memory_size)
    if not loaded:
        raise image.error("ELF without anything to load")
    for segment in loaded:
        _check_segment(image, segment)
    return Executable(
        wide=wide,
        entry=_physical(image, loaded, entry),
        pvh_entry=_pvh_entry(image, [s for s in segments if s.kind == PT_NOTE]),
        end=max(s.physical + s.memory_size for s in loaded),
        segments=loaded,
    )


def load(image: Image, executable: Executable, memory: GuestMemory) -> None:
    """Put the segments where they belong, and zeros behind those that are longer in memory than in the file.

    :raises BootError: they are not all RAM
    """
    for segment in executable.segments:
        image.load(memory, segment.offset, segment.file_size, segment.physical)
        position, end = segment.physical + segment.file_size, segment.physical + segment.memory_size
        if not any(region.gpa <= segment.physical and end <= region.gpa + region.size for region in memory.regions):
            raise image.error(f"segment {segment.physical:#x}-{end - 1:#x} does not fit in memory; give the machine more")
        while position < end:
            chunk = min(end - position, len(ZEROS))
            memory.write(position, ZEROS[:chunk])
            position += chunk


def _file_header(image: Image, wide: bool) -> tuple[int, int, int, int]:
    if wide:
        entry, table, _, _, _, entry_size, count = struct.unpack("<QQQIHHH", image.read(24, 34))
    else:
        entry, table, _, _, _, entry_size, count = struct.unpack("<IIIIHHH", image.read(24, 22))
    return entry, table, entry_size, count


def _segment(headers: bytes, offset: int, wide: bool) -> Segment:
    if wide:
        kind, _, start, virtual, physical, file_size, memory_size, align = struct.unpack_from("<IIQQQQQQ", headers, offset)
    else:
        kind, start, virtual, physical, file_size, memory_size, _, align = struct.unpack_from("<8I", headers, offset)
    return Segment(kind, start, virtual, physical, file_size, memory_size, align)


def _check_segment(image: Image, segment: Segment) -> None:
    if segment.file_size > segment.memory_size:
        raise image.error(f"ELF segment at {segment.physical:#x} is longer in the file than in memory; the file is damaged")
    if segment.physical < layout.KERNEL:
        raise image.error(
            f"ELF segment at {segment.physical:#x}: memory below 1 MiB is the boot loader's; link it at {layout.KERNEL:#x}"
        )


def _physical(image: Image, segments: tuple[Segment, ...], entry: int) -> int:
    """The entry point as a physical address: Linux gives it as one, other linkers as a virtual one."""
    for segment in segments:
        if 0 <= entry - segment.physical < segment.memory_size:
            return entry
    for segment in segments:
        if 0 <= entry - segment.virtual < segment.memory_size:
            return entry - segment.virtual + segment.physical
    raise image.error(f"ELF entry point {entry:#x} is outside all segments")


def _pvh_entry(image: Image, segments: list[Segment]) -> int | None:
    for segment in segments:
        if segment.file_size > MAX_NOTES:
            raise image.error(f"ELF notes of {segment.file_size} bytes: expected at most {MAX_NOTES}")
        data = image.read(segment.offset, segment.file_size)
        for owner, kind, value in _notes(data, 8 if segment.align == 8 else 4):
            if owner == b"Xen\0" and kind == PHYS32_ENTRY and len(value) >= 4:
                return int.from_bytes(value[:4], "little")
    return None


def _notes(data: bytes, align: int) -> Iterator[tuple[bytes, int, bytes]]:
    """Owner, type and value of each note; stops where they make no sense."""
    position = 0
    while position + 12 <= len(data):
        owner_size, value_size, kind = struct.unpack_from("<III", data, position)
        owner = position + 12
        value = owner + owner_size + (-owner_size % align if align == 4 else -(12 + owner_size) % align)
        if value + value_size > len(data):
            return
        yield data[owner : owner + owner_size], kind, data[value : value + value_size]
        position = value + value_size + -value_size % align
