# SPDX-License-Identifier: Apache-2.0
"""Devices that come and go, without a guest."""

import re

import pytest

from qdevpy.definition.load import load_definition
from qdevpy.definition.model import MachineDefinition
from qdevpy.errors import HotplugError, PathError, QdevpyError
from qdevpy.plugin.manager import load_plugins
from qdevpy.vm.build import build_machine
from qdevpy.vm.hotplug import device_add, device_del


@pytest.fixture
def machine():
    with build_machine(MachineDefinition(machine="pc", accel="none"), load_plugins()) as machine, machine.lock:
        device_add(machine, {"driver": "virtio-serial-pci", "id": "vser0"})
        yield machine


@pytest.fixture
def events(machine):
    seen = []
    machine.events.subscribe(seen.append)
    return seen


def test_port_that_is_added_has_its_id_and_place(machine):
    port = device_add(machine, {"driver": "virtserialport", "id": "port0", "bus": "vser0.0", "nr": 3, "name": "org.test"})
    assert (port.nr, port.hotplugged, port.qom_path) == (3, True, "/machine/peripheral/port0")


def test_port_that_is_deleted_is_gone_and_told(machine, events):
    device_add(machine, {"driver": "virtserialport", "id": "port0"})
    device_del(machine, "port0")
    assert machine.find_device("port0") is None
    assert [tuple(event) for event in events] == [("port0", "/machine/peripheral/port0")]


def test_id_of_a_deleted_device_is_free(machine):
    for _ in range(3):
        device_add(machine, {"driver": "virtserialport", "id": "port0"})
        device_del(machine, "/machine/peripheral/port0")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Parameter 'driver' is missing"),
        ({"driver": "virtio-blk-pcj"}, "'virtio-blk-pcj' is not a valid device model name"),
        ({"driver": "virtserialport", "id": "vser0"}, "Duplicate device ID 'vser0'"),
        ({"driver": "virtserialport", "bus": "nope.0"}, "Bus 'nope.0' not found; buses of type virtio-serial-bus: vser0.0"),
        ({"driver": "virtserialport", "bus": "pci.0"}, "Device 'virtserialport' can't go on PCI bus"),
        ({"driver": "virtserialport", "id": "1st"}, "Parameter 'id' expects an identifier"),
        ({"driver": "i440FX"}, "Parameter 'driver' expects a pluggable device type"),
        ({"driver": "pci-device"}, "Parameter 'driver' expects a non-abstract device type"),
        ({"driver": "virtio-net-pci", "addr": "1.1"}, "slot 1 function 0 already occupied by PIIX3, new func virtio-net-pci"),
        ({"driver": "isa-debugcon"}, "Bus 'isa.0' does not support hotplugging"),
        ({"driver": "virtserialport", "nr": {}}, "Invalid parameter type for 'nr'"),
    ],
)
def test_device_that_cannot_be_added_leaves_nothing_behind(machine, options, message):
    before = list(machine.devices())
    with pytest.raises(QdevpyError, match=message):
        device_add(machine, options)
    assert list(machine.devices()) == before


def test_device_that_is_not_there_cannot_be_deleted(machine):
    with pytest.raises(PathError, match="Device 'nope' not found"):
        device_del(machine, "nope")


def test_part_of_the_board_cannot_be_deleted(machine):
    chip = next(device for device in machine.devices() if device.type_name == "PIIX3")
    with pytest.raises(HotplugError, match="does not support hotplugging"):
        device_del(machine, chip.qom_path)


def test_port_needs_a_bus():
    missing = pytest.raises(HotplugError, match="No 'virtio-serial-bus' bus found for device 'virtserialport'")
    with build_machine(MachineDefinition(machine="pc", accel="none"), load_plugins()) as machine, machine.lock, missing:
        device_add(machine, {"driver": "virtserialport"})


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/machine", "/machine is not a hotpluggable device"),
        ("/machine/i440fx/pci.0/child[0]", "Device 'i440FX' does not support hotplugging"),
        ("vser0/virtio-backend", "Bus 'virtio-bus' does not support hotplugging"),
    ],
)
def test_what_is_no_users_device_cannot_be_deleted(machine, path, message):
    with pytest.raises(HotplugError, match=re.escape(message)):
        device_del(machine, path)


def test_parts_are_told_of_first_and_newest_first(machine, events):
    device_add(machine, {"driver": "virtconsole", "id": "con0"})
    device_add(machine, {"driver": "virtserialport"})
    device_del(machine, "vser0")
    assert [tuple(event) for event in events] == [
        (None, "/machine/peripheral-anon/device[0]"),
        ("con0", "/machine/peripheral/con0"),
        (None, "/machine/peripheral/vser0/virtio-backend"),
        ("vser0", "/machine/peripheral/vser0"),
    ]


def test_device_whose_reset_fails_leaves_nothing_behind(machine, monkeypatch):
    from qdevpy_virtio_console.port import SerialPort

    before = list(machine.devices())
    monkeypatch.setattr(SerialPort, "do_reset", lambda port: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        device_add(machine, {"driver": "virtserialport", "id": "port0"})
    assert list(machine.devices()) == before


def slots(machine, register):
    return machine.space.read("pio", 0xAE00 + register, 4)


@pytest.fixture
def running(machine):
    """A machine that has a guest as far as hotplug is concerned: it must be asked."""
    machine.has_guest = True
    device_add(machine, {"driver": "virtio-net-pci", "id": "nic0", "addr": "6"})
    return machine


def test_guest_is_told_once_of_a_device_that_came(running):
    assert slots(running, 0) & 1 << 6
    assert slots(running, 0) == 0
    assert running.space.read("pio", 0xAFE0, 2) == 2


def test_device_stays_until_the_guest_ejects_it(running, events):
    device_del(running, "nic0")
    assert slots(running, 4) == 1 << 6
    assert running.find_device("nic0") is not None
    running.space.write("pio", 0xAE08, 1 << 6, 4)
    assert slots(running, 4) == 0
    assert [tuple(event) for event in events] == [
        (None, "/machine/peripheral/nic0/virtio-backend"),
        ("nic0", "/machine/peripheral/nic0"),
    ]


def test_guest_that_may_have_missed_the_question_is_asked_again(running, monkeypatch):
    monkeypatch.setattr(running.clock, "now_ns", lambda: 5_000_000)
    device_del(running, "nic0")
    running.space.write("pio", 0xAFE0, 2, 2)
    device_del(running, "nic0")
    assert running.space.read("pio", 0xAFE0, 2) == 2
    assert slots(running, 4) == 1 << 6


def test_device_that_was_asked_to_go_before_time_began_is_not_asked_again(running):
    device_del(running, "nic0")
    with pytest.raises(HotplugError, match="already in the process of unplug"):
        device_del(running, "nic0")


def test_reset_takes_out_what_was_asked_to_go(running, events):
    device_del(running, "nic0")
    running.reset()
    assert [event.device for event in events] == [None, "nic0"]


def test_guest_cannot_eject_the_board(running):
    before = [device.type_name for device in running.devices() if not device.user_creatable]
    running.space.write("pio", 0xAE08, 0x3, 4)
    assert [device.type_name for device in running.devices() if not device.user_creatable] == before


def test_bus_that_is_not_there_reads_as_nothing(running):
    running.space.write("pio", 0xAE10, 0xFFFFFFFF, 4)
    assert [slots(running, register) for register in (0, 4, 8, 12, 16)] == [0, 0, 0, 0, 0]
    running.space.write("pio", 0xAE08, 1 << 6, 4)
    assert running.find_device("nic0") is not None


def test_accesses_that_are_no_double_words_do_nothing(running):
    device_del(running, "nic0")
    for port in range(0xAE00, 0xAE17):
        for size in (1, 2):
            assert running.space.read("pio", port, size) == 0
            running.space.write("pio", port, 0xFF, size)
    for port in (0xAE01, 0xAE02, 0xAE07, 0xAE09, 0xAE0B):
        assert running.space.read("pio", port, 4) == 0
        running.space.write("pio", port, 0xFFFFFFFF, 4)
    assert (slots(running, 0), slots(running, 4)) == (1 << 2 | 1 << 6, 1 << 6)


def test_one_slot_is_ejected_at_a_time(running):
    device_add(running, {"driver": "virtio-serial-pci", "id": "vser1", "addr": "7"})
    running.space.write("pio", 0xAE08, 0xFFFFFFC0, 4)
    assert running.find_device("nic0") is None
    assert running.find_device("vser1") is not None


def test_gpe_block_is_read_and_written_in_bytes_and_words(running):
    space = running.space
    space.write("pio", 0xAFE2, 0xFFFF, 2)
    assert [space.read("pio", 0xAFE0 + at, 1) for at in range(4)] == [2, 0, 0xFF, 0xFF]
    space.write("pio", 0xAFE1, 0xFF, 1)
    space.write("pio", 0xAFE3, 0, 1)
    assert space.read("pio", 0xAFE0, 4) == 0x00FF_0002
    space.write("pio", 0xAFE0, 0x0000_FFFF, 4)
    assert space.read("pio", 0xAFE0, 4) == 0


def test_sci_is_up_while_an_enabled_event_is_pending(running):
    levels = running.accel.gsi_levels
    running.space.write("pio", 0xAFE2, 2, 2)
    assert levels[9] is True
    running.space.write("pio", 0xAFE0, 2, 2)
    assert levels[9] is False


BACKENDS = """
machine: pc
accel: none
drives: {gone: {driver: null-co, size: 1M}, kept: {driver: null-co, size: 1M, node-name: kept}}
netdevs: {lan: {type: "null"}}
chardevs: {port: {type: "null"}}
devices: [virtio-serial-pci]
"""


@pytest.mark.parametrize(
    ("driver", "reference", "backend", "stays"),
    [
        ("virtio-blk-pci", "drive", ("drives", "gone"), False),
        ("virtio-blk-pci", "drive", ("drives", "kept"), True),
        ("virtio-net-pci", "netdev", ("netdevs", "lan"), True),
        ("virtserialport", "chardev", ("chardevs", "port"), True),
    ],
)
def test_back_end_of_a_device_that_goes_is_free_or_gone(driver, reference, backend, stays):
    registry = load_plugins()
    definition = load_definition("hot.yaml", registry, text=BACKENDS)
    with build_machine(definition, registry) as machine, machine.lock:
        for _ in range(2 if stays else 1):
            device_add(machine, {"driver": driver, "id": "hot0", reference: backend[1]})
            device_del(machine, "hot0")
        assert (backend in machine.backends) is stays
