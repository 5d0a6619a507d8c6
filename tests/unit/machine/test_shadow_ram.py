# SPDX-License-Identifier: Apache-2.0
"""Shadow RAM: what CPUs find below 1 MiB, through overlays as an accelerator sees them."""

import itertools

import pytest

from qdevpy.accel.none import NoneAccelerator
from qdevpy.definition.model import BootDefinition, MachineDefinition, Position, Value
from qdevpy.errors import BootError
from qdevpy.native.memory import GuestMemory
from qdevpy.native.overlay import Overlay
from qdevpy.vm.machine import Machine
from qdevpy_machine.board import PC
from qdevpy_machine.shadow import SEGMENTS

MIB = 1 << 20
RAM, ROM, NOBODY = "ram", "rom", None


def value(text):
    return Value(str(text), Position("test.yaml", 1, 1))


def make_machine(image):
    definition = MachineDefinition(boot=BootDefinition(firmware=value(image)))
    machine = Machine(PC(), NoneAccelerator(), memory_size=16 * MIB, cpus=1, definition=definition)
    try:
        machine.open()
        machine.board.build(machine)
        machine.reset()
    except BaseException:
        machine.close()
        raise
    return machine


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "bios.bin"
    path.write_bytes(bytes(n >> 12 & 0xFF | 1 for n in range(0x4_0000)))
    return path


@pytest.fixture
def machine(image):
    with make_machine(image) as machine:
        yield machine


def cpu_read(machine, address, n):
    """As a CPU does: memory, else the address space."""
    found = b""
    for start, data, _, size in machine.memory.cpu_pieces(address, n):
        if data is not None:
            found += bytes(data)
        else:
            found += bytes(machine.space.read("mmio", start + i, 1) for i in range(size))
    return found


def cpu_write(machine, address, content):
    for start, data, writable, size in machine.memory.cpu_pieces(address, len(content)):
        part = content[start - address : start - address + size]
        if data is not None and writable:
            data[:] = part
        else:
            for i, byte in enumerate(part):
                machine.space.write("mmio", start + i, byte, 1)


def set_pam(machine, segment, mode):
    register, shift = 0x59 + (segment + 1) // 2, (segment + 1) % 2 * 4
    machine.space.write("pio", 0xCF8, 1 << 31 | register & 0xFC, 4)
    port = 0xCFC + (register & 3)
    before = machine.space.read("pio", port, 1)
    machine.space.write("pio", port, before & ~(3 << shift) | mode << shift, 1)


def test_firmware_ends_at_4_gib_and_its_last_128_kib_at_1_mib(machine, image):
    content = image.read_bytes()
    assert cpu_read(machine, (4 << 30) - len(content), len(content)) == content
    assert cpu_read(machine, 0xE_0000, 0x2_0000) == content[-0x2_0000:]


def test_rom_cannot_be_written(machine, image):
    cpu_write(machine, 0xF_FFF0, b"\x00" * 4)
    assert cpu_read(machine, 0xF_0000, 0x1_0000) == image.read_bytes()[-0x1_0000:]


def test_nobody_is_between_vga_and_the_firmware(machine):
    assert cpu_read(machine, 0xA_0000, 4) == cpu_read(machine, 0xC_0000, 4) == cpu_read(machine, 0xD_FFFC, 4) == b"\xff" * 4


@pytest.mark.parametrize("segment", range(len(SEGMENTS)))
def test_segment_reads_and_writes_where_its_bits_say(machine, segment):
    start, size = SEGMENTS[segment]
    rom = cpu_read(machine, start, 4)

    set_pam(machine, segment, 3)
    cpu_write(machine, start, b"ABCD")
    assert cpu_read(machine, start, 4) == b"ABCD"
    set_pam(machine, segment, 1)
    cpu_write(machine, start, b"lost")
    assert cpu_read(machine, start, 4) == b"ABCD"
    set_pam(machine, segment, 2)
    cpu_write(machine, start + size - 4, b"EFGH")
    assert cpu_read(machine, start, 4) == rom
    set_pam(machine, segment, 1)
    assert cpu_read(machine, start + size - 4, 4) == b"EFGH"
    set_pam(machine, segment, 0)
    assert cpu_read(machine, start, 4) == rom


def test_devices_see_ram_whatever_cpus_see(machine):
    machine.memory.write(0xF_0000, b"DMA!")
    assert machine.memory.read(0xF_0000, 4) == b"DMA!"
    assert cpu_read(machine, 0xF_0000, 4) != b"DMA!"


def test_reset_shows_the_firmware_again(machine, image):
    set_pam(machine, 0, 3)
    machine.reset()
    assert cpu_read(machine, 0xF_0000, 16) == image.read_bytes()[-0x1_0000:][:16]


def test_slots_never_overlap_and_cover_what_is_memory(machine):
    slots = machine.memory.slots()
    for (gpa, size, _, _), (following, *_) in itertools.pairwise(slots):
        assert gpa + size <= following
    assert all(gpa % 4096 == size % 4096 == hva % 4096 == 0 for gpa, size, hva, _ in slots)


def test_smram_register_stays_once_locked(machine):
    def access(write=None):
        machine.space.write("pio", 0xCF8, 1 << 31 | 0x70, 4)
        if write is not None:
            machine.space.write("pio", 0xCFE, write, 1)
        return machine.space.read("pio", 0xCFE, 1)

    assert access() == 0x02
    assert access(0x4A) == 0x4A
    assert access(0x1A) == 0x1A
    assert access(0x42) == 0x1A
    machine.reset()
    assert access(0x42) == 0x42


@pytest.mark.parametrize("size", [0, 4096, 65537])
def test_image_of_odd_size_is_refused(tmp_path, size):
    (tmp_path / "x").write_bytes(bytes(size))
    with pytest.raises(BootError, match="expected a multiple of 64 KiB"):
        make_machine(tmp_path / "x")


def test_image_that_is_not_there_says_where_it_was_looked_for():
    with pytest.raises(BootError, match=r"firmware 'no-such-bios.bin' not found; looked in /usr"):
        make_machine("no-such-bios.bin")


def test_later_overlay_wins_and_gives_back_what_it_hid():
    memory = GuestMemory()
    memory.add_ram(0, 16 * 4096)
    calls = []
    memory.on_overlays_changed = lambda: calls.append(memory.slots())
    pages = memory.add_pages(b"A" * 4096)
    below = Overlay(4096, 8192, 0)
    above = Overlay(8192, 4096, pages.hva, pages.data)
    memory.change_overlays(add=[below, above])
    assert [(gpa, size, writable) for gpa, size, _, writable in calls[0]] == [
        (0, 4096, True),
        (8192, 4096, False),
        (12288, 13 * 4096, True),
    ]
    memory.change_overlays(remove=[above])
    assert [gpa for gpa, *_ in calls[1]] == [0, 12288]
    memory.change_overlays(remove=[below])
    assert [slot[:2] for slot in calls[2]] == [(0, 16 * 4096)]
    memory.close()
