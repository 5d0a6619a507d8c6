# SPDX-License-Identifier: Apache-2.0
"""The composition tree of a pc: paths, properties, and what QMP says of them."""

import pytest

from qdevpy.definition.load import load_definition
from qdevpy.errors import PathError, PropertyError, RealizeError
from qdevpy.monitor.command import Context, QmpError
from qdevpy.monitor.table import CommandTable
from qdevpy.plugin.manager import load_plugins
from qdevpy.qdev import qom
from qdevpy.qdev.qom_text import format_qom_tree
from qdevpy.vm.build import build_machine

TEXT = """
machine: pc
accel: none
memory: 64M
cpus: 2
drives: {root: {scratch: 1M}}
chardevs: {term: {type: 'null'}}
objects: {io0: {type: iothread}}
devices:
  - virtio-serial-pci: {id: vser0}
  - virtconsole: {bus: vser0.0, chardev: term}
  - virtio-blk-pci: {id: disk0, drive: root, iothread: io0, serial: abc, addr: 5}
  - isa-debug-exit: {iobase: 0x501}
"""


@pytest.fixture
def machine():
    registry = load_plugins()
    with build_machine(load_definition("m.yaml", registry, text=TEXT), registry) as machine:
        yield machine


@pytest.fixture
def execute(machine):
    table = CommandTable(["qdevpy.monitor.commands.qom"])
    return lambda name, **arguments: table.execute(Context(machine), name, arguments)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "container"),
        ("/machine", "pc-i440fx-7.2-machine"),
        ("/machine/peripheral/disk0", "virtio-blk-pci"),
        ("/machine/peripheral/disk0/virtio-backend", "virtio-blk-device"),
        ("/machine/peripheral/disk0/virtio-bus", "virtio-pci-bus"),
        ("/machine/peripheral/disk0/virtio-bus/child[0]", "virtio-blk-device"),
        ("/machine/peripheral/vser0/virtio-backend/vser0.0", "virtio-serial-bus"),
        ("/machine/peripheral-anon/device[0]", "virtconsole"),
        ("/machine/peripheral-anon/device[1]", "isa-debug-exit"),
        ("/machine/unattached/device[0]", "host-x86_64-cpu"),
        ("/machine/unattached/device[1]", "host-x86_64-cpu"),
        ("/machine/unattached/device[2]", "i440FX"),
        ("/machine/unattached/device[3]/isa.0", "ISA"),
        ("/machine/unattached/sysbus", "System"),
        ("/machine/i440fx/pci.0", "PCI"),
        ("/machine/i440fx/ioapic", "ioapic"),
        ("/objects/io0", "iothread"),
        ("/objects/pc.ram", "memory-backend-ram"),
        ("/chardevs/term", "chardev-null"),
        ("ioapic", "ioapic"),
        ("disk0", "virtio-blk-pci"),
        ("vser0.0", "virtio-serial-bus"),
        ("disk0/virtio-backend", "virtio-blk-device"),
        ("//machine//i440fx", "i440FX-pcihost"),
    ],
)
def test_path_leads_to_the_object_that_qemu_has_there(machine, path, kind):
    assert qom.type_of(qom.resolve(machine, path)) == kind


def test_every_object_of_the_tree_is_found_again_by_its_path(machine):
    tree = qom.Tree(machine)
    for obj in tree.walk():
        assert tree.resolve(qom.path_of(obj)) == obj


@pytest.mark.parametrize("path", ["/machine/nothing", "nothing", "", "/machine/peripheral/disk0/nothing"])
def test_path_to_nothing_is_not_found(machine, path):
    with pytest.raises(PathError, match=f"Device '{path}' not found") as caught:
        qom.resolve(machine, path)
    assert not caught.value.ambiguous


def test_partial_path_to_several_objects_is_ambiguous(machine):
    with pytest.raises(PathError, match="ambiguous") as caught:
        qom.resolve(machine, "device[0]")
    assert caught.value.ambiguous


def test_every_property_of_the_tree_can_be_read(machine):
    tree = qom.Tree(machine)
    for obj in tree.walk():
        for name, found in tree.properties(obj).items():
            assert found.read is not None, name
            found.read()


def test_unplugged_device_is_no_longer_in_the_tree(machine):
    disk = machine.find_device("disk0")
    assert disk.qom_path == "/machine/peripheral/disk0"
    disk.parent_bus.unplug(disk)
    assert disk.qom_path == ""
    with pytest.raises(PathError):
        qom.resolve(machine, "disk0")


def test_number_of_an_unplugged_device_is_free_again(machine):
    console = qom.resolve(machine, "/machine/peripheral-anon/device[0]")
    bus = console.parent_bus
    bus.unplug(console)
    other = machine.registry.device_type("virtconsole").create()
    machine.plug(other, bus)
    assert other.qom_path == "/machine/peripheral-anon/device[0]"


def test_device_with_an_id_that_is_taken_is_refused(machine):
    other = machine.registry.device_type("isa-debug-exit").create()
    other.id = "disk0"
    with pytest.raises(RealizeError, match="Duplicate device ID 'disk0'"):
        machine.plug(other)
    assert qom.type_of(qom.resolve(machine, "disk0")) == "virtio-blk-pci"


def test_device_that_fails_to_realize_has_no_place(machine):
    other = machine.registry.device_type("isa-debug-exit").create()
    other.id = "exit2"
    with pytest.raises(RealizeError, match="ports"):
        machine.plug(other)
    with pytest.raises(PathError):
        qom.resolve(machine, "exit2")
    assert other.qom_path == ""


# -- QMP


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("type", "virtio-blk-pci"),
        ("parent_bus", "/machine/i440fx/pci.0"),
        ("realized", True),
        ("hotplugged", False),
        ("addr", 40),
        ("legacy-addr", "05.0"),
        ("drive", "root"),
        ("serial", "abc"),
        ("share-rw", False),
        ("write-cache", "auto"),
        ("iothread", "/objects/io0"),
        ("virtio-backend", "/machine/peripheral/disk0/virtio-backend"),
        ("virtio-bus", "/machine/peripheral/disk0/virtio-bus"),
    ],
)
def test_qom_get_answers_as_qemu(execute, name, value):
    assert execute("qom-get", path="disk0", property=name) == value


def test_qom_list_has_properties_with_qemus_types(execute):
    found = {each["name"]: each["type"] for each in execute("qom-list", path="disk0")}
    assert found["type"] == "string"
    assert found["parent_bus"] == "link<bus>"
    assert found["addr"] == "int32"
    assert found["virtio-backend"] == "child<virtio-blk-device>"
    assert found["iothread"] == "link<iothread>"


def test_qom_set_of_a_runtime_property_changes_it(execute):
    execute("qom-set", path="disk0", property="realized", value=True)
    with pytest.raises(QmpError, match="device_del"):
        execute("qom-set", path="disk0", property="realized", value=False)


@pytest.mark.parametrize(
    ("path", "name", "value", "class_", "text"),
    [
        ("disk0", "type", "x", "GenericError", "Property 'virtio-blk-pci.type' is not writable"),
        ("disk0", "nothing", 1, "GenericError", "Property 'virtio-blk-pci.nothing' not found"),
        ("nothing", "type", "x", "DeviceNotFound", "Device 'nothing' not found"),
        ("device[0]", "type", "x", "GenericError", "Path 'device[0]' is ambiguous"),
        ("disk0", "serial", "x", "GenericError", "after"),
        ("disk0", "share-rw", True, "GenericError", "after"),
        ("disk0", "addr", 5.5, "GenericError", "after"),
    ],
)
def test_qom_set_that_cannot_be_is_an_error_of_qemus_class(execute, path, name, value, class_, text):
    with pytest.raises(QmpError) as caught:
        execute("qom-set", path=path, property=name, value=value)
    assert text in str(caught.value)
    assert caught.value.class_ == class_


def test_machine_property_is_read_and_written(machine):
    with pytest.raises(PropertyError):
        qom.set_(machine, "/machine", "kernel", "x")
    assert qom.get(machine, "/machine", "kernel") == ""


# -- as text


def test_tree_as_text_has_objects_below_their_owners_sorted_by_name(machine):
    lines = list(format_qom_tree(machine))
    assert lines[0] == "/machine (pc-i440fx-7.2-machine)"
    at = lines.index("    /disk0 (virtio-blk-pci)")
    assert lines[at + 1 : at + 4] == [
        "      /virtio-backend (virtio-blk-device)",
        "      /virtio-bus (virtio-pci-bus)",
        "    /vser0 (virtio-serial-pci)",
    ]


def test_tree_as_text_begins_where_it_is_asked_to(machine):
    assert list(format_qom_tree(machine, "/objects")) == [
        "/objects (container)",
        "  /io0 (iothread)",
        "  /pc.ram (memory-backend-ram)",
    ]
    assert next(format_qom_tree(machine, "/")) == "/ (container)"
    assert list(format_qom_tree(machine, "nothing")) == ["Path 'nothing' could not be resolved."]


def test_boot_order_can_be_changed_while_the_machine_runs(machine, execute):
    execute("qom-set", path="disk0", property="bootindex", value=4)
    assert execute("qom-get", path="disk0", property="bootindex") == 4
    with pytest.raises(QmpError, match="Invalid parameter type for 'bootindex', expected: integer"):
        execute("qom-set", path="disk0", property="bootindex", value="4")
    with pytest.raises(QmpError, match="out of range"):
        execute("qom-set", path="disk0", property="bootindex", value=-5)
