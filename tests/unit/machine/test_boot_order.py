# SPDX-License-Identifier: Apache-2.0
"""Boot order: CMOS registers for letters, and paths as SeaBIOS writes them."""

from typing import ClassVar

import pytest

from qdevpy.definition.model import BootDefinition, Position, Value
from qdevpy.pci.bridge import PCIBridgeDevice
from qdevpy.pci.device import PCIDevice
from qdevpy.qdev import property as prop
from qdevpy.testing.machine import FakeMachine
from qdevpy_machine.boot_order import bootorder, cmos_values, firmware_path, letters


class Disk(PCIDevice):
    type_name: ClassVar[str] = "disk"
    class_code: ClassVar[int] = 0x010000
    bootindex: int = prop.int32(-1, help="order")


class Nic(Disk):
    type_name: ClassVar[str] = "nic"
    class_code: ClassVar[int] = 0x020000


class Other(Disk):
    type_name: ClassVar[str] = "other"
    vendor_id: ClassVar[int] = 0x1AF4
    device_id: ClassVar[int] = 0x1003
    class_code: ClassVar[int] = 0x078000


@pytest.fixture
def machine():
    with FakeMachine() as machine:
        yield machine


def plug(machine, device, bus=None, **properties):
    for name, value in properties.items():
        device.set_property(name, value)
    machine.plug(device, bus or machine.pci)
    return device


@pytest.mark.parametrize(
    ("order", "check", "expected"),
    [
        ("cad", True, 0x1230),
        ("cad", False, 0x1231),
        ("c", True, 0x0200),
        ("nda", True, 0x3410),
        ("", True, 0),
        ("bcdn", True, 0x2130),
    ],
)
def test_letters_are_nibbles_in_cmos(order, check, expected):
    registers = cmos_values(order, floppy_check=check)
    assert registers[0x38] | registers[0x3D] << 8 == expected


def test_once_counts_until_the_first_reset():
    def value(text):
        return Value(text, Position("test"))

    boot = BootDefinition(order=value("c"), once=value("n"))
    assert [letters(boot, rebooted=again) for again in (False, True)] == ["n", "c"]
    assert letters(BootDefinition(), rebooted=False) == "cad"


def test_paths_are_those_of_seabios(machine):
    disk = plug(machine, Disk(), addr="4", multifunction="on")
    nic = plug(machine, Nic(), addr="4.2")
    other = plug(machine, Other(), addr="5")
    assert firmware_path(disk) == "/pci@i0cf8/scsi@4/disk@0,0"
    assert firmware_path(nic) == "/pci@i0cf8/ethernet@4,2/ethernet-phy@0"
    assert firmware_path(other) == "/pci@i0cf8/pci1af4,1003@5"


def test_path_behind_a_bridge_goes_through_it(machine):
    bridge = plug(machine, PCIBridgeDevice(), addr="6", chassis_nr=1)
    disk = plug(machine, Disk(), bridge.child_buses[0], addr="1")
    assert firmware_path(disk) == "/pci@i0cf8/pci-bridge@6/scsi@1/disk@0,0"


def test_bootorder_lists_devices_by_index_and_strict_stops_there(machine):
    plug(machine, Disk(), addr="4", bootindex=7)
    plug(machine, Nic(), addr="5", bootindex=1)
    plug(machine, Disk(), addr="6")
    expected = b"/pci@i0cf8/ethernet@5/ethernet-phy@0\n/pci@i0cf8/scsi@4/disk@0,0"
    assert bootorder(machine) == expected + b"\0"
    assert bootorder(machine, strict=True) == expected + b"\nHALT\0"
