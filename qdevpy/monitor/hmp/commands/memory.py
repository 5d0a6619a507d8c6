# SPDX-License-Identifier: Apache-2.0
"""Memory and ports: dumps, sums, accesses, who answers where."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from qdevpy.accel.base import CpuAccelerator
from qdevpy.errors import GuestAddressError
from qdevpy.monitor.hmp.command import HmpCommand, HmpError, hmp
from qdevpy.monitor.hmp.commands.general import character
from qdevpy.monitor.hmp.monitor import Hmp
from qdevpy.native.space import Mapping
from qdevpy.vm.machine import Machine

#: elements of one dump; more is a mistake
MOST = 1 << 20
PORT_SUFFIXES = {1: "b", 2: "w", 4: "l"}


def read_physical(machine: Machine, address: int, length: int) -> bytes:
    """What a CPU would read; devices answer for what is not RAM, byte for byte."""
    try:
        return machine.memory.read(address, length)
    except GuestAddressError:
        return bytes(machine.space.read("mmio", address + n, 1) for n in range(length))


def dump(monitor: Hmp, address: int, count: int, form: str, size: int, *, virtual: bool) -> Iterator[str]:
    """Lines of a dump, 16 bytes each, or 8 of bytes."""
    if form == "i":
        raise HmpError("there is no disassembler here; dump bytes instead: x /16bx ADDR")
    if count * size > MOST:
        raise HmpError(f"at most {MOST} bytes at a time")
    width = {"o": -(-size * 8 // 3), "x": size * 2, "u": -(-size * 80 // 33), "d": -(-size * 80 // 33)}.get(form, 0)
    line, left, step = (8 if size == 1 else 16), count * size, (1 if form == "c" else size)
    while left > 0:
        part = min(line, left)
        data = _read(monitor, address, part, virtual)
        if data is None:
            yield f"{address:016x}: Cannot access memory\n"
            return
        values = (int.from_bytes(data[at : at + step], "little") for at in range(0, part, step))
        yield f"{address:016x}: " + " ".join(_format(value, form, width, step) for value in values) + "\n"
        address = (address + part) & ((1 << 64) - 1)
        left -= part


def _read(monitor: Hmp, address: int, length: int, virtual: bool) -> bytes | None:
    accel = monitor.machine.accel
    if not virtual or not isinstance(accel, CpuAccelerator):
        return read_physical(monitor.machine, address, length)
    if monitor.machine.running:
        raise HmpError("vCPUs are running; stop them first, or use xp")
    data = b""
    while len(data) < length:
        at = address + len(data)
        physical = accel.translate(monitor.cpu, at)
        if physical is None:
            return None
        data += read_physical(monitor.machine, physical, min(length - len(data), 4096 - at % 4096))
    return data


def _format(value: int, form: str, width: int, size: int) -> str:
    match form:
        case "o":
            return f"0{value:o}".rjust(width) if value else "0".rjust(width)
        case "u":
            return str(value).rjust(width)
        case "d":
            limit = 1 << 8 * size
            # as QEMU: only 64-bit values have a sign
            return str(value - limit if size == 8 and value >> 63 else value).rjust(width)
        case "c":
            return character(value)
        case _:
            return f"0x{value:0{width}x}"


@hmp("x", "fmt:/,addr:l", "/fmt addr", "dump memory at an address of the vCPU's")
def x(monitor: Hmp, *, addr: int, count: int, format: str, size: int) -> str:  # noqa: A002
    """As QEMU's."""
    return "".join(dump(monitor, addr & ((1 << 64) - 1), count, format, size, virtual=True))


@hmp("xp", "fmt:/,addr:l", "/fmt addr", "dump physical memory")
def xp(monitor: Hmp, *, addr: int, count: int, format: str, size: int) -> str:  # noqa: A002
    """As QEMU's."""
    return "".join(dump(monitor, addr & ((1 << 64) - 1), count, format, size, virtual=False))


@hmp("sum", "start:i,size:i", "addr size", "compute the checksum of a piece of physical memory")
def sum_(monitor: Hmp, *, start: int, size: int) -> str:
    """As the ``sum`` of BSD."""
    if not 0 <= size <= 4 * MOST:  # it goes byte by byte, and nothing else goes on meanwhile
        raise HmpError(f"at most {4 * MOST} bytes at a time")
    total = 0
    for at in range(0, size, 4096):
        for byte in read_physical(monitor.machine, (start + at) & 0xFFFFFFFF, min(4096, size - at)):
            total = ((total >> 1 | total << 15) + byte) & 0xFFFF
    return f"{total:05d}\n"


@hmp("i", "fmt:/,addr:i,index:i?", "/fmt addr", "read an I/O port")
def i(monitor: Hmp, *, addr: int, count: int, format: str, size: int, index: int | None = None) -> str:  # noqa: A002
    """As QEMU's: with an index, that is written to the port first and the next port is read."""
    space = monitor.machine.space
    if index is not None:
        space.write("pio", addr & 0xFFFF, index & 0xFF, 1)
        addr += 1
    addr &= 0xFFFF
    suffix = PORT_SUFFIXES.get(size, "l")
    width = size if size in PORT_SUFFIXES else 4
    return f"port{suffix}[{addr:#06x}] = {space.read('pio', addr, width):#0{2 + 2 * width}x}\n"


@hmp("o", "fmt:/,addr:i,val:i", "/fmt addr value", "write an I/O port")
def o(monitor: Hmp, *, addr: int, val: int, count: int, format: str, size: int) -> str:  # noqa: A002
    """As QEMU's."""
    width = size if size in PORT_SUFFIXES else 4
    monitor.machine.space.write("pio", addr & 0xFFFF, val & ((1 << 8 * width) - 1), width)
    return ""


@hmp("gva2gpa", "addr:l", "addr", "show the physical address of an address of the vCPU's")
def gva2gpa(monitor: Hmp, *, addr: int) -> str:
    """As QEMU's."""
    accel = monitor.machine.accel
    if not isinstance(accel, CpuAccelerator):
        return f"gpa: {addr:#x}\n"
    if monitor.machine.running:
        raise HmpError("vCPUs are running; stop them first")
    physical = accel.translate(monitor.cpu, addr & ((1 << 64) - 1))
    return "Unmapped\n" if physical is None else f"gpa: {physical:#x}\n"


@hmp("memsave", "val:l,size:i,filename:s", "addr size file", "save memory at an address of the vCPU's")
def memsave(monitor: Hmp, *, val: int, size: int, filename: str) -> str:
    """As QEMU's."""
    data = _read(monitor, val & ((1 << 64) - 1), min(size, 64 * MOST), True)
    if data is None:
        raise HmpError(f"Error: Invalid addr {val:#018x}/size {size} specified")
    try:
        with open(filename, "wb") as file:
            file.write(data)
    except OSError as error:
        raise HmpError(f"Error: Could not open '{filename}': {error.strerror}") from None
    return ""


@hmp("pmemsave", "val:l,size:i,filename:s", "addr size file", "save physical memory")
def pmemsave(monitor: Hmp, *, val: int, size: int, filename: str) -> str:
    """As QMP's."""
    monitor.qmp("pmemsave", val=val, size=size, filename=filename)
    return ""


# -- who answers where


class Range(NamedTuple):
    """A range of an address space.

    :ivar kind: ``ram`` or ``i/o``
    """

    start: int
    size: int
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.start:016x}-{self.start + self.size - 1:016x} (prio 0, {self.kind}): {self.name}"


def mappings(machine: Machine, bus: str) -> list[Range]:
    """Who answers on ``pio`` or ``mmio``, by address."""
    found = [Range(each.base, each.size, "i/o", _name(each)) for each in machine.space.mappings if each.bus == bus]
    if bus == "mmio":
        found += [Range(ram.gpa, ram.size, "ram", ram.name.rstrip("0123456789")) for ram in machine.memory.regions]
    return sorted(found)


def _name(mapping: Mapping) -> str:
    """What the owner of a mapping is called: the type of the object whose method answers."""
    owner = getattr(mapping.read, "__self__", None)
    owner = getattr(owner, "device", owner)
    return str(getattr(owner, "type_name", "") or type(owner).__name__.lower())


@hmp("mtree", "flatview:-f,dispatch_tree:-d,owner:-o,disabled:-D", "[-f][-d][-o][-D]", "show who answers where (-f: by view)")
def info_mtree(monitor: Hmp, *, flatview: bool = False, **flags: bool) -> str:
    """As QEMU's in form; ranges here do not nest, so each address space is a flat list."""
    text = ""
    for number, (bus, title, root, last) in enumerate(
        (("mmio", "memory", "system", (1 << 64) - 1), ("pio", "I/O", "io", 0xFFFF)),
    ):
        lines = "".join(f"  {'' if flatview else '  '}{each}\n" for each in mappings(monitor.machine, bus))
        if flatview:
            text += f'FlatView #{number}\n AS "{title}", root: {root}\n Root memory region: {root}\n{lines}\n'
        else:
            text += f"address-space: {title}\n  {0:016x}-{last:016x} (prio 0, i/o): {root}\n{lines}\n"
    return text


COMMANDS: tuple[HmpCommand, ...] = (x, xp, sum_, i, o, gva2gpa, memsave, pmemsave)
INFO: tuple[HmpCommand, ...] = (info_mtree,)
