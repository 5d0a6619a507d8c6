# SPDX-License-Identifier: Apache-2.0
"""The commands of QEMU's qtest protocol (QEMU: ``softmmu/qtest.c``).

A command is a line of words with a space between; its answer is a line that begins with ``OK`` or ``FAIL``. QEMU's
own server aborts on arguments that it cannot read; this one answers ``FAIL`` and a reason.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from qdevpy.accel.qtest.accelerator import QtestAccelerator
from qdevpy.accel.qtest.physical import PhysicalMemory
from qdevpy.errors import PathError
from qdevpy.vm.clock import SteppedClock

if TYPE_CHECKING:
    from qdevpy.vm.machine import Machine

#: bytes that one command reads or writes; QEMU asks malloc(), and dies where that says no
MOST_BYTES = 64 << 20

PORTS = 0x1_0000
U64 = 1 << 64
I64_MAX = (1 << 63) - 1
SIZES = {"b": 1, "w": 2, "l": 4, "q": 8}

#: type names of the devices whose inputs are the interrupt lines themselves
INTERRUPT_CONTROLLERS = ("ioapic", "kvm-ioapic")
LINES = 24


class CommandError(Exception):
    """The command cannot be carried out; ``str()`` follows ``FAIL``."""


class Commands:
    """What a client may say.

    :param intercept: called when interrupt lines are to be reported from now on
    """

    def __init__(self, machine: Machine, intercept: Callable[[], None]) -> None:
        self._machine = machine
        self._physical = PhysicalMemory(machine.memory, machine.space)
        self._intercept = intercept
        self._intercepted: object | None = None
        table: dict[str, Callable[[list[str]], str]] = {
            "endianness": lambda words: "OK little",
            "read": self._read_range,
            "write": self._write_range,
            "b64read": self._read_base64,
            "b64write": self._write_base64,
            "memset": self._memset,
            "irq_intercept_in": self._irq_intercept,
            "irq_intercept_out": self._irq_intercept,
            "set_irq_in": self._set_irq_in,
            "module_load": lambda words: "FAIL",  # there are no modules
        }
        for suffix, size in SIZES.items():
            if size <= 4:
                table[f"in{suffix}"] = lambda words, size=size: self._port_read(words, size)  # type: ignore[misc]
                table[f"out{suffix}"] = lambda words, size=size: self._port_write(words, size)  # type: ignore[misc]
            table[f"read{suffix}"] = lambda words, size=size: self._read(words, size)  # type: ignore[misc]
            table[f"write{suffix}"] = lambda words, size=size: self._write(words, size)  # type: ignore[misc]
        if isinstance(machine.clock, SteppedClock):
            table |= {"clock_step": self._clock_step, "clock_set": self._clock_set}
        self._table = table

    def execute(self, line: str) -> str:
        """Carry out a command; its answer, without the newline."""
        words = line.split(" ")
        handler = self._table.get(words[0])
        if handler is None:
            return f"FAIL Unknown command '{words[0][:64]}'"
        try:
            return handler(words)
        except CommandError as error:
            return f"FAIL {error}"

    # -- ports

    def _port_read(self, words: list[str], size: int) -> str:
        (port,) = numbers(words, 1, most=PORTS)
        return f"OK 0x{self._machine.space.read('pio', port, size):04x}"

    def _port_write(self, words: list[str], size: int) -> str:
        (port,) = numbers(words, 1, most=PORTS)
        (value,) = numbers(words, 1, skip=1)
        self._machine.space.write("pio", port, value, size)
        return "OK"

    # -- memory

    def _read(self, words: list[str], size: int) -> str:
        (address,) = numbers(words, 1)
        return f"OK 0x{int.from_bytes(self._physical.read(address, size), 'little'):016x}"

    def _write(self, words: list[str], size: int) -> str:
        address, value = numbers(words, 2)
        self._physical.write(address, (value % (1 << 8 * size)).to_bytes(size, "little"))
        return "OK"

    def _read_range(self, words: list[str]) -> str:
        address, size = byte_range(words)
        if size == 0:
            raise CommandError("Invalid size 0")
        return f"OK 0x{self._physical.read(address, size).hex()}"

    def _read_base64(self, words: list[str]) -> str:
        address, size = byte_range(words)
        return f"OK {base64.b64encode(self._physical.read(address, size)).decode()}"

    def _write_range(self, words: list[str]) -> str:
        address, size = byte_range(words)
        digits = argument(words, 3)
        if len(digits) < 3:
            return "ERR invalid argument size"
        try:
            # an odd digit at the end is not looked at, as QEMU does not; what is missing is zeros
            data = bytes.fromhex(digits[2 : 2 + min(2 * size, len(digits) - 2 & ~1)])
        except ValueError:
            raise CommandError("Invalid data: expected 0x and hexadecimal digits") from None
        self._physical.write(address, data.ljust(size, b"\0"))
        return "OK"

    def _write_base64(self, words: list[str]) -> str:
        address, size = byte_range(words)
        text = argument(words, 3)
        if len(text) < 3:
            return "ERR invalid argument size"
        try:
            data = base64.b64decode(text)
        except binascii.Error:
            raise CommandError("Invalid data: expected base64") from None
        self._physical.write(address, data[:size])
        return "OK"

    def _memset(self, words: list[str]) -> str:
        address, size = byte_range(words)
        (value,) = numbers(words, 1, skip=2)
        self._physical.write(address, bytes([value & 0xFF]) * size)
        return "OK"

    # -- interrupts

    def _irq_intercept(self, words: list[str]) -> str:
        """Only the lines of the interrupt controllers can be listened to, as inputs; other devices have nothing to report."""
        device = self._device(argument(words, 1))
        if self._intercepted is not None:
            if device is not self._intercepted:
                raise CommandError("IRQ intercept already enabled")
            return "OK"
        if words[0].endswith("_in") and is_interrupt_controller(device):
            if not isinstance(self._machine.accel, QtestAccelerator):
                raise CommandError("Interrupts can be intercepted with accel qtest only")
            self._intercept()
        self._intercepted = device
        return "OK"

    def _set_irq_in(self, words: list[str]) -> str:
        device = self._device(argument(words, 1))
        name = argument(words, 2)
        line, level = numbers(words, 2, skip=2)
        if name != "unnamed-gpio-in" or not is_interrupt_controller(device) or line >= LINES:
            raise CommandError(f"Unknown interrupt input '{name[:64]}' {line}")
        self._machine.accel.set_gsi(line, bool(level))
        return "OK"

    def _device(self, path: str) -> object:
        from qdevpy.qdev import qom
        from qdevpy.qdev.device import Device

        try:
            found = qom.resolve(self._machine, path)
        except PathError:
            found = None
        if not isinstance(found, Device):
            raise CommandError("Unknown device")
        return found

    # -- time

    def _clock_step(self, words: list[str]) -> str:
        clock = self._machine.clock
        now = clock.now_ns()
        if len(words) > 1:
            until = now + number(words[1], signed=True)
        else:
            deadline = clock.deadline()
            until = now if deadline is None else deadline
        return self._advance(until)

    def _clock_set(self, words: list[str]) -> str:
        return self._advance(number(argument(words, 1), signed=True))

    def _advance(self, until: int) -> str:
        machine = self._machine
        assert isinstance(machine.clock, SteppedClock)
        # SIGTERM must get through to a client's mistake of a hundred years
        machine.clock.advance_to(min(until, I64_MAX), go_on=lambda: machine.ending is None)
        return f"OK {machine.clock.now_ns()}"


def is_interrupt_controller(device: object) -> bool:
    """Whether a device's unnamed inputs are the interrupt lines."""
    return getattr(device, "type_name", "") in INTERRUPT_CONTROLLERS


def argument(words: Sequence[str], index: int) -> str:
    """Word INDEX of a command.

    :raises CommandError: there are not so many
    """
    if index >= len(words):
        raise CommandError(f"Missing argument {index} of '{words[0]}'")
    return words[index]


def numbers(words: Sequence[str], count: int, *, skip: int = 0, most: int = U64) -> list[int]:
    """COUNT arguments after SKIP others, each below MOST.

    :raises CommandError: one is missing, no number, or too large
    """
    found = [number(argument(words, 1 + skip + index)) for index in range(count)]
    for value in found:
        if value >= most:
            raise CommandError(f"Invalid number {value:#x}: expected less than {most:#x}")
    return found


def byte_range(words: Sequence[str]) -> tuple[int, int]:
    """The arguments ADDR and SIZE.

    :raises CommandError: as :func:`numbers`; or more bytes than one command may touch
    """
    address, size = numbers(words, 2)
    if size > MOST_BYTES:
        raise CommandError(f"Invalid size {size}: expected at most {MOST_BYTES}")
    return address, size


def number(text: str, *, signed: bool = False) -> int:
    """A number as strtoull() with base 0 reads it (strtoll() where SIGNED): 0x and 0 are prefixes, a minus wraps around.

    :raises CommandError: it is none, or does not fit in 64 bits
    """
    digits = text[1:] if text[:1] in ("-", "+") else text
    base = 16 if digits[:2].lower() == "0x" else 8 if digits[:1] == "0" else 10
    if base == 16:
        digits = digits[2:]
    try:
        if not digits.isalnum() or not digits.isascii() or len(digits) > 64:
            raise ValueError
        value = int(digits, base)
        if value > (I64_MAX if signed else U64 - 1):
            raise ValueError
    except ValueError:
        raise CommandError(f"Invalid number '{text[:64]}'") from None
    value = -value if text[0] == "-" else value
    return value if signed else value % U64
