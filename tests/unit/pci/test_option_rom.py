# SPDX-License-Identifier: Apache-2.0
"""The expansion ROM BAR: sized, moved, switched; what CPUs see there; ids that are put into the ROM."""

import struct
from typing import ClassVar

import pytest

from qdevpy.errors import RealizeError
from qdevpy.pci import config
from qdevpy.pci.device import PCIDevice
from qdevpy.testing.machine import FakeMachine

BASE = 0xFEB8_0000


class Card(PCIDevice):
    type_name: ClassVar[str] = "card"
    vendor_id: ClassVar[int] = 0x1AF4
    device_id: ClassVar[int] = 0x1000
    default_romfile: ClassVar[str | None] = "default.rom"


def make_rom(size=3000, device=0x1041):
    rom = bytearray(size)
    rom[:2] = b"\x55\xaa"
    struct.pack_into("<H", rom, 0x18, 0x1C)
    struct.pack_into("<4sHH", rom, 0x1C, b"PCIR", 0x1AF4, device)
    rom[6] = -sum(rom) & 0xFF
    return bytes(rom)


@pytest.fixture
def machine():
    with FakeMachine() as machine:
        yield machine


@pytest.fixture
def rom_file(tmp_path):
    path = tmp_path / "default.rom"
    path.write_bytes(make_rom())
    return path


def plug(machine, **properties):
    card = Card()
    for name, value in properties.items():
        card.set_property(name, value)
    machine.plug(card, machine.pci)
    return card


def read(machine, address, n):
    ((_, data, writable, _),) = list(machine.memory.cpu_pieces(address, n))
    return None if data is None else (bytes(data), writable)


def enable(card, base=BASE):
    card.config_write(0x30, base | 1, 4)
    card.config_write(config.COMMAND, config.COMMAND_MEMORY, 2)


def test_rom_bar_tells_its_size_and_shows_the_file(machine, rom_file):
    card = plug(machine, romfile=str(rom_file))
    card.config_write(0x30, 0xFFFF_FFFE, 4)
    assert card.config_read(0x30, 4) == 0xFFFF_F000
    enable(card)
    assert read(machine, BASE, 3000) == (rom_file.read_bytes(), False)
    assert any(line.startswith(f"bar 6: mem at {BASE:#x} [0x") for line in card.describe())


@pytest.mark.parametrize("how", ["register", "command", "reset", "unplug"])
def test_rom_is_gone_when_it_is_not_decoded(machine, rom_file, how):
    card = plug(machine, romfile=str(rom_file))
    enable(card)
    if how == "register":
        card.config_write(0x30, BASE, 4)
    elif how == "command":
        card.config_write(config.COMMAND, 0, 2)
    elif how == "reset":
        card.reset()
        assert card.config_read(0x30, 4) == 0
    else:
        machine.pci.unplug(card)
    assert read(machine, BASE, 4) is None


def test_rom_moves_with_its_register(machine, rom_file):
    card = plug(machine, romfile=str(rom_file))
    enable(card)
    enable(card, BASE + 0x1_0000)
    assert read(machine, BASE, 4) is None
    assert read(machine, BASE + 0x1_0000, 2) == (b"\x55\xaa", False)


def test_romsize_makes_the_bar_larger(machine, rom_file):
    card = plug(machine, romfile=str(rom_file), romsize=65536)
    card.config_write(0x30, 0xFFFF_FFFE, 4)
    assert card.config_read(0x30, 4) == 0xFFFF_0000


@pytest.mark.parametrize("size", [1024, 5000])
def test_romsize_that_does_not_do_is_refused(machine, rom_file, size):
    with pytest.raises(RealizeError, match="expected a power of two, at least 4096"):
        plug(machine, romfile=str(rom_file), romsize=size)


def test_rom_without_bar_is_left_to_firmware(machine, rom_file):
    card = plug(machine, romfile=str(rom_file), rombar=0)
    assert card.rom is None
    assert card.rom_path == str(rom_file)


def test_rom_that_is_not_there_is_an_error(machine):
    with pytest.raises(RealizeError, match=r"romfile: 'none\.rom' not found"):
        plug(machine, romfile="none.rom")


def test_empty_rom_is_an_error(machine, tmp_path):
    (tmp_path / "empty").touch()
    with pytest.raises(RealizeError, match="0 bytes"):
        plug(machine, romfile=str(tmp_path / "empty"))


def test_default_rom_is_for_machines_with_firmware(machine, rom_file, monkeypatch):
    assert plug(machine).rom is None
    monkeypatch.setattr(type(machine.board), "runs_firmware", True)
    assert plug(machine).rom is None  # it is not installed
    monkeypatch.setattr(type(machine.board), "data_folders", (str(rom_file.parent),))
    assert plug(machine).rom is not None
    assert plug(machine, romfile="").rom is None


def test_default_rom_gets_the_functions_ids_and_still_sums_up(machine, rom_file, monkeypatch):
    monkeypatch.setattr(type(machine.board), "runs_firmware", True)
    monkeypatch.setattr(type(machine.board), "data_folders", (str(rom_file.parent),))
    enable(plug(machine))
    shown, _ = read(machine, BASE, 3000)
    assert struct.unpack_from("<4sHH", shown, 0x1C) == (b"PCIR", 0x1AF4, 0x1000)
    assert sum(shown) & 0xFF == 0


def test_users_rom_is_shown_as_it_is(machine, rom_file):
    enable(plug(machine, romfile=str(rom_file)))
    assert read(machine, BASE, 3000)[0] == rom_file.read_bytes()


@pytest.mark.parametrize("content", [b"\x55\xaa", b"no rom" * 100, b"\x55\xaa" + bytes(22) + b"\xff\xff" + bytes(100)])
def test_default_rom_that_is_none_is_left_alone(machine, rom_file, monkeypatch, content):
    rom_file.write_bytes(content)
    monkeypatch.setattr(type(machine.board), "runs_firmware", True)
    monkeypatch.setattr(type(machine.board), "data_folders", (str(rom_file.parent),))
    enable(plug(machine))
    assert read(machine, BASE, len(content))[0] == content
