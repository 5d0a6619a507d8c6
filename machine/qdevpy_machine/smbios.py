# SPDX-License-Identifier: Apache-2.0
"""SMBIOS tables (DMTF DSP0134, version 2.8): what ``dmidecode`` prints. Types as QEMU's ``hw/smbios/smbios.c``.

Fields that the definition's ``smbios:`` entries (QEMU: -smbios type=1,serial=X) name take the place of the defaults.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from qdevpy.errors import BootError, did_you_mean
from qdevpy_machine import layout

if TYPE_CHECKING:
    from qdevpy.definition.model import Value
    from qdevpy.vm.machine import Machine

    Fields = Mapping[str, str]

ANCHOR, TABLES = "etc/smbios/smbios-anchor", "etc/smbios/smbios-tables"
MANUFACTURER, PRODUCT = "QEMU", "Standard PC (i440FX + PIIX, 1996)"
NO_HANDLE = 0xFFFE
UNKNOWN16 = 0xFFFF
LARGEST_DIMM = 16 * layout.GIB

#: type -> fields that users may give
FIELDS = {
    0: ("vendor", "version", "date", "release", "uefi"),
    1: ("manufacturer", "product", "version", "serial", "uuid", "sku", "family"),
    2: ("manufacturer", "product", "version", "serial", "asset", "location"),
    3: ("manufacturer", "version", "serial", "asset", "sku"),
    4: ("sock_pfx", "manufacturer", "version", "max-speed", "current-speed", "serial", "asset", "part"),
    11: ("value",),
    17: ("loc_pfx", "bank", "manufacturer", "serial", "asset", "part", "speed"),
}
#: fields that are not just text: what they must look like, and in words
NUMBER = (r"0[xX][0-9a-fA-F]{1,4}|0|[1-9]\d{0,3}", "a whole number below 10000")
FORMS = {
    "release": (r"\d{1,3}\.\d{1,3}", "MAJOR.MINOR"),
    "uuid": (r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", "8-4-4-4-12 hexadecimal digits"),
    "max-speed": NUMBER,
    "current-speed": NUMBER,
    "speed": NUMBER,
}


class Strings:
    """The strings that follow a structure's formatted part; in it their numbers stand, 0 for none (6.1.3)."""

    def __init__(self) -> None:
        self._all: list[bytes] = []

    def number(self, text: str | None) -> int:
        """The number of TEXT."""
        if not text:
            return 0
        self._all.append(text.encode("utf-8", "replace").replace(b"\0", b""))
        return len(self._all)

    def pack(self) -> bytes:
        """All of them, and the zero that ends them."""
        return (b"".join(text + b"\0" for text in self._all) or b"\0") + b"\0"


def structure(kind: int, handle: int, body: bytes, strings: Strings | None = None) -> bytes:
    """A structure: header (6.1.2), formatted part, strings."""
    return struct.pack("<BBH", kind, 4 + len(body), handle) + body + (strings or Strings()).pack()


def read_settings(given: tuple[Mapping[str, Value], ...]) -> tuple[dict[int, dict[str, str]], list[bytes], list[str]]:
    """The user's fields by type, whole structures from files, and the strings of type 11.

    :raises BootError: a type or field that there is not, or a file that cannot be read
    """
    fields: dict[int, dict[str, str]] = {}
    files: list[bytes] = []
    oem: list[str] = []
    for entry in given:
        if "file" in entry:
            try:
                with open(entry["file"].given, "rb") as file:
                    files.append(file.read())
            except OSError as error:
                raise BootError(f"smbios: file '{entry['file'].given}': {error.strerror}") from error
            continue
        kind = int(entry["type"].given) if entry["type"].given.isdecimal() else -1
        if kind not in FIELDS:
            raise BootError(f"smbios: type '{entry['type'].given}': expected one of {', '.join(map(str, FIELDS))}")
        for name, value in entry.items():
            if name == "type":
                continue
            if name not in FIELDS[kind]:
                hint = did_you_mean(name, FIELDS[kind]) or f"; there are: {', '.join(FIELDS[kind])}"
                raise BootError(f"smbios: type {kind}: '{name}' not found{hint}")
            form, expected = FORMS.get(name, (".*", ""))
            if not re.fullmatch(form, value.given, re.DOTALL):
                raise BootError(f"smbios: type {kind}: {name}: '{value.given}': expected {expected}")
            if kind == 11:
                oem.append(value.given)
            fields.setdefault(kind, {})[name] = value.given
    return fields, files, oem


def wire_uuid(text: str | None) -> bytes:
    """A UUID as the structure has it: the first three fields little-endian (7.2.1)."""
    digits = bytes.fromhex((text or "0" * 32).replace("-", ""))
    return digits[3::-1] + digits[5:3:-1] + digits[7:5:-1] + digits[8:]


def bios(fields: Fields) -> bytes:
    """Type 0."""
    strings = Strings()
    vendor, version = strings.number(fields.get("vendor")), strings.number(fields.get("version"))
    date = strings.number(fields.get("date"))
    major, _, minor = fields.get("release", "0.0").partition(".")
    extension = 0x14 | (0x08 if fields.get("uefi") in ("on", "yes", "true") else 0)  # virtual machine, targeted content
    body = struct.pack(
        "<BBHBBQBBBBBB", vendor, version, 0xE800, date, 0, 0x08, 0, extension, int(major) & 0xFF, int(minor) & 0xFF, 0xFF, 0xFF
    )
    return structure(0, 0x0000, body, strings)


def system(fields: Fields, uuid: str | None) -> bytes:
    """Type 1."""
    strings = Strings()
    names = [strings.number(fields.get(name)) for name in ("manufacturer", "product", "version", "serial")]
    body = bytes(names) + wire_uuid(fields.get("uuid", uuid)) + b"\x06"  # woken by the power switch
    body += bytes(strings.number(fields.get(name)) for name in ("sku", "family"))
    return structure(1, 0x0100, body, strings)


def baseboard(fields: Fields) -> bytes:
    """Type 2."""
    strings = Strings()
    body = bytes(strings.number(fields.get(name)) for name in ("manufacturer", "product", "version", "serial", "asset"))
    body += struct.pack("<BBHBB", 1, strings.number(fields.get("location")), 0x0300, 0x0A, 0)
    return structure(2, 0x0200, body, strings)


def chassis(fields: Fields) -> bytes:
    """Type 3."""
    strings = Strings()
    body = struct.pack(
        "<BBBBBBBBBIBBBBB",
        strings.number(fields.get("manufacturer")),
        1,
        *(strings.number(fields.get(name)) for name in ("version", "serial", "asset")),
        3, 3, 3, 2, 0, 0, 0, 0, 0,
        strings.number(fields.get("sku")),
    )  # fmt: skip
    return structure(3, 0x0300, body, strings)


def processor(fields: Fields, number: int, cores: int, threads: int) -> bytes:
    """Type 4: one socket."""
    strings = Strings()
    socket = strings.number(f"{fields.get('sock_pfx', 'CPU')}{number:2x}")
    body = struct.pack("<BBBBQ", socket, 3, 1, strings.number(fields.get("manufacturer")), 0)
    body += struct.pack("<BBHHHBB", strings.number(fields.get("version")), 0, 0, *speeds(fields), 0x41, 1)
    body += struct.pack("<HHH", UNKNOWN16, UNKNOWN16, UNKNOWN16)
    body += bytes(strings.number(fields.get(name)) for name in ("serial", "asset", "part"))
    body += struct.pack("<BBBHH", min(cores, 255), min(cores, 255), min(threads, 255), 2, 1)
    return structure(4, 0x0400 + number, body, strings)


def speeds(fields: Fields) -> tuple[int, int]:
    """A processor's greatest and present speed in MHz."""
    return int(fields.get("max-speed", "2000"), 0), int(fields.get("current-speed", "2000"), 0)


def memory_array(size: int, dimms: int) -> bytes:
    """Type 16."""
    kib = -(-size // layout.KIB)
    small = kib < 1 << 31
    body = struct.pack("<BBBIHHQ", 1, 3, 6, kib if small else 1 << 31, NO_HANDLE, dimms, 0 if small else size)
    return structure(16, 0x1000, body)


def memory_device(fields: Fields, number: int, size: int) -> bytes:
    """Type 17."""
    strings = Strings()
    mib = -(-size // layout.MIB)
    small = mib < 0x7FFF
    locator = strings.number(f"{fields.get('loc_pfx', 'DIMM')} {number}")
    speed = int(fields.get("speed", "0"), 0)
    body = struct.pack("<HHHHHB", 0x1000, NO_HANDLE, UNKNOWN16, UNKNOWN16, mib if small else 0x7FFF, 9)
    body += struct.pack("<BBBBHH", 0, locator, strings.number(fields.get("bank")), 7, 2, speed)
    body += bytes(strings.number(fields.get(name)) for name in ("manufacturer", "serial", "asset", "part"))
    body += struct.pack("<BIHHHH", 0, 0 if small else mib, speed, 0, 0, 0)
    return structure(17, 0x1100 + number, body, strings)


def memory_range(number: int, piece: layout.Range) -> bytes:
    """Type 19: where a piece of RAM is."""
    start, last = piece.start // layout.KIB, (piece.end - 1) // layout.KIB
    wide = last >= 0xFFFF_FFFF
    body = struct.pack(
        "<IIHBQQ",
        *((0xFFFF_FFFF, 0xFFFF_FFFF) if wide else (start, last)),
        0x1000,
        1,
        *((piece.start, piece.end - 1) if wide else (0, 0)),
    )
    return structure(19, 0x1300 + number, body)


def structures(machine: Machine, *, with_bios: bool) -> Iterator[bytes]:
    """Every structure of a machine, in order.

    :param with_bios: type 0 even where the user gives nothing of it; SeaBIOS adds its own
    :raises BootError: see :func:`read_settings`
    """
    fields, files, oem = read_settings(machine.definition.smbios)
    uuid = machine.definition.uuid.given if machine.definition.uuid is not None else None
    maker = {"manufacturer": MANUFACTURER, "version": machine.board.type_name}
    if with_bios or 0 in fields:
        yield bios(fields.get(0, {"vendor": "qdevpy"}))
    yield system({**maker, "product": PRODUCT, **fields.get(1, {})}, uuid)
    if 2 in fields:
        yield baseboard({**maker, "product": PRODUCT, **fields[2]})
    yield chassis({**maker, **fields.get(3, {})})
    topology = machine.definition.topology
    sockets = topology.get("sockets", machine.cpus)
    for number in range(sockets):
        cores = topology.get("dies", 1) * topology.get("cores", 1)
        yield processor({**maker, **fields.get(4, {})}, number, cores, cores * topology.get("threads", 1))
    if oem:
        strings = Strings()
        yield structure(11, 0x0E00, bytes([len([strings.number(text) for text in oem])]), strings)
    dimms = [min(LARGEST_DIMM, machine.memory_size - at) for at in range(0, machine.memory_size, LARGEST_DIMM)]
    yield memory_array(machine.memory_size, len(dimms))
    for number, size in enumerate(dimms):
        yield memory_device({"manufacturer": MANUFACTURER, **fields.get(17, {})}, number, size)
    for number, piece in enumerate(layout.ram_ranges(machine.memory_size)):
        yield memory_range(number, piece)
    yield structure(32, 0x2000, bytes(7))
    yield from files
    yield structure(127, 0x7F00, b"")


def entry_point(tables: list[bytes], address: int) -> bytes:
    """The 32-bit entry point (5.2.1), for tables at ADDRESS."""
    blob = b"".join(tables)
    tail = bytearray(struct.pack("<5sBHIHB", b"_DMI_", 0, len(blob), address, len(tables), 0x28))
    tail[5] = -sum(tail) & 0xFF
    largest = max(map(len, tables))
    head = bytearray(struct.pack("<4sBBBBHB5x", b"_SM_", 0, 0x1F, 2, 8, largest, 0))
    head[4] = -(sum(head) + sum(tail)) & 0xFF
    return bytes(head + tail)


def smbios_files(machine: Machine) -> dict[str, bytes]:
    """What SeaBIOS takes over."""
    tables = list(structures(machine, with_bios=False))
    return {ANCHOR: entry_point(tables, 0), TABLES: b"".join(tables)}


def place(machine: Machine, address: int) -> None:
    """Write entry point and tables to guest memory, at a multiple of 16 from 0xF0000 on: where they are looked for."""
    tables = list(structures(machine, with_bios=True))
    machine.memory.write(address, entry_point(tables, address + 32).ljust(32, b"\0") + b"".join(tables))
