# SPDX-License-Identifier: Apache-2.0
"""BARs: decoded where and while the registers say so."""

import pytest

from qdevpy.pci import config
from qdevpy.pci.bar import Bar

BOTH = config.COMMAND_IO | config.COMMAND_MEMORY


def test_bar_answers_only_while_the_command_register_decodes_it(rig):
    device = rig.plug()
    rig.place(device, 0, 0xC000)
    assert rig.space.read("pio", 0xC004, 4) == 0xFFFF_FFFF
    rig.command(device, config.COMMAND_IO)
    assert rig.space.read("pio", 0xC004, 4) == 0x104
    rig.command(device, config.COMMAND_MEMORY)
    assert rig.space.read("pio", 0xC004, 4) == 0xFFFF_FFFF


def test_bar_in_64_bit_space_answers_above_4_gib(rig):
    device = rig.plug()
    rig.command(device, BOTH)
    rig.place(device, 2, 0x12_3450_0000)
    assert rig.space.read("mmio", 0x12_3450_0010, 2) == 0x110
    rig.space.write("mmio", 0x12_3450_FFFE, 7, 2)
    assert (0xFFFE, 7, 2) in device.log


def test_bar_that_moves_answers_at_the_new_place_only(rig):
    device = rig.plug()
    rig.command(device, BOTH)
    rig.place(device, 0, 0xC000)
    rig.place(device, 0, 0xD000)
    assert rig.space.read("pio", 0xC004, 1) == 0xFF
    assert rig.space.read("pio", 0xD004, 1) == 0x04
    assert device.log[-1] == ("moved", {0: 0xD000, 1: None, 2: None})


def test_bar_being_sized_while_decoded_is_decoded_nowhere(rig):
    device = rig.plug()
    rig.command(device, BOTH)
    rig.place(device, 0, 0xC000)
    rig.write(device, config.BAR0, 0xFFFF_FFFF)
    assert device.bar_at(0).base is None
    rig.place(device, 0, 0xC000)
    assert device.bar_at(0).base == 0xC000


def test_bars_that_overlap_are_harmless_and_the_rest_comes_back(rig):
    first, second = rig.plug(), rig.plug()
    for device in (first, second):
        rig.command(device, BOTH)
        rig.place(device, 0, 0xC000)
    rig.space.write("pio", 0xC000, 1, 1)
    assert (0, 1, 1) in second.log
    rig.place(second, 0, 0xD000)
    rig.space.write("pio", 0xC000, 2, 1)
    assert (0, 2, 1) in first.log


def test_write_to_a_bar_register_that_changes_nothing_moves_nothing(rig):
    device = rig.plug()
    rig.command(device, BOTH)
    rig.place(device, 0, 0xC000)
    count = len(device.log)
    rig.place(device, 0, 0xC000)
    assert len(device.log) == count


def test_command_hook_has_old_and_new(rig):
    device = rig.plug()
    rig.command(device, config.COMMAND_MASTER)
    assert device.log == [("command", 0, config.COMMAND_MASTER)]
    assert device.bus_master


def test_bar_that_the_space_has_no_room_for_answers_nowhere_and_is_logged(rig, monkeypatch, caplog):
    device = rig.plug()

    def full(*args, **options):
        raise ValueError("cannot be mapped")

    monkeypatch.setattr(rig.space, "map", full)
    rig.place(device, 0, 0xC000)
    rig.command(device, BOTH)
    assert device.bar_at(0).base is None
    assert "BAR 0 at 0xc000: cannot be mapped" in caplog.text


def test_unplug_takes_bars_out(rig):
    device = rig.plug()
    rig.place(device, 0, 0xC000)
    rig.command(device, BOTH)
    rig.bus.unplug(device)
    assert rig.space.read("pio", 0xC004, 1) == 0xFF


@pytest.mark.parametrize(("kind", "size"), [("io", 24), ("io", 2), ("mem", 8)])
def test_bar_of_an_impossible_size_is_an_error_of_the_device(kind, size):
    with pytest.raises(AssertionError):
        Bar(0, kind, size, lambda space, bus, base: [])


def test_describe_prints_bars_as_qemu_does(rig):
    device = rig.plug(addr="4.0")
    rig.place(device, 0, 0xC000)
    rig.command(device, BOTH)
    assert device.describe() == [
        "class Ethernet controller, addr 00:04.0, pci id 1234:5678 (sub aaaa:bbbb)",
        "bar 0: i/o at 0xc000 [0xc01f]",
        "bar 1: mem at 0xffffffffffffffff [0xffe]",
        "bar 2: mem at 0xffffffffffffffff [0xfffe]",
    ]
