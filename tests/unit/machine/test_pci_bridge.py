# SPDX-License-Identifier: Apache-2.0
"""Devices behind PCI bridges: found, placed, interrupting, coming and going."""

import pytest

from qdevpy.definition.load import load_definition
from qdevpy.errors import HotplugError, RealizeError
from qdevpy.pci import config
from qdevpy.pci.bridge import CONTROL, MEMORY_BASE, SECONDARY, SUBORDINATE
from qdevpy.plugin.manager import load_plugins
from qdevpy.vm.build import build_machine
from qdevpy.vm.hotplug import device_add, device_del
from qdevpy_machine import firmware

DEFINITION = """
machine: pc
accel: none
memory: 16M
netdevs: {lan: {type: "null"}}
devices:
  - pci-bridge: {id: br0, addr: 5, chassis_nr: 1}
  - pci-bridge: {id: br1, bus: br0, addr: 1, chassis_nr: 2}
  - virtio-net-pci: {id: nic0, bus: br1, addr: 3, netdev: lan}
  - virtio-serial-pci: {id: vser0, bus: br0}
"""


@pytest.fixture
def machine():
    registry = load_plugins()
    definition = load_definition("bridges.yaml", registry, text=DEFINITION)
    with build_machine(definition, registry) as machine, machine.lock:
        bus = machine.find_bus("pci.0")
        firmware.assign_bars(bus)
        firmware.route_interrupts(bus)
        yield machine


def cycle(machine, bus, devfn, register, size=4):
    """A configuration read as a guest does it."""
    machine.space.write("pio", 0xCF8, 1 << 31 | bus << 16 | devfn << 8 | register & ~3, 4)
    return machine.space.read("pio", 0xCFC + (register & 3), size)


def test_buses_are_numbered_depth_first(machine):
    bridges = [machine.find_device(name).config for name in ("br0", "br1")]
    assert [(c.get(SECONDARY, 1), c.get(SUBORDINATE, 1)) for c in bridges] == [(1, 2), (2, 2)]


def test_config_cycle_follows_the_bus_numbers(machine):
    assert cycle(machine, 0, 5 << 3, 0) == 0x0001_1B36
    assert cycle(machine, 1, 1 << 3, 0) == 0x0001_1B36
    assert cycle(machine, 2, 3 << 3, 0) == 0x1000_1AF4
    assert cycle(machine, 3, 3 << 3, 0) == 0xFFFF_FFFF
    assert cycle(machine, 2, 4 << 3, 0) == 0xFFFF_FFFF


def test_bars_behind_bridges_are_inside_their_windows(machine):
    nic = machine.find_device("nic0")
    for name in ("br0", "br1"):
        window = machine.find_device(name).config.get(MEMORY_BASE, 4)
        first, last = (window & 0xFFF0) << 16, (window >> 16 & 0xFFF0) << 16 | 0xF_FFFF
        for bar in nic.bars:
            if bar.kind != "io":
                assert bar.base is not None
                assert first <= bar.base <= bar.base + bar.size - 1 <= last


def test_interrupt_pin_turns_by_the_slots(machine):
    nic = machine.find_device("nic0")
    nic.set_intx(True)
    pirqs = [machine.pci_bus.config_read(8, 0x60 + n, 1) for n in range(4)]
    # INTA# of slot 3 is pin D of br1 in slot 1, which is pin A of br0 in slot 5
    expected = pirqs[(5 - 1 + (3 + 1) % 4) % 4]
    assert machine.accel.gsi_levels[expected] is True
    assert nic.config.get(config.INTERRUPT_LINE, 1) == expected
    nic.set_intx(False)
    assert machine.accel.gsi_levels[expected] is False


def test_bus_reset_resets_what_is_behind(machine):
    nic = machine.find_device("nic0")
    assert nic.config.get(config.COMMAND, 2) & config.COMMAND_MEMORY
    machine.pci_bus.config_write(5 << 3, CONTROL, 0x40, 2)
    assert nic.config.get(config.COMMAND, 2) == 0


def test_device_comes_and_goes_behind_a_bridge(machine):
    machine.has_guest = True
    device_add(machine, {"driver": "virtio-blk-pci", "id": "disk0", "bus": "br1", "addr": "4", "drive": add_drive(machine)})
    machine.space.write("pio", 0xAE10, 2, 4)
    assert machine.space.read("pio", 0xAE00, 4) == 1 << 4
    device_del(machine, "disk0")
    assert machine.space.read("pio", 0xAE04, 4) == 1 << 4
    machine.space.write("pio", 0xAE08, 1 << 4, 4)
    assert machine.find_device("disk0") is None


def add_drive(machine):
    from qdevpy.backend.drive import Drive

    drive = Drive(id="hot")
    drive.set_property("driver", "null-co")
    machine.add_backend(drive)
    return "hot"


def test_bridge_that_was_there_at_boot_stays(machine):
    with pytest.raises(HotplugError, match="it is a bridge that was there at boot"):
        device_del(machine, "br0")


def test_bus_of_a_bridge_that_came_later_takes_no_device(machine):
    device_add(machine, {"driver": "pci-bridge", "id": "br2", "chassis_nr": 3})
    with pytest.raises(HotplugError, match="Bus 'br2' does not support hotplugging"):
        device_add(machine, {"driver": "virtio-serial-pci", "bus": "br2"})


def test_bridge_that_came_later_goes_with_all_behind(machine):
    device_add(machine, {"driver": "pci-bridge", "id": "br2", "chassis_nr": 3})
    device_del(machine, "br2")
    assert machine.find_bus("br2") is None


def build(**properties):
    registry = load_plugins()
    settings = "".join(f"\n  PIIX4_PM.{name.replace('_', '-')}: {value}" for name, value in properties.items())
    return build_machine(load_definition("bridges.yaml", registry, text=f"{DEFINITION}global: {settings}\n"), registry)


def test_nothing_joins_the_boards_bus_where_its_hotplug_is_off():
    with build(acpi_root_pci_hotplug="off") as machine, machine.lock:
        with pytest.raises(HotplugError, match=r"Bus 'pci.0' does not support hotplugging"):
            device_add(machine, {"driver": "virtio-serial-pci"})
        device_add(machine, {"driver": "virtio-serial-pci", "bus": "br1"})
        described = machine.find_device("br0").bus.board_hotplug.describe(machine.find_bus("pci.0"))
        assert (described.bsel, described.slots) == (None, ())
        assert [behind.bsel for behind in described.bridges.values()] == [0]


def test_nothing_joins_a_bridge_where_hotplug_behind_bridges_is_off():
    with build(acpi_pci_hotplug_with_bridge_support="off") as machine, machine.lock:
        with pytest.raises(HotplugError, match="Bus 'br0' does not support hotplugging"):
            device_add(machine, {"driver": "virtio-serial-pci", "bus": "br0"})
        device_add(machine, {"driver": "virtio-serial-pci"})


def test_bridge_without_chassis_is_refused(machine):
    with pytest.raises(RealizeError, match="Bridge chassis not specified"):
        device_add(machine, {"driver": "pci-bridge", "id": "br2"})
