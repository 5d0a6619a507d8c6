# SPDX-License-Identifier: Apache-2.0
"""An ISA bus without the rest of the machine, and files that look like kernels."""

import struct

import pytest

from qdevpy.definition.model import BootDefinition, MachineDefinition, Position, Value
from qdevpy.native.memory import GuestMemory
from qdevpy.native.space import AddressSpace
from qdevpy.vm.clock import SECOND, SteppedClock
from qdevpy.vm.events import Events
from qdevpy_machine import layout
from qdevpy_machine.isa import ISABus

MIB = layout.MIB


class ISAMachine:
    """What ISA devices need of a machine."""

    def __init__(self):
        self.space = AddressSpace()
        self.clock = SteppedClock()
        self.definition = MachineDefinition(rtc={"clock": Value("vm", Position("test"))})
        self.events = Events()
        self.requests = []
        self.lines = {}
        self.bus = ISABus("isa.0", None, self.lines.__setitem__)

    def request_reset(self, reason):
        self.requests.append(("reset", reason))

    def request_shutdown(self, reason, status=0):
        self.requests.append(("shutdown", reason, status))

    def step(self, seconds):
        self.clock.advance_to(self.clock.now_ns() + round(seconds * SECOND))

    def plug(self, device):
        device.machine = self
        self.bus.plug(device)
        device.reset()
        return device

    def inb(self, port):
        return self.space.read("pio", port, 1)

    def outb(self, port, value):
        self.space.write("pio", port, value, 1)


@pytest.fixture
def isa():
    machine = ISAMachine()
    yield machine
    for device in list(machine.bus.children):
        machine.bus.unplug(device)
    assert machine.space.mappings == set()
    assert machine.clock.deadline() is None
    machine.space.close()


@pytest.fixture
def memory():
    """64 MiB of RAM at 0."""
    ram = GuestMemory()
    ram.add_ram(0, 64 * MIB)
    yield ram
    ram.close()


@pytest.fixture
def boot_of(tmp_path):
    """Makes the ``boot:`` section from the bytes of a kernel and an initrd."""

    def value(text):
        return Value(str(text), Position("test.yaml", 1, 1))

    def make(kernel, initrd=None, cmdline=None):
        (tmp_path / "kernel").write_bytes(kernel)
        if initrd is not None:
            (tmp_path / "initrd").write_bytes(initrd)
        return BootDefinition(
            kernel=value(tmp_path / "kernel"),
            initrd=None if initrd is None else value(tmp_path / "initrd"),
            cmdline=None if cmdline is None else value(cmdline),
        )

    return make


@pytest.fixture
def bzimage():
    """Makes a bzImage whose kernel is PAYLOAD."""

    def make(payload=b"K" * 2048, *, version=0x020F, xloadflags=1, init_size=0x100000, cmdline_size=255, loadflags=1, **patches):
        head = bytearray(1024)
        head[0x1F1] = 1
        struct.pack_into("<H", head, 0x1FE, 0xAA55)
        head[0x200:0x202] = b"\xeb\x66"
        struct.pack_into("<4sH", head, 0x202, b"HdrS", version)
        head[0x211] = loadflags
        struct.pack_into("<I", head, 0x22C, 0x7FFFFFFF)
        struct.pack_into("<IBBHI", head, 0x230, 0x200000, 1, 21, xloadflags, cmdline_size)
        struct.pack_into("<QI", head, 0x258, 0x1000000, init_size)
        for offset, data in patches.items():
            position = int(offset.removeprefix("at_"), 16)
            head[position : position + len(data)] = data
        return bytes(head) + payload

    return make


@pytest.fixture
def elf():
    """Makes a 64-bit ELF executable with one segment of PAYLOAD, and the PVH note where ``pvh`` is an address."""

    def make(
        payload=b"\xf4" * 64, *, entry=0x200000, address=0x200000, virtual=None, memory_size=None, pvh=None, machine=62, **wrong
    ):
        note = b"" if pvh is None else struct.pack("<III4sI", 4, 4, 18, b"Xen\0", pvh)
        count = 1 if pvh is None else 2
        data_at = 64 + 56 * count
        note_at = data_at + len(payload)
        size = wrong.get("file_size", len(payload))
        headers = struct.pack(
            "<IIQQQQQQ", 1, 7, data_at, address if virtual is None else virtual, address, size, memory_size or len(payload), 4096
        )
        if pvh is not None:
            headers += struct.pack("<IIQQQQQQ", 4, 4, note_at, 0, 0, wrong.get("note_size", len(note)), len(note), 4)
        identity = b"\x7fELF" + bytes([wrong.get("elf_class", 2), 1, 1]) + bytes(9)
        head = identity + struct.pack(
            "<HHIQQQIHHHHHH", 2, machine, 1, entry, 64, 0, 0, 64, wrong.get("entry_size", 56), wrong.get("count", count), 0, 0, 0
        )
        return head + headers + payload + note

    return make
