# SPDX-License-Identifier: Apache-2.0
"""The keyboard controller without a keyboard: processor reset, A20, and self-tests for those who look.

A byte for the keyboard or mouse is answered as the real controller does when nothing is plugged in: the timeout
flag and 0xFE, at once, so that a driver that probes goes on quickly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from qdevpy.qdev import kinds
from qdevpy.qdev import property as prop
from qdevpy_machine.isa import ISADevice

KEYBOARD_IRQ = 1
WIRED = "the board's wiring is as it is"
NO_MIGRATION = "there is no migration"

OUTPUT_FULL, SYSTEM_FLAG, WAS_COMMAND, UNLOCKED, AUX_DATA, TIMEOUT = 0x01, 0x04, 0x08, 0x10, 0x20, 0x40

#: command byte: interrupts off, system flag, keyboard and mouse ports disabled
COMMAND_BYTE = 0x34
INTERRUPT_ENABLED = 0x01
OUTPUT_PORT_NOT_RESET, OUTPUT_PORT_A20 = 0x01, 0x02
INPUT_PORT = 0x80

READ_COMMAND_BYTE, WRITE_COMMAND_BYTE = 0x20, 0x60
TEST_AUX, SELF_TEST, TEST_KEYBOARD, DISABLE_KEYBOARD, ENABLE_KEYBOARD = 0xA9, 0xAA, 0xAB, 0xAD, 0xAE
READ_INPUT, READ_OUTPUT, WRITE_OUTPUT, ECHO_KEYBOARD, ECHO_AUX, WRITE_AUX = 0xC0, 0xD0, 0xD1, 0xD2, 0xD3, 0xD4
#: commands whose next byte goes to port 0x60
WITH_ARGUMENT = {WRITE_COMMAND_BYTE, WRITE_OUTPUT, ECHO_KEYBOARD, ECHO_AUX, WRITE_AUX}


class I8042(ISADevice):
    """Ports 0x60 and 0x64. As QEMU's ``hw/input/pckbd.c``, as far as there is no keyboard."""

    type_name: ClassVar[str] = "i8042"
    description: ClassVar[str] = "keyboard controller, no keyboard: reset and A20"
    user_creatable: ClassVar[bool] = False
    gpios: ClassVar[Sequence[tuple[str, str, int]]] = (
        ("in", "ps2-mouse-input-irq", 1),
        ("in", "ps2-kbd-input-irq", 1),
        ("out", "", 2),
        ("out", "a20", 1),
    )

    extended_state: bool = prop.only(kinds.Bool(), True, why=NO_MIGRATION, help="migrate all of it")
    kbd_throttle: bool = prop.only(kinds.Bool(), False, why="there is no keyboard", help="slow down typing")
    kbd_irq: int = prop.only_integer("uint8", KEYBOARD_IRQ, why=WIRED, help="the keyboard's interrupt")
    mouse_irq: int = prop.only_integer("uint8", 12, why=WIRED, help="the mouse's interrupt")

    def do_realize(self) -> None:
        """Take the two ports."""
        self._start()
        self.map_ports(0x60, 1, self._read_data, self._write_data)
        self.map_ports(0x64, 1, self._read_status, self._write_command)

    def do_reset(self) -> None:
        """Nothing waits, A20 is open."""
        self._start()
        self.set_irq(KEYBOARD_IRQ, False)

    def _start(self) -> None:
        self._status = UNLOCKED | SYSTEM_FLAG
        self._command_byte = COMMAND_BYTE
        self._output = 0
        self._pending: int | None = None
        self._a20 = True

    def _put(self, value: int, flags: int = 0) -> None:
        self._output = value
        self._status = self._status & ~(AUX_DATA | TIMEOUT) | OUTPUT_FULL | flags
        self.set_irq(KEYBOARD_IRQ, bool(self._command_byte & INTERRUPT_ENABLED))

    def _read_status(self, offset: int, size: int) -> int:
        return self._status

    def _read_data(self, offset: int, size: int) -> int:
        self._status &= ~(OUTPUT_FULL | AUX_DATA | TIMEOUT)
        self.set_irq(KEYBOARD_IRQ, False)
        return self._output

    def _write_command(self, offset: int, value: int, size: int) -> None:
        command = value & 0xFF
        self._status |= WAS_COMMAND
        self._pending = command if command in WITH_ARGUMENT else None
        if command >= 0xF0:  # pulse output lines that are 0 in the low bits; line 0 is the processor's reset
            if not command & 1:
                self.machine.request_reset("keyboard controller reset")
        elif command == READ_COMMAND_BYTE:
            self._put(self._command_byte)
        elif command == SELF_TEST:
            self._put(0x55)
        elif command == TEST_KEYBOARD:
            self._put(0x00)
        elif command == TEST_AUX:
            self._put(0xFF)  # no mouse port
        elif command == DISABLE_KEYBOARD:
            self._command_byte |= 0x10
        elif command == ENABLE_KEYBOARD:
            self._command_byte &= ~0x10
        elif command == READ_INPUT:
            self._put(INPUT_PORT)
        elif command == READ_OUTPUT:
            self._put(OUTPUT_PORT_NOT_RESET | (OUTPUT_PORT_A20 if self._a20 else 0))

    def _write_data(self, offset: int, value: int, size: int) -> None:
        value &= 0xFF
        command, self._pending = self._pending, None
        self._status &= ~WAS_COMMAND
        if command == WRITE_COMMAND_BYTE:
            self._command_byte = value | 0x20  # the mouse port stays disabled: there is none
        elif command == WRITE_OUTPUT:
            # the bit is kept for who reads it back; A20 is always open, as the in-kernel CPU has no such line
            self._a20 = bool(value & OUTPUT_PORT_A20)
            if not value & OUTPUT_PORT_NOT_RESET:
                self.machine.request_reset("keyboard controller reset")
        elif command == ECHO_KEYBOARD:
            self._put(value)
        elif command in (ECHO_AUX, WRITE_AUX):
            self._put(0xFE, AUX_DATA | TIMEOUT)
        else:
            self._put(0xFE, TIMEOUT)
