# SPDX-License-Identifier: Apache-2.0
"""The board as a whole, without a CPU: config space, interrupt routing, what boot code leaves behind, resets."""

import os
from itertools import pairwise
from typing import ClassVar

import pytest

from qdevpy.accel.none import NoneAccelerator
from qdevpy.definition.model import MachineDefinition
from qdevpy.errors import BootError, QdevpyError, RealizeError
from qdevpy.pci import config
from qdevpy.pci.device import PCIDevice
from qdevpy.vm.machine import Machine
from qdevpy_machine import firmware, layout
from qdevpy_machine.board import PC
from qdevpy_machine.chipset import PIIX4PM
from qdevpy_machine.plugin import qdevpy_boards, qdevpy_definitions, qdevpy_devices
from qdevpy_machine.serial import ISASerial

MIB = layout.MIB


class Probe(PCIDevice):
    """A function with a BAR of each sort."""

    type_name: ClassVar[str] = "probe"
    vendor_id: ClassVar[int] = 0x1234
    device_id: ClassVar[int] = 0x5678
    sizes: ClassVar[tuple[int, int, int]] = (32, 4096, 1 << 16)

    def do_realize(self):
        nothing = {"read": lambda offset, size: 0x5A, "write": lambda offset, value, size: None}
        self.register_bar(0, "io", self.sizes[0], **nothing)
        self.register_bar(1, "mem", self.sizes[1], **nothing)
        self.register_bar(2, "mem64", self.sizes[2], **nothing)


class LargeProbe(Probe):
    """Too large for the end of the hole."""

    sizes: ClassVar[tuple[int, int, int]] = (32, 4096, 1 << 28)


class HugeProbe(Probe):
    """Too large for the hole."""

    sizes: ClassVar[tuple[int, int, int]] = (32, 4096, 1 << 31)


def make_machine(memory_size=64 * MIB, **definition):
    machine = Machine(PC(), NoneAccelerator(), memory_size=memory_size, cpus=2, definition=MachineDefinition(**definition))
    machine.open()
    machine.board.build(machine)
    return machine


@pytest.fixture
def machine():
    with make_machine() as machine:
        machine.requests = []
        machine.request_reset = lambda reason: machine.requests.append(("reset", reason))
        machine.request_shutdown = lambda reason, status=0: machine.requests.append(("shutdown", reason))
        yield machine


def set_up(machine):
    """What prepare_boot does before it loads a kernel."""
    machine.reset()
    bus = machine.find_bus("pci.0")
    firmware.assign_bars(bus)
    firmware.route_interrupts(bus)
    firmware.enable_power_management(bus)
    return bus


def config_read(machine, devfn, register, size, bus=0):
    machine.space.write("pio", 0xCF8, 1 << 31 | bus << 16 | devfn << 8 | register & 0xFC, 4)
    return machine.space.read("pio", 0xCFC + (register & 3), size)


def config_write(machine, devfn, register, value, size):
    machine.space.write("pio", 0xCF8, 1 << 31 | devfn << 8 | register & 0xFC, 4)
    machine.space.write("pio", 0xCFC + (register & 3), value, size)


# -- what is there


def test_board_has_qemus_chips_and_buses(machine):
    assert [d.type_name for d in machine.devices()] == [
        "i440FX-pcihost", "i440FX", "PIIX3", "mc146818rtc", "i8042", "port92", "PIIX4_PM", "ioapic", "fw_cfg_io",
    ]  # fmt: skip
    assert {name: machine.find_bus(name).bus_type for name in PC.buses} == dict(PC.buses)


def test_plugin_offers_board_devices_and_definitions():
    names = [board.type_name for board in qdevpy_boards()]
    assert (names[0], names[-1]) == ("pc-i440fx-7.2", "none")
    assert {d.type_name for d in qdevpy_devices()} == {"isa-serial", "isa-debug-exit", "isa-debugcon", "pvpanic", "pci-bridge"}
    assert {"demo", "linux"} <= {os.path.basename(path).removesuffix(".yaml") for path in qdevpy_definitions()}


@pytest.mark.parametrize("size", [MIB, 64 * MIB + 1])
def test_memory_of_odd_size_says_what_is_expected(size):
    with pytest.raises(QdevpyError, match="expected at least 2M, in whole pages"):
        make_machine(size)


def test_memory_beyond_3_gib_is_in_two_pieces():
    with make_machine(5 << 30) as machine:
        assert [(r.gpa, r.size) for r in machine.memory.regions] == [(0, 3 << 30), (4 << 30, 2 << 30)]


def test_cmos_has_memory_sizes_and_cpus(machine):
    def cmos(register):
        machine.space.write("pio", 0x70, register, 1)
        return machine.space.read("pio", 0x71, 1)

    assert cmos(0x15) | cmos(0x16) << 8 == 640
    assert cmos(0x34) | cmos(0x35) << 8 == 48 * MIB >> 16
    assert cmos(0x5F) == 1


# -- config space


def test_config_space_is_read_through_its_ports_at_every_size(machine):
    assert config_read(machine, 0, 0, 4) == 0x12378086
    assert config_read(machine, 0, 2, 2) == 0x1237
    assert config_read(machine, 0x08, 0x0E, 1) == 0x80
    assert config_read(machine, 0x0B, 0x0A, 2) == 0x0680
    assert machine.space.read("pio", 0xCF8, 4) == 1 << 31 | 0x0B << 8 | 8


@pytest.mark.parametrize(("devfn", "bus"), [(0xF8, 0), (0, 1)])
def test_config_space_of_nothing_reads_as_ones(machine, devfn, bus):
    assert config_read(machine, devfn, 0, 4, bus) == 0xFFFFFFFF


def test_config_data_without_enable_bit_reads_as_ones(machine):
    machine.space.write("pio", 0xCF8, 0, 4)
    machine.space.write("pio", 0xCFC, 0, 4)

    assert machine.space.read("pio", 0xCFC, 4) == 0xFFFFFFFF


def test_config_address_takes_only_double_words(machine):
    machine.space.write("pio", 0xCF8, 0x80000000, 4)
    machine.space.write("pio", 0xCFB, 1, 1)
    machine.space.write("pio", 0xCF8, 1, 2)

    assert machine.space.read("pio", 0xCF8, 4) == 0x80000000
    assert machine.space.read("pio", 0xCF8, 2) == 0xFFFF


def test_machine_reset_deselects_the_register(machine):
    machine.space.write("pio", 0xCF8, 0x80000000, 4)
    machine.reset()

    assert machine.space.read("pio", 0xCF8, 4) == 0


# -- reset and power


def test_reset_control_register_resets_and_leaves_the_address_alone(machine):
    machine.space.write("pio", 0xCF8, 0x80000008, 4)
    machine.space.write("pio", 0xCF9, 0x02, 1)
    assert machine.requests == []
    assert machine.space.read("pio", 0xCF9, 1) == 0x02
    machine.space.write("pio", 0xCF9, 0x06, 1)

    assert machine.requests == [("reset", "reset control register 0xCF9")]
    assert machine.space.read("pio", 0xCF8, 4) == 0x80000008


def test_power_off_through_the_pm_registers(machine):
    set_up(machine)
    machine.space.write("pio", 0x604, 0x2001, 2)

    assert machine.requests == [("shutdown", "guest powered off")]


def test_pm_registers_move_with_their_base_and_go_with_reset(machine):
    set_up(machine)
    assert machine.space.read("pio", 0x604, 2) == 1
    config_write(machine, 0x0B, 0x40, 0x801, 4)
    assert machine.space.read("pio", 0x604, 2) == 0xFFFF
    assert machine.space.read("pio", 0x804, 2) == 1
    machine.reset()

    assert machine.space.read("pio", 0x804, 2) == 0xFFFF
    assert config_read(machine, 0x0B, 0x40, 4) == 1


def test_power_button_raises_the_sci(machine):
    set_up(machine)
    machine.space.write("pio", 0x602, 0x0100, 2)
    power = next(d for d in machine.devices() if isinstance(d, PIIX4PM))
    power.registers.press_power_button()

    assert machine.accel.gsi_levels[9]
    machine.space.write("pio", 0x600, 0x0100, 2)
    assert not machine.accel.gsi_levels[9]


# -- boot code


def test_bars_are_assigned_aligned_apart_and_decoded(machine):
    for _ in range(3):
        machine.plug(Probe())
    bus = set_up(machine)

    taken = []
    for probe in (d for d in machine.devices() if isinstance(d, Probe)):
        assert bus.config_read(probe.devfn, config.COMMAND, 2) == config.COMMAND_IO | config.COMMAND_MEMORY
        assert not probe.bus_master
        for bar in probe.bars:
            assert bar.base % bar.size == 0
            assert machine.space.read(bar.bus, bar.base, 1) == 0x5A
            taken.append((bar.bus, bar.base, bar.base + bar.size))
    taken.sort()
    assert all(a[0] != b[0] or a[2] <= b[1] for a, b in pairwise(taken))
    assert all(start >= (0xC000 if sort == "pio" else 0xFE000000) for sort, start, _ in taken)


def test_bars_too_large_for_the_end_of_the_hole_use_all_of_it(machine):
    machine.plug(LargeProbe())
    set_up(machine)
    probe = next(d for d in machine.devices() if isinstance(d, Probe))

    assert probe.bars[2].base == 0xC0000000


def test_bars_too_large_for_the_hole_are_left_out_with_a_warning(machine, caplog):
    machine.plug(HugeProbe())
    set_up(machine)
    probe = next(d for d in machine.devices() if isinstance(d, Probe))

    assert [bar.base is not None for bar in probe.bars] == [True, False, False]
    assert "the memory BARs of all devices do not fit" in caplog.text


def test_bars_after_a_second_reset_are_where_they_were(machine):
    machine.plug(Probe())
    set_up(machine)
    probe = next(d for d in machine.devices() if isinstance(d, Probe))
    before = [bar.base for bar in probe.bars]
    set_up(machine)

    assert [bar.base for bar in probe.bars] == before


@pytest.mark.parametrize(("slot", "irq"), [(2, 10), (3, 11), (4, 11), (5, 10), (6, 10)])
def test_intx_reaches_the_line_of_its_slot(machine, slot, irq):
    probe = Probe()
    probe.addr = slot << 3
    machine.plug(probe)
    set_up(machine)
    probe.set_intx(True)

    assert config_read(machine, slot << 3, config.INTERRUPT_LINE, 1) == irq
    assert machine.accel.gsi_levels[irq]
    probe.set_intx(False)
    assert not machine.accel.gsi_levels[irq]


def test_intx_moves_with_its_pirq_register_and_stops_with_reset(machine):
    probe = Probe()
    probe.addr = 2 << 3  # INTA is PIRQB
    machine.plug(probe)
    set_up(machine)
    probe.set_intx(True)
    config_write(machine, 0x08, 0x61, 5, 1)
    assert (machine.accel.gsi_levels[10], machine.accel.gsi_levels[5]) == (False, True)

    config_write(machine, 0x08, 0x61, 0x80, 1)
    assert not machine.accel.gsi_levels[5]
    machine.reset()
    assert config_read(machine, 0x08, 0x60, 4) == 0x80808080


def test_prepare_boot_writes_tables_that_name_the_serial_port(machine):
    machine.plug(ISASerial())
    machine.reset()
    machine.board.firmware = None  # whatever is installed here

    with pytest.raises(BootError, match=r"set boot\.kernel"):
        machine.board.prepare_boot(machine)
    tables = machine.memory.read(layout.TABLES, 0x20000)
    assert tables.startswith(b"RSD PTR ")
    assert b"COM1" in tables
    assert b"C001" in tables


def test_chips_are_not_for_users(machine):
    assert [d.type_name for d in machine.devices() if d.user_creatable] == []


def test_serial_ports_do_not_go_on_the_pci_bus(machine):
    with pytest.raises(RealizeError, match="plugs into a bus of type ISA"):
        machine.plug(ISASerial(), machine.find_bus("pci.0"))
