# SPDX-License-Identifier: Apache-2.0
"""Types as QMP lists them, and help texts as QEMU prints them."""

import pytest

from qdevpy.errors import UnknownNameError
from qdevpy.monitor.command import Context, QmpError
from qdevpy.monitor.table import CommandTable
from qdevpy.plugin.manager import load_plugins
from qdevpy.qdev.help import device_help
from qdevpy.qdev.type_table import TypeTable
from qdevpy.testing.machine import FakeMachine


@pytest.fixture(scope="module")
def registry():
    return load_plugins()


@pytest.fixture(scope="module")
def table(registry):
    return TypeTable(registry)


@pytest.fixture
def execute(registry):
    commands = CommandTable(["qdevpy.monitor.commands.qom"])
    with FakeMachine() as machine:
        machine.registry = registry
        yield lambda name, **arguments: commands.execute(Context(machine), name, arguments)


@pytest.mark.parametrize(
    ("name", "chain"),
    [
        ("virtio-blk-pci", "virtio-blk-pci virtio-blk-pci-base virtio-pci pci-device device object"),
        ("virtio-net-pci-transitional", "virtio-net-pci-transitional virtio-net-pci-base virtio-pci pci-device device object"),
        ("virtio-blk-device", "virtio-blk-device virtio-device device object"),
        ("virtconsole", "virtconsole virtserialport virtio-serial-port device object"),
        ("isa-serial", "isa-serial isa-device device object"),
        ("serial", "serial device object"),
        ("i440FX-pcihost", "i440FX-pcihost pci-host-bridge sys-bus-device device object"),
        ("kvm-ioapic", "kvm-ioapic ioapic-common sys-bus-device device object"),
        ("virtio-pci-bus", "virtio-pci-bus virtio-bus bus object"),
        ("pc-i440fx-7.2-machine", "pc-i440fx-7.2-machine generic-pc-machine x86-machine machine object"),
        ("none-machine", "none-machine machine object"),
        ("chardev-file", "chardev-file chardev-fd chardev object"),
        ("iothread", "iothread event-loop-base object"),
    ],
)
def test_type_derives_from_what_it_derives_from_in_qemu(table, name, chain):
    assert list(table.chain(name)) == chain.split()


def test_every_type_leads_to_object_or_interface(table):
    assert {list(table.chain(name))[-1] for name in table.types} == {"object", "interface"}


def test_types_are_selected_by_what_they_implement(execute):
    found = execute("qom-list-types", implements="virtio-pci", abstract=True)
    assert {"name": "virtio-pci", "abstract": True, "parent": "pci-device"} in found
    assert {"name": "virtio-blk-pci", "parent": "virtio-blk-pci-base"} in found
    assert not any(each["name"].startswith("isa-") for each in found)


def test_types_are_selected_by_interface(execute):
    found = {each["name"] for each in execute("qom-list-types", implements="conventional-pci-device")}
    assert {"virtio-blk-pci", "PIIX3"} <= found
    assert "virtio-pci" not in found  # abstract
    assert not found & {"isa-serial", "virtio-blk-device"}


def test_listed_properties_of_a_device_are_those_of_its_help(execute, registry):
    listed = execute("device-list-properties", typename="virtio-blk-pci")
    names = {line.split("=")[0].strip() for line in device_help(registry, "virtio-blk-pci,help")[1:]}
    assert {each["name"] for each in listed} == names
    addr = next(each for each in listed if each["name"] == "addr")
    assert (addr["type"], addr["default-value"]) == ("int32", -1)
    assert not names & {"type", "parent_bus", "realized", "hotplugged", "hotpluggable", "legacy-addr"}


@pytest.mark.parametrize(
    ("command", "typename", "class_", "text"),
    [
        ("device-list-properties", "nothing", "DeviceNotFound", "Device 'nothing' not found"),
        ("device-list-properties", "device", "GenericError", "Parameter 'typename' expects a non-abstract device type"),
        ("device-list-properties", "container", "GenericError", "Parameter 'typename' expects a non-abstract device type"),
        ("qom-list-properties", "nothing", "DeviceNotFound", "Class 'nothing' not found"),
        ("qom-list-properties", "interface", "GenericError", "Parameter 'typename' expects a QOM type"),
    ],
)
def test_listing_of_no_such_type_is_qemus_error(execute, command, typename, class_, text):
    with pytest.raises(QmpError) as caught:
        execute(command, typename=typename)
    assert (str(caught.value), caught.value.class_) == (text, class_)


def test_every_type_can_be_asked_for_its_properties(execute, table):
    for info in table.select("object"):
        names = {each["name"] for each in execute("qom-list-properties", typename=info.name)}
        assert "type" in names
        assert ("realized" in names) >= table.implements(info.name, "device")
    for info in table.select("device", abstract=False):
        execute("device-list-properties", typename=info.name)


@pytest.mark.parametrize("text", ["virtio-blk,help", "virtio-blk-pci,?", "driver=virtio-blk-pci,id=x,help"])
def test_help_of_a_device_is_asked_for_in_qemus_ways(registry, text):
    assert device_help(registry, text)[0] == "virtio-blk-pci options:"


def test_options_without_help_print_nothing(registry):
    assert device_help(registry, "virtio-blk-pci,id=help1") == []


def test_help_of_no_such_device_is_an_error(registry):
    with pytest.raises(UnknownNameError, match="nothing"):
        device_help(registry, "nothing,help")


def test_list_of_devices_has_categories_buses_and_aliases(registry):
    lines = device_help(registry, "help")
    assert lines.index("Storage devices:") < lines.index('name "virtio-blk-pci", bus PCI, alias "virtio-blk"')
    assert 'name "virtconsole", bus virtio-serial-bus' in lines
    assert lines[lines.index("Network devices:") - 1] == ""


def test_alias_finds_the_type(registry):
    assert registry.device_type("virtio-net").name == "virtio-net-pci"
    assert "virtio-net" not in registry.device_types
