# SPDX-License-Identifier: Apache-2.0
"""A VM for guests of a few instructions, and their machine code."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable

from qdevpy.accel.base import BootState, StopReason
from qdevpy.accel.kvm.accelerator import KVMAccelerator
from qdevpy.native.memory import GuestMemory
from qdevpy.native.space import AddressSpace

CODE, RESULT, HANDLER, GDT, IDTR, IDT, AP_CODE = 0x1000, 0x3000, 0x4000, 0x5000, 0x6800, 0x7000, 0x8000
PAGES = 0x10000

REAL = BootState("real", rip=CODE)
PROTECTED = BootState("protected", rip=CODE, rsp=0x9000, gdt_base=GDT, gdt_limit=31)

HLT = b"\xf4"
HALT = HLT + b"\xeb\xfd"  # hlt; jmp back


def out_dx_al(port: int, value: int) -> bytes:
    """mov dx, PORT; mov al, VALUE; out dx, al"""
    return b"\xba" + struct.pack("<H", port) + b"\xb0" + bytes([value]) + b"\xee"


def out_dx_ax(port: int, value: int) -> bytes:
    """mov dx, PORT; mov ax, VALUE; out dx, ax (real mode)"""
    return b"\xba" + struct.pack("<H", port) + b"\xb8" + struct.pack("<H", value) + b"\xef"


def store32(address: int, value: int) -> bytes:
    """mov dword [ADDRESS], VALUE (32-bit)"""
    return b"\xc7\x05" + struct.pack("<II", address, value)


def store8_real(address: int, value: int) -> bytes:
    """mov byte [ADDRESS], VALUE (16-bit)"""
    return b"\xc6\x06" + struct.pack("<HB", address, value)


#: with protected mode's segments: enable the local APIC; INIT and SIPI for the second vCPU, which starts at AP_CODE
START_SECOND = b"".join(
    store32(0xFEE00000 + register, value)
    for register, value in ((0xF0, 0x1FF), (0x310, 1 << 24), (0x300, 0x4500), (0x300, 0x4600 | AP_CODE >> 12))
)


class Guest:
    """A VM with a MiB of RAM and as many vCPUs as a test wants."""

    def __init__(self, cpus: int = 1) -> None:
        self.memory = GuestMemory()
        self.memory.add_ram(0, 1 << 20)
        self.space = AddressSpace()
        self.accel = KVMAccelerator()
        self.accel.open(self.memory, self.space)
        self.accel.create_vcpus(cpus)
        self.stops: list[StopReason] = []
        self.accel.on_stop = self.stops.append
        gdt = [0, 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF]  # flat code at 10h, data at 18h
        self.memory.write(GDT, struct.pack("<4Q", *gdt))

    def run(self, code: bytes, state: BootState) -> None:
        self.memory.write(CODE, code)
        self.accel.reset_vcpus()
        self.accel.set_boot_state(state)
        self.accel.resume()

    def result(self, offset: int = 0, size: int = 4) -> int:
        return int.from_bytes(self.memory.read(RESULT + offset, size), "little")

    def wait(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "the guest did not get there"
            assert not self.stops, f"the guest stopped: {self.stops}"
            os.sched_yield()

    def close(self) -> None:
        self.accel.close()
        self.space.close()
        self.memory.close()


class Recorder:
    """A region that answers reads with 0x5A in each byte and keeps what is written."""

    def __init__(self) -> None:
        self.writes: list[tuple[int, int, int]] = []
        self.reads: list[tuple[int, int]] = []

    def read(self, offset: int, size: int) -> int:
        self.reads.append((offset, size))
        return 0x5A5A5A5A

    def write(self, offset: int, value: int, size: int) -> None:
        self.writes.append((offset, value, size))
