# SPDX-License-Identifier: Apache-2.0
"""Guests of a few instructions, written in Python: a driver on bare metal for a device under test.

::

    program = GuestProgram()
    bar = program.place_bar(slot=4, bar=0)
    program.store(bar + 0x00, 20)
    program.expect(bar + 0x04, 21)
    run_guest("machine.yaml", program)          # under KVM; the machine has isa-debug-exit

The program is 32-bit code without paging, entered through its PVH note. It runs under a KVM that only emulates such code
just as well; nothing but the computer's own time is spent.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from qdevpy.pci import config
from qdevpy.pci.msi import ENABLE

LOAD = 0x10_0000  #: where the code is
DATA = 0x20_0000  #: where :meth:`GuestProgram.room` begins
WINDOW = 0xE000_0000  #: where BARs are placed, 16 MiB a slot
PVH_ENTRY_NOTE = 18
CONFIG_ADDRESS, CONFIG_DATA = 0xCF8, 0xCFC
POWER_OFF, POWER_OFF_VALUE = 0x604, 0x2000  #: PIIX4's PM1a control: SLP_EN and S5's type
DEBUG_EXIT = 0x501
# the local APIC (Intel SDM volume 3, 11.4): spurious-interrupt vector register, its enable bit; requests, 32 vectors in 16 bytes
APIC, APIC_SVR, APIC_ENABLE, APIC_IRR = 0xFEE0_0000, 0xF0, 0x100, 0x200
FIRST_CAPABILITY = 0x40  #: of a function without others before it
FIRST_VECTOR = 0x40  #: of :meth:`GuestProgram.enable_msi`
SERIAL = 0x3F8  #: COM1, whose transmitter takes whatever comes
FIRST_STEP, LAST_STEP = 1, 126  #: what fits into an exit status beside isa-debug-exit's lowest bit
PATIENCE = 120.0  #: seconds that a guest may take

_MOV_EDX, _MOV_EAX = b"\xba", b"\xb8"
_HANG = b"\xf4\xeb\xfd"  # hlt; jmp back


class Step(NamedTuple):
    """Something that the guest checks."""

    number: int
    what: str


class GuestProgram:
    """Code that grows with every call; ``save`` and :func:`run_guest` end it with a power-off."""

    def __init__(self) -> None:
        self._code = bytearray()
        self._next = DATA
        self._vector = FIRST_VECTOR
        self.steps: list[Step] = []

    # -- memory and MMIO

    def room(self, size: int, align: int = 16) -> int:
        """The address of SIZE bytes of RAM, zeros, that nobody else has."""
        address = -(-self._next // align) * align
        self._next = address + size
        return address

    def store(self, address: int, value: int, size: int = 4) -> None:
        """Write 1, 2, 4 or 8 bytes; 8 as two halves, the lower first."""
        place = struct.pack("<I", address)
        if size == 8:
            self.store(address, value & 0xFFFF_FFFF)
            self.store(address + 4, value >> 32)
        elif size == 4:
            self._code += b"\xc7\x05" + place + struct.pack("<I", value)
        elif size == 2:
            self._code += b"\x66\xc7\x05" + place + struct.pack("<H", value)
        else:
            self._code += b"\xc6\x05" + place + struct.pack("<B", value)

    def store_bytes(self, address: int, data: bytes) -> None:
        """Write DATA byte by byte."""
        for offset, byte in enumerate(data):
            self.store(address + offset, byte, 1)

    def expect(self, address: int, value: int, size: int = 4, *, mask: int | None = None) -> None:
        """Read 1, 2 or 4 bytes; the machine ends with a failure where they are not VALUE, as far as MASK has ones."""
        self._step(f"at {address:#x}, {size} bytes: not {value:#x}")
        self._compare(address, value, size, mask)
        failure = self._port_out(DEBUG_EXIT, self.steps[-1].number, 1) + _HANG
        self._code += b"\x0f\x84" + struct.pack("<i", len(failure)) + failure  # je over it

    def expect_bytes(self, address: int, data: bytes) -> None:
        """As :meth:`expect`, for all of DATA; a step for every four bytes, and for those that are left."""
        for offset in range(0, len(data) & ~3, 4):
            self.expect(address + offset, int.from_bytes(data[offset : offset + 4], "little"))
        for offset in range(len(data) & ~3, len(data)):
            self.expect(address + offset, data[offset], 1)

    def wait_for(self, address: int, value: int, size: int = 4, *, mask: int | None = None) -> None:
        """Read 1, 2 or 4 bytes until they are VALUE, as far as MASK has ones."""
        start = len(self._code)
        self._compare(address, value, size, mask)
        self._code += b"\x0f\x85" + struct.pack("<i", start - len(self._code) - 6)  # jne back

    def _compare(self, address: int, value: int, size: int, mask: int | None) -> None:
        load = {1: b"\xa0", 2: b"\x66\xa1", 4: b"\xa1"}[size]
        self._code += b"\x31\xc0" + load + struct.pack("<I", address)  # xor eax, eax; mov al/ax/eax, [address]
        if mask is not None:
            self._code += b"\x25" + struct.pack("<I", mask)
        self._code += b"\x3d" + struct.pack("<I", value)

    def _step(self, what: str) -> None:
        number = FIRST_STEP + len(self.steps)
        if number > LAST_STEP:
            raise ValueError(f"a guest program checks {LAST_STEP} things at most; use several programs")
        self.steps.append(Step(number, what))

    # -- ports and PCI

    def out(self, port: int, value: int, size: int = 4) -> None:
        """Write a port."""
        self._code += self._port_out(port, value, size)

    @staticmethod
    def _port_out(port: int, value: int, size: int) -> bytes:
        instruction = {1: b"\xee", 2: b"\x66\xef", 4: b"\xef"}[size]
        return _MOV_EDX + struct.pack("<I", port) + _MOV_EAX + struct.pack("<I", value) + instruction

    def write_config(self, slot: int, offset: int, value: int, size: int = 4) -> None:
        """Write a register of function 0 of SLOT on PCI bus 0."""
        self.out(CONFIG_ADDRESS, 1 << 31 | slot << 11 | offset & ~3)
        self.out(CONFIG_DATA + (offset & 3), value, size)

    def place_bar(self, slot: int, bar: int = 0, *, wide: bool = False) -> int:
        """Put a memory BAR of at most 1 MiB at an address of its own, and switch memory and bus mastering on.

        :param wide: it has 64 bits
        :returns: the address
        """
        address = WINDOW + (slot << 24) + (bar << 20)
        self.write_config(slot, config.COMMAND, 0, 2)
        self.write_config(slot, config.BAR0 + 4 * bar, address)
        if wide:
            self.write_config(slot, config.BAR0 + 4 * bar + 4, 0)
        self.write_config(slot, config.COMMAND, config.COMMAND_MEMORY | config.COMMAND_MASTER, 2)
        return address

    def say(self, text: str) -> None:
        """Write TEXT to the first serial port."""
        for byte in text.encode():
            self.out(SERIAL, byte, 1)

    # -- interrupts

    def enable_msi(self, slot: int, capability: int = FIRST_CAPABILITY) -> int:
        """Switch the function's MSI on, with one vector; a call again takes another vector.

        :param capability: where in its configuration space MSI is; a ``PCIEndpoint`` with ``msi_vectors`` has it first
        :returns: the vector, for :meth:`wait_for_interrupt`
        """
        vector = self._vector
        self._vector += 1
        self.store(APIC + APIC_SVR, APIC_ENABLE | 0xFF)
        self.write_config(slot, capability + 4, APIC)
        self.write_config(slot, capability + 8, 0)
        self.write_config(slot, capability + 12, vector, 2)
        self.write_config(slot, capability + 2, ENABLE, 2)
        return vector

    def wait_for_interrupt(self, vector: int) -> None:
        """Until VECTOR is pending in the local APIC. Interrupts are off, so there it stays: one wait for each vector."""
        bit = 1 << vector % 32
        self.wait_for(APIC + APIC_IRR + 16 * (vector // 32), bit, mask=bit)

    # -- the end

    def elf(self) -> bytes:
        """The program as a kernel (Xen's x86 HVM direct boot ABI), with a power-off behind it."""
        code = bytes(self._code) + self._port_out(POWER_OFF, POWER_OFF_VALUE, 2) + _HANG
        note = struct.pack("<III4sI", 4, 4, PVH_ENTRY_NOTE, b"Xen\0", LOAD)
        note_at = 64 + 2 * 56
        code_at = note_at + len(note)
        head = struct.pack("<4sBBBB8xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, 2, 62, 1, LOAD, 64, 0, 0, 64, 56, 2, 0, 0, 0)
        load = struct.pack("<IIQQQQQQ", 1, 5, code_at, LOAD, LOAD, len(code), len(code), 0)
        notes = struct.pack("<IIQQQQQQ", 4, 4, note_at, 0, 0, len(note), len(note), 4)
        return head + load + notes + note + code

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the kernel to a file, for ``boot: {kernel: ...}``."""
        Path(path).write_bytes(self.elf())


def run_guest(
    machine: str | os.PathLike[str], program: GuestProgram, *, options: Sequence[str] = (), timeout: float = PATIENCE
) -> str:
    """Boot a definition with PROGRAM for its kernel, in a process of its own; what qdevpy printed.

    :param options: more of ``qdevpy boot``, such as ``--set=devices.dev0.limit=5``
    :raises AssertionError: a check of the guest's failed, or the machine did; says which
    :raises subprocess.TimeoutExpired: it did not end
    """
    with tempfile.TemporaryDirectory() as work:
        kernel = Path(work) / "guest.elf"
        program.save(kernel)
        command = [
            sys.executable,
            "-m",
            "qdevpy",
            "-v",
            "boot",
            os.fspath(machine),
            "--no-reboot",
            f"--kernel={kernel}",
            *options,
        ]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout
        )
    check_ending(program, done.returncode, done.stdout)
    return done.stdout


def check_ending(program: GuestProgram, status: int, output: str = "") -> None:
    """Tell from a machine's exit status whether all went well.

    :param output: for the message
    :raises AssertionError: a check of the guest's failed, or the machine did; says which
    """
    failed = next((step for step in program.steps if status == step.number << 1 | 1), None)
    if failed is not None:
        raise AssertionError(f"guest: check {failed.number} of {len(program.steps)}: {failed.what}\n{output}")
    if status != 0:
        raise AssertionError(f"the machine ended with status {status}\n{output}")


def kvm_is_there() -> bool:
    """Whether :func:`run_guest` can run here."""
    return os.access("/dev/kvm", os.R_OK | os.W_OK)
