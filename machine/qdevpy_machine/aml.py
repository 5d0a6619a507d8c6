# SPDX-License-Identifier: Apache-2.0
r"""ACPI Machine Language: functions that encode one term each (ACPI 6.4, chapter 20). Terms are plain bytes.

::

    scope("\_SB",
        device("RTC",
            name("_HID", eisa_id("PNP0B00")),
            name("_CRS", resource_template(io(0x70, 2), irq(8)))))

Only what our tables use is here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

ZERO = b"\x00"
ONE = b"\x01"


# -- names and data objects


def name_string(path: str) -> bytes:
    r"""NameString (20.2.2): ``\_SB.PCI0``, ``LNKA``; segments are padded to four characters with ``_``.

    :raises ValueError: a segment is empty, too long, or has other characters than A-Z, 0-9 and _
    """
    prefix = b"\\" if path.startswith("\\") else b""
    segments = path.removeprefix("\\").split(".")
    for segment in segments:
        if (
            not 1 <= len(segment) <= 4
            or segment[0].isdigit()
            or not all(c.isdigit() or c == "_" or "A" <= c <= "Z" for c in segment)
        ):
            raise ValueError(f"'{path}': '{segment}' is not a name segment: 1 to 4 of A-Z, 0-9, _")
    encoded = b"".join(segment.ljust(4, "_").encode() for segment in segments)
    if len(segments) == 1:
        return prefix + encoded
    if len(segments) == 2:
        return prefix + b"\x2e" + encoded
    return prefix + b"\x2f" + bytes([len(segments)]) + encoded


def integer(value: int) -> bytes:
    """The shortest of ZeroOp, OneOp, ByteConst, WordConst, DWordConst, QWordConst (20.2.3)."""
    if value in (0, 1):
        return bytes([value])
    if value < 1 << 8:
        return b"\x0a" + bytes([value])
    if value < 1 << 16:
        return b"\x0b" + value.to_bytes(2, "little")
    if value < 1 << 32:
        return b"\x0c" + value.to_bytes(4, "little")
    return b"\x0e" + value.to_bytes(8, "little")


def string(text: str) -> bytes:
    """A string constant, ASCII."""
    return b"\x0d" + text.encode("ascii") + b"\x00"


def eisa_id(text: str) -> bytes:
    """``PNP0A03`` as the compressed integer of the EISAID macro (19.6.36)."""
    letters = [ord(c) - 0x40 for c in text[:3]]
    packed = letters[0] << 26 | letters[1] << 21 | letters[2] << 16 | int(text[3:], 16)
    return b"\x0c" + packed.to_bytes(4, "big")


def package_length(body: bytes) -> bytes:
    """PkgLength (20.2.4) for BODY: the encoded length counts itself.

    :raises ValueError: more than 2**28 bytes
    """
    if len(body) + 1 < 1 << 6:
        return bytes([len(body) + 1])
    for extra in (1, 2, 3):
        total = len(body) + 1 + extra
        if total < 1 << (4 + 8 * extra):
            return bytes([extra << 6 | total & 0xF]) + (total >> 4).to_bytes(extra, "little")
    raise ValueError(f"{len(body)} bytes: too long for a package")


def _sized(opcode: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return opcode + package_length(body) + body


def package(elements: Iterable[bytes]) -> bytes:
    """DefPackage with all its ELEMENTS, at most 255."""
    encoded = list(elements)
    return _sized(b"\x12", bytes([len(encoded)]), *encoded)


def buffer(data: bytes) -> bytes:
    """DefBuffer that holds DATA."""
    return _sized(b"\x11", integer(len(data)), data)


# -- named objects


def name(path: str, value: bytes) -> bytes:
    """``Name (PATH, VALUE)``."""
    return b"\x08" + name_string(path) + value


def scope(path: str, *terms: bytes) -> bytes:
    """``Scope (PATH) {TERMS}``."""
    return _sized(b"\x10", name_string(path), *terms)


def device(path: str, *terms: bytes) -> bytes:
    """``Device (PATH) {TERMS}``."""
    return _sized(b"\x5b\x82", name_string(path), *terms)


def method(path: str, arguments: int, *terms: bytes) -> bytes:
    """``Method (PATH, ARGUMENTS, NotSerialized) {TERMS}``."""
    return _sized(b"\x14", name_string(path), bytes([arguments]), *terms)


# -- what methods do


def operation_region(path: str, port: int, length: int) -> bytes:
    """``OperationRegion (PATH, SystemIO, PORT, LENGTH)``."""
    return b"\x5b\x80" + name_string(path) + b"\x01" + integer(port) + integer(length)


def dword_fields(region: str, *names: str) -> bytes:
    """``Field (REGION, DWordAcc, NoLock, WriteAsZeros)``, each of NAMES 32 bits."""
    units = (name_string(each) + bytes([32]) for each in names)
    return _sized(b"\x5b\x81", name_string(region), b"\x43", *units)


def mutex(path: str) -> bytes:
    """``Mutex (PATH, 0)``."""
    return b"\x5b\x01" + name_string(path) + b"\x00"


def acquire(path: str) -> bytes:
    """``Acquire (PATH, 0xFFFF)``: wait as long as it takes."""
    return b"\x5b\x23" + name_string(path) + b"\xff\xff"


def release(path: str) -> bytes:
    """``Release (PATH)``."""
    return b"\x5b\x27" + name_string(path)


def argument(index: int) -> bytes:
    """``ArgN``."""
    return bytes([0x68 + index])


def store(value: bytes, target: bytes) -> bytes:
    """``Store (VALUE, TARGET)``."""
    return b"\x70" + value + target


def shift_left(value: bytes, count: bytes, target: bytes) -> bytes:
    """``ShiftLeft (VALUE, COUNT, TARGET)``."""
    return b"\x79" + value + count + target


def bits_and(left: bytes, right: bytes) -> bytes:
    """``And (LEFT, RIGHT)``, an expression."""
    return b"\x7b" + left + right + b"\x00"


def if_(condition: bytes, *terms: bytes) -> bytes:
    """``If (CONDITION) {TERMS}``."""
    return _sized(b"\xa0", condition, *terms)


def notify(path: str, value: bytes) -> bytes:
    """``Notify (PATH, VALUE)``."""
    return b"\x86" + name_string(path) + value


def call(path: str, *arguments: bytes) -> bytes:
    """``PATH (ARGUMENTS)``; the method has been seen by then."""
    return name_string(path) + b"".join(arguments)


# -- resource descriptors (6.4)


def resource_template(*descriptors: bytes) -> bytes:
    """``ResourceTemplate () {DESCRIPTORS}``: a buffer with an end tag (checksum 0: not checked)."""
    return buffer(b"".join(descriptors) + b"\x79\x00")


def io(base: int, length: int) -> bytes:
    """``IO (Decode16, BASE, BASE, 1, LENGTH)``: fixed ports."""
    return struct.pack("<BBHHBB", 0x47, 1, base, base, 1, length)


def irq(number: int) -> bytes:
    """``IRQNoFlags () {NUMBER}``: an ISA interrupt, edge triggered, active high, exclusive."""
    return struct.pack("<BH", 0x22, 1 << number)


def interrupt(gsi: int) -> bytes:
    """``Interrupt (ResourceConsumer, Level, ActiveHigh, Shared) {GSI}``."""
    return struct.pack("<BHBBI", 0x89, 6, 0b01001, 1, gsi)


def _address_space(code: str, tag: int, kind: int, flags: int, first: int, last: int) -> bytes:
    # granularity, minimum, maximum, translation, length; minimum and maximum are fixed, the range is produced
    body = struct.pack(f"<BBB5{code}", kind, 0x0C, flags, 0, first, last, 0, last - first + 1)
    return struct.pack("<BH", tag, len(body)) + body


def word_bus_number(first: int, last: int) -> bytes:
    """``WordBusNumber``: the bus numbers FIRST to LAST that a host bridge hands out."""
    return _address_space("H", 0x88, 2, 0, first, last)


def word_io(first: int, last: int) -> bytes:
    """``WordIO``: the ports FIRST to LAST that a host bridge forwards."""
    return _address_space("H", 0x88, 1, 0x03, first, last)


def dword_memory(first: int, last: int) -> bytes:
    """``DWordMemory``: the addresses FIRST to LAST that a host bridge forwards; not cacheable, writable."""
    return _address_space("I", 0x87, 0, 0x01, first, last)
