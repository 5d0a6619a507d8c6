# SPDX-License-Identifier: Apache-2.0
"""What a PCI device's class declares, collected and checked when the class is made."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from qdevpy.errors import PluginError
from qdevpy.pci.declared_bar import DeclaredBar
from qdevpy.pci.registers import WIDTHS, Register

BARS = 6
PAGE_SHIFT = 8  #: registers are looked up by pieces of 256 bytes


class Declared(NamedTuple):
    """All BARs and registers of a class.

    :ivar bars: by index
    :ivar registers: by offset, those of BAR 0 first
    :ivar pages: those that touch 256 bytes of a BAR, by ``(BAR, offset >> 8)``
    """

    bars: Mapping[int, DeclaredBar]
    registers: Sequence[Register]
    pages: Mapping[tuple[int, int], Sequence[Register]]


def collect(cls: type[Any]) -> Declared:
    """The declarations of a class and of those it derives from; one that is declared anew replaces the earlier one.

    :raises PluginError: they do not go together; names both
    """
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        found.update(vars(base))
    bars: dict[int, DeclaredBar] = {}
    for bar in (each for each in found.values() if isinstance(each, DeclaredBar)):
        _check_bar(cls, bar)
        for index in range(bar.index, bar.index + bar.indices):
            other = next((b for b in bars.values() if b.index <= index < b.index + b.indices), None)
            if other is not None:
                _refuse(cls, f"{bar.name} and {other.name} both take BAR {index}; choose another index for one of them")
        bars[bar.index] = bar
    registers = sorted((r for r in found.values() if isinstance(r, Register)), key=lambda r: (r.bar, r.offset))
    for register in registers:
        _check_register(cls, register, bars)
    for first, second in itertools.pairwise(registers):
        if first.bar == second.bar and second.offset < first.end:
            _refuse(cls, f"{first} and {second} overlap; the next free offset is {_next_free(first, second):#x}")
    pages: dict[tuple[int, int], list[Register]] = defaultdict(list)
    for register in registers:
        # aligned and at most 8 bytes, so in one page only
        pages[register.bar, register.offset >> PAGE_SHIFT].append(register)
    return Declared(bars, registers, pages)


def _next_free(first: Register, second: Register) -> int:
    return -(-first.end // second.width) * second.width


def _refuse(cls: type[Any], why: str) -> NoReturn:
    raise PluginError(f"class {cls.__module__}.{cls.__qualname__}: {why}")


def _check_bar(cls: type[Any], bar: DeclaredBar) -> None:
    last = BARS - bar.indices
    if not 0 <= bar.index <= last:
        _refuse(cls, f"{bar.name}: index {bar.index}; a function has BARs 0 to {last} of this kind")
    if bar.size & (bar.size - 1) or bar.size < bar.minimum:
        _refuse(cls, f"{bar.name}: {bar.size} bytes; a BAR's size is a power of two, here at least {bar.minimum}")
    if not bar.access_sizes or not set(bar.access_sizes) <= set(WIDTHS):
        _refuse(cls, f"{bar.name}: access_sizes {bar.access_sizes}; expected some of {WIDTHS}")


def _check_register(cls: type[Any], register: Register, bars: Mapping[int, DeclaredBar]) -> None:
    if register.width not in WIDTHS:
        _refuse(cls, f"{register}: a register has 1, 2, 4 or 8 bytes")
    if register.offset % register.width:
        down = register.offset - register.offset % register.width
        _refuse(
            cls,
            f"{register} is misaligned: its offset must be a multiple of {register.width}, "
            f"such as {down:#x} or {down + register.width:#x}",
        )
    bar = bars.get(register.bar)
    if bar is None:
        _refuse(cls, f"{register}: the class has no BAR {register.bar}; assign it to a class attribute, too")
    if register.offset < 0 or register.end > bar.size:
        _refuse(cls, f"{register} does not fit into {bar.name}, which has {bar.size:#x} bytes")
    for what, value in (("reset", register.reset), ("writable", register.writable)):
        if not 0 <= value <= register.full:
            _refuse(cls, f"{register}: {what}={value:#x} has more than {8 * register.width} bits")
    if not set(register.access_sizes) <= set(bar.access_sizes):
        _refuse(cls, f"{register}: access_sizes {register.access_sizes}; {bar.name} accepts {bar.access_sizes} only")
