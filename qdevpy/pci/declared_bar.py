# SPDX-License-Identifier: Apache-2.0
"""BARs that a device's class declares, with their registers. See :mod:`.registers` for how accesses find these."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from qdevpy.pci.registers import Access, Narrow, Register

log = logging.getLogger(__name__)

Method = TypeVar("Method", bound=Callable[..., Any])

ZEROS = 0
ONES = (1 << 64) - 1


class DeclaredBar:
    """A BAR; use :class:`MemoryBar` or :class:`IoBar`.

    :param index: 0 to 5; one of 64 bits takes the next, too
    :param size: bytes, a power of two
    :param access_sizes: sizes of access that it accepts
    :param undeclared: what reads as if there were no register: :data:`ZEROS` or :data:`ONES`
    """

    kind = ""
    minimum = 0  #: bytes (PCI 3.0, 6.2.5.1)
    indices = 1  #: BAR registers that it takes

    def __init__(self, index: int, size: int, *, access_sizes: Sequence[int] = (1, 2, 4, 8), undeclared: int = ZEROS) -> None:
        self.name = ""
        self.index = index
        self.size = size
        self.access_sizes = tuple(sorted(access_sizes))
        self.undeclared = undeclared
        self.reader: Callable[[Any, int, int], int] | None = None
        self.writer: Callable[[Any, int, int, int], object] | None = None

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    # -- for authors

    def register(
        self,
        offset: int,
        width: int,
        access: Access = Access.RW,
        *,
        reset: int = 0,
        writable: int | None = None,
        access_sizes: Sequence[int] = (),
        narrow: Narrow = Narrow.KEEP,
        help: str = "",  # noqa: A002 - as properties have it
    ) -> Register:
        """Declare a register; assign it to a class attribute, which names it.

        :param offset: bytes from the start of the BAR, a multiple of WIDTH
        :param width: bytes: 1, 2, 4 or 8
        :param reset: value after reset
        :param writable: bits that a write changes; None: all
        :param access_sizes: the only sizes of access that it takes, from its first byte; empty: any
        """
        return Register(
            self.index,
            offset,
            width,
            access,
            reset=reset,
            writable=writable,
            access_sizes=access_sizes,
            narrow=narrow,
            help=help,
        )

    def on_read(self, method: Method) -> Method:
        """Decorator: ``method(self, offset, size) -> int`` answers where there is no register (a buffer, a window)."""
        self.reader = method
        return method

    def on_write(self, method: Method) -> Method:
        """Decorator: ``method(self, offset, value, size)`` is called where there is no register."""
        self.writer = method
        return method

    # -- accesses

    def pieces(self, offset: int, size: int) -> Iterator[tuple[int, int]]:
        """An access as the largest aligned ones that the BAR accepts: ``(offset, size)``; nothing where it accepts none."""
        end = offset + size
        while offset < end:
            alignment = offset & -offset or 8
            fitting = [each for each in self.access_sizes if each <= min(end - offset, alignment)]
            if not fitting:
                return
            yield offset, fitting[-1]
            offset += fitting[-1]

    def read(self, device: Any, registers: Sequence[Register], offset: int, size: int) -> int:
        """The guest reads SIZE bytes; REGISTERS are those that such an access may touch."""
        value = 0
        for at, length in self.pieces(offset, size):
            value |= self._read_piece(device, registers, at, length) << 8 * (at - offset)
        return value

    def _read_piece(self, device: Any, registers: Sequence[Register], offset: int, size: int) -> int:
        all_ones = (1 << 8 * size) - 1
        value, known = 0, 0
        for register in registers:
            if register.offset < offset + size and offset < register.end and register.takes(offset, size) and register.readable:
                shift = 8 * (register.offset - offset)
                value |= _shifted(register.read(device), shift)
                known |= _shifted(register.full, shift)
        if known & all_ones == 0 and self.reader is not None:
            return self.reader(device, offset, size) & all_ones
        if ~known & all_ones:
            log.debug("%s: read of %d bytes at %s offset %#x: nothing to read there", device.label, size, self.name, offset)
        return (value & known | self.undeclared & ~known) & all_ones

    def write(self, device: Any, registers: Sequence[Register], offset: int, value: int, size: int) -> None:
        """The guest writes SIZE bytes; REGISTERS are those that such an access may touch."""
        for at, length in self.pieces(offset, size):
            part = value >> 8 * (at - offset) & ((1 << 8 * length) - 1)
            self._write_piece(device, registers, at, part, length)

    def _write_piece(self, device: Any, registers: Sequence[Register], offset: int, value: int, size: int) -> None:
        touched = [r for r in registers if r.offset < offset + size and offset < r.end and r.takes(offset, size)]
        for register in touched:
            shift = 8 * (offset - register.offset)
            register.write(device, _shifted(value, shift) & register.full, _shifted((1 << 8 * size) - 1, shift) & register.full)
        if touched:
            return
        if self.writer is not None:
            self.writer(device, offset, value, size)
        else:
            log.debug("%s: write of %#x, %d bytes, at %s offset %#x: no register", device.label, value, size, self.name, offset)


def _shifted(value: int, bits: int) -> int:
    """VALUE moved up by BITS, which may be negative."""
    return value << bits if bits >= 0 else value >> -bits


class MemoryBar(DeclaredBar):
    """A memory BAR below 4 GiB; ``MemoryBar64`` may lie anywhere."""

    kind = "mem"
    minimum = 16


class MemoryBar64(MemoryBar):
    """A memory BAR of 64 bits."""

    kind = "mem64"
    indices = 2


class IoBar(DeclaredBar):
    """An I/O BAR."""

    kind = "io"
    minimum = 4

    def __init__(self, index: int, size: int, *, access_sizes: Sequence[int] = (1, 2, 4), undeclared: int = ZEROS) -> None:
        super().__init__(index, size, access_sizes=access_sizes, undeclared=undeclared)
