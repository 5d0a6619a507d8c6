# SPDX-License-Identifier: Apache-2.0
"""Machine options are a board's properties; and the machine ``none``."""

import pytest

from qdevpy.definition.model import MachineDefinition, Position, Value
from qdevpy.errors import LocatedError, PropertyError
from qdevpy.plugin.discovery import EntryPoint
from qdevpy.plugin.manager import load_plugins
from qdevpy.vm.build import build_machine
from qdevpy_machine.board import PC
from qdevpy_machine.none import NoBoard

REGISTRY = [EntryPoint("pc", "qdevpy_machine.plugin", "qdevpy")]


def build(**definition):
    return build_machine(MachineDefinition(**definition), load_plugins(REGISTRY), accel="none")


def test_machine_none_has_no_memory_no_bus_and_no_cpu():
    with build(machine="none") as machine:
        machine.reset()
        assert isinstance(machine.board, NoBoard)
        assert (machine.memory_size, machine.memory.size, machine.cpus) == (0, 0, 0)
        assert list(machine.devices()) == []


def test_machine_none_with_memory_has_it():
    with build(machine="none", memory=1 << 20) as machine:
        assert machine.memory.size == 1 << 20


def test_unknown_machine_option_says_where_and_what_there_is():
    where = Position("m.yaml", 3, 5)
    with pytest.raises(LocatedError, match=r"m.yaml:3:5: error: none: machine option 'hpett' not found; it has: none"):
        build(machine="none", machine_options={"hpett": Value("on", where)})


def test_board_finds_its_options_by_name():
    assert PC().options() is PC.options()
    with pytest.raises(PropertyError, match="machine option 'nonsense' not found"):
        PC().find_property("nonsense")


@pytest.mark.parametrize("setting", [("usb", "on"), ("hpet", "on"), ("smm", "on"), ("pit", "off"), ("vmport", "on")])
def test_option_with_one_setting_refuses_others_and_says_why(setting):
    with pytest.raises(PropertyError, match=r"expected .*: (there is no|the 8254)"):
        PC().set_property(*setting)


@pytest.mark.parametrize(("name", "given", "kept"), [("usb", "no", "off"), ("hpet", False, "off"), ("smm", "off", "auto")])
def test_option_with_one_setting_takes_it_in_any_spelling(name, given, kept):
    board = PC()
    board.set_property(name, given)
    assert board.get_property(name) == kept


def test_i8042_off_leaves_the_keyboard_controller_out():
    where = Position("m.yaml", 1, 1)
    with build(machine="pc", memory=16 << 20, machine_options={"i8042": Value("off", where)}) as machine:
        assert "i8042" not in {device.type_name for device in machine.devices()}
