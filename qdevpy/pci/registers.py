# SPDX-License-Identifier: Apache-2.0
"""Registers of a BAR, declared in a device's class.

::

    class Adder(PCIEndpoint):
        mmio = MemoryBar(0, 0x1000)
        operand = mmio.register(0x00, 4)
        total = mmio.register(0x08, 8, Access.RO, help="sum of all operands")

        @operand.on_write
        def add(self, value: int) -> None:
            self.total = (self.total + value) & TOTAL_MAX

``self.total`` is the register's value, a plain int, to read and to set; ``Adder.total`` is its declaration.

How an access finds its registers:

- A size that the BAR does not accept (``access_sizes``) reads as zeros and writes nothing, but larger and misaligned ones
  are first cut into the largest aligned pieces that it accepts, as QEMU's ``memory_access_size`` does.
- A piece goes to every register that it touches, each with its share. A narrow write keeps the register's other bytes
  (``Narrow.KEEP``), or sets them to 0 (``Narrow.CLEAR``).
- A register with ``access_sizes`` of its own takes only pieces of these sizes that begin where it does.
- Where there is no register, and where one cannot be read, a read gives the BAR's ``undeclared``: zeros or ones.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self, TypeVar, overload

Method = TypeVar("Method", bound=Callable[..., Any])

WIDTHS = (1, 2, 4, 8)


class Access(enum.Enum):
    """What the guest may do with a register."""

    RO = "ro"  #: read
    RW = "rw"  #: read and write
    WO = "wo"  #: write
    W1C = "w1c"  #: read; bits written as 1 become 0
    W1S = "w1s"  #: read; bits written as 1 become 1
    RC = "rc"  #: read, after which it is 0


class Narrow(enum.Enum):
    """What a write of fewer bytes than the register has does to the others."""

    KEEP = "keep"
    CLEAR = "clear"


class Described(NamedTuple):
    """A register for people and programs that look at a device from outside."""

    name: str
    bar: int
    offset: int
    width: int
    access: str
    reset: int
    writable: int
    access_sizes: tuple[int, ...]
    help: str


class Register:
    """One register; made by :meth:`DeclaredBar.register`. Checked by :mod:`.declarations` when the class is made.

    :ivar name: the class attribute's
    :ivar offset: bytes from the start of the BAR
    :ivar width: bytes: 1, 2, 4 or 8
    :ivar reset: value after reset
    :ivar writable: bits that a write changes
    :ivar access_sizes: see the module; empty: any
    """

    def __init__(
        self,
        bar: int,
        offset: int,
        width: int,
        access: Access,
        *,
        reset: int,
        writable: int | None,
        access_sizes: Sequence[int],
        narrow: Narrow,
        help: str,  # noqa: A002 - as properties have it
    ) -> None:
        self.name = ""
        self.bar = bar
        self.offset = offset
        self.width = width
        self.access = access
        self.reset = reset
        self.full = (1 << 8 * width) - 1 if width in WIDTHS else 0
        self.writable = self.full if writable is None else writable
        self.access_sizes = tuple(access_sizes)
        self.narrow = narrow
        self.help = help
        self.reader: Callable[[Any], int] | None = None
        self.writer: Callable[[Any, int], object] | None = None

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, device: None, owner: type) -> Self: ...
    @overload
    def __get__(self, device: Any, owner: type) -> int: ...
    def __get__(self, device: Any, owner: type) -> int | Self:
        if device is None:
            return self
        values: dict[str, int] = device.register_values
        return values.get(self.name, self.reset)

    def __set__(self, device: Any, value: int) -> None:
        if not 0 <= value <= self.full:
            raise ValueError(f"register {self.name} has {8 * self.width} bits and cannot be {value:#x}; mask the value first")
        device.register_values[self.name] = value

    # -- for authors

    def on_read(self, method: Method) -> Method:
        """Decorator: ``method(self) -> int`` gives the value that the guest reads, instead of the register's own."""
        self.reader = method
        return method

    def on_write(self, method: Method) -> Method:
        """Decorator: ``method(self, value)`` is called with what the register would become, and stores it if it wants to.

        Of W1C and W1S it is called with the bits that are 1.
        """
        self.writer = method
        return method

    # -- for the BAR

    @property
    def end(self) -> int:
        """The offset behind it."""
        return self.offset + self.width

    @property
    def readable(self) -> bool:
        """Whether the guest may read it."""
        return self.access is not Access.WO

    def takes(self, offset: int, size: int) -> bool:
        """Whether it has to do with an access of SIZE bytes at OFFSET of the BAR, which touches it."""
        return not self.access_sizes or (offset == self.offset and size in self.access_sizes)

    def read(self, device: Any) -> int:
        """The guest reads all of it."""
        value = self.reader(device) if self.reader is not None else self.__get__(device, type(device))
        if self.access is Access.RC:
            self.__set__(device, 0)
        return value & self.full

    def write(self, device: Any, value: int, mask: int) -> None:
        """The guest writes VALUE where MASK has ones; both are as wide as the register."""
        old = self.__get__(device, type(device))
        if self.narrow is Narrow.CLEAR:
            mask = self.full
        mask &= self.writable
        ones = value & mask
        if self.access in (Access.RO, Access.RC):
            return
        if self.writer is not None:
            one_bits = self.access in (Access.W1C, Access.W1S)
            self.writer(device, ones if one_bits else old & ~mask | ones)
        elif self.access is Access.W1C:
            self.__set__(device, old & ~ones)
        elif self.access is Access.W1S:
            self.__set__(device, old | ones)
        else:
            self.__set__(device, old & ~mask | ones)

    def describe(self) -> Described:
        """For listings and traces."""
        return Described(
            self.name,
            self.bar,
            self.offset,
            self.width,
            self.access.value,
            self.reset,
            self.writable if self.access not in (Access.RO, Access.RC) else 0,
            self.access_sizes,
            self.help,
        )

    def __repr__(self) -> str:
        return f"{self.name} (BAR {self.bar}, offset {self.offset:#x}, {self.width} bytes)"
