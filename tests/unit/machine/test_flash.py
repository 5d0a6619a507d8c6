# SPDX-License-Identifier: Apache-2.0
"""Flash: memory while it is read, commands when it is written, and a file behind it."""

import pytest

from qdevpy.accel.none import NoneAccelerator
from qdevpy.backend.drive import Drive
from qdevpy.definition.model import MachineDefinition
from qdevpy.errors import RealizeError
from qdevpy.vm.machine import Machine
from qdevpy_machine.board import PC

SIZE = 0x1_0000
BASE = (4 << 30) - SIZE
READY, ERASE_ERROR, PROGRAM_ERROR = 0x80, 0x20, 0x10


@pytest.fixture
def make(tmp_path):
    machines = []

    def build(size=SIZE, **options):
        path = tmp_path / f"flash{len(machines)}.img"
        path.write_bytes(bytes(n & 0xFF for n in range(size)))
        board = PC()
        board.pflash0 = "code"
        machine = Machine(board, NoneAccelerator(), memory_size=16 << 20, cpus=1, definition=MachineDefinition())
        machines.append(machine)
        drive = Drive(id="code")
        drive.set_property("file", str(path))
        for name, value in options.items():
            drive.set_property(name, value)
        machine.open()
        machine.add_backend(drive)
        board.build(machine)
        machine.reset()
        machine.path = path
        return machine

    yield build
    for machine in machines:
        machine.close()


def read(machine, offset, n=1):
    found = b""
    for start, data, _, size in machine.memory.cpu_pieces(BASE + offset, n):
        found += bytes(data) if data is not None else bytes(machine.space.read("mmio", start + i, 1) for i in range(size))
    return found


def write(machine, offset, *values):
    for value in values:
        machine.space.write("mmio", BASE + offset, value, 1)


def test_flash_is_memory_at_the_end_and_below_1_mib(make):
    machine = make()
    content = machine.path.read_bytes()
    assert read(machine, 0, SIZE) == content
    ((_, low, writable, _),) = machine.memory.cpu_pieces(0xF_0000, 16)
    assert (bytes(low), writable) == (content[:16], False)
    assert machine.board.runs_firmware


def test_flash_byte_is_programmed_into_the_file(make):
    machine = make()
    write(machine, 0x123, 0x10, 0x5A)
    assert read(machine, 0)[0] == READY
    write(machine, 0, 0xFF)
    assert read(machine, 0x123) == b"\x5a"
    assert machine.path.read_bytes()[0x123] == 0x5A


def test_flash_sector_is_erased(make):
    machine = make()
    write(machine, 0x1234, 0x20, 0xD0)
    assert read(machine, 0)[0] == READY
    write(machine, 0, 0xFF)
    assert read(machine, 0x1000, 0x1000) == b"\xff" * 0x1000
    assert read(machine, 0x2000, 2) == b"\x00\x01"


def test_flash_erase_without_confirmation_is_an_error(make):
    machine = make()
    write(machine, 0, 0x20, 0x00)
    assert read(machine, 0)[0] == READY | ERASE_ERROR | PROGRAM_ERROR
    write(machine, 0, 0x50, 0x70)
    assert read(machine, 0)[0] == READY


def test_flash_buffer_is_programmed_at_once(make):
    machine = make()
    write(machine, 0x40, 0xE8)
    assert read(machine, 0)[0] == READY
    write(machine, 0x40, 3)
    for i, value in enumerate(b"four"):
        write(machine, 0x40 + i, value)
    write(machine, 0x40, 0xD0, 0xFF)
    assert read(machine, 0x40, 5) == b"four\x44"


def test_flash_buffer_without_confirmation_changes_nothing(make):
    machine = make()
    write(machine, 0x40, 0xE8, 0, 0x77, 0x00)
    assert read(machine, 0)[0] & PROGRAM_ERROR
    write(machine, 0, 0xFF)
    assert read(machine, 0x40) == b"\x40"


def test_flash_says_what_it_is(make):
    machine = make()
    write(machine, 0, 0x98)
    assert read(machine, 0x10, 3) == b"QRY"
    assert 1 << read(machine, 0x27)[0] == SIZE
    write(machine, 0, 0x90)
    assert read(machine, 0, 2) == b"\x89\x18"


def test_flash_that_is_read_only_says_so(make):
    machine = make(readonly="on")
    write(machine, 0, 0x40, 0x5A)
    assert read(machine, 0)[0] & PROGRAM_ERROR
    write(machine, 0, 0xFF)
    assert read(machine, 0) == b"\x00"


def test_flash_is_memory_again_after_reset(make):
    machine = make()
    write(machine, 0, 0x98)
    machine.reset()
    assert read(machine, 0x10) == b"\x10"


@pytest.mark.parametrize("size", [1000, (8 << 20) + 4096])
def test_flash_of_odd_size_is_refused(make, size):
    with pytest.raises(RealizeError, match=r"expected whole pages of 4096, at most 8 MiB"):
        make(size)
