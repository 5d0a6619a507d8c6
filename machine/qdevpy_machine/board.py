# SPDX-License-Identifier: Apache-2.0
"""The ``pc`` board: an Intel 440FX machine as QEMU's, without what no cloud guest uses (IDE, floppy, VGA).

Interrupt controllers and timer are the accelerator's. See docs/board.md for the memory map, the ports and the
interrupts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from qdevpy.errors import QdevpyError
from qdevpy.vm.board import Board
from qdevpy_machine import layout

if TYPE_CHECKING:
    from qdevpy.accel.base import BootState
    from qdevpy.pci.bus import PCIBus
    from qdevpy.vm.machine import Machine
    from qdevpy_machine.rtc import MC146818


class PC(Board):
    """See the module."""

    type_name: ClassVar[str] = "pc-i440fx-7.2"
    aliases: ClassVar[Sequence[str]] = ("pc", "pc-7.2")
    description: ClassVar[str] = "PC with Intel 440FX and PIIX chips"
    buses: ClassVar[Mapping[str, str]] = {"pci.0": "PCI", "isa.0": "ISA"}
    chips: ClassVar[Mapping[tuple[str, int], str]] = {
        ("pci.0", 0x00): "i440FX",
        ("pci.0", 0x08): "PIIX3",
        ("pci.0", 0x0B): "PIIX4_PM",
    }
    max_cpus: ClassVar[int] = 64
    is_default: ClassVar[bool] = True
    default_cpu_type: ClassVar[str | None] = "host-x86_64-cpu"
    default_ram_id: ClassVar[str | None] = "pc.ram"

    def add_memory(self, machine: Machine) -> None:
        """RAM from 0 to at most 3 GiB, the rest from 4 GiB on.

        :raises QdevpyError: too little for the boot loader, or not whole pages
        """
        size = machine.memory_size
        if size < layout.MIN_MEMORY or size % 4096:
            raise QdevpyError(f"memory: {size} bytes: expected at least 2M, in whole pages of 4096 bytes")
        for number, piece in enumerate(layout.ram_ranges(size)):
            machine.memory.add_ram(piece.start, piece.size, name=f"pc.ram{number}")

    def build(self, machine: Machine) -> None:
        """Plug the chips."""
        from qdevpy.accel.base import CpuAccelerator
        from qdevpy_machine.chipset import HOST_BRIDGE, I440FX, ISA_BRIDGE, PIIX3, PIIX4PM, POWER, PCIHost
        from qdevpy_machine.i8042 import I8042
        from qdevpy_machine.irqchips import IOAPIC, KVMIOAPIC
        from qdevpy_machine.ports import Port92
        from qdevpy_machine.rtc import MC146818

        host = PCIHost()
        machine.plug(host, machine.system_bus, name="i440fx")
        ioapic = KVMIOAPIC() if isinstance(machine.accel, CpuAccelerator) else IOAPIC()
        host.add_part("ioapic", ioapic)
        machine.plug(ioapic, machine.system_bus)
        bridge = PIIX3()
        bridge.multifunction = True
        for function, devfn in ((I440FX(), HOST_BRIDGE), (bridge, ISA_BRIDGE), (PIIX4PM(), POWER)):
            function.addr = devfn
            machine.plug(function, host.bus)
        rtc = MC146818()
        for chip in (rtc, I8042(), Port92()):
            machine.plug(chip, bridge.isa_bus)
        fill_cmos(rtc, machine.memory_size, machine.cpus)

    def prepare_boot(self, machine: Machine) -> BootState:
        """Set the chipset and PCI devices up, write the ACPI tables, and load the kernel.

        :raises BootError: names the image and what is wrong with it
        """
        from qdevpy.accel.base import CpuAccelerator
        from qdevpy_machine import acpi, firmware
        from qdevpy_machine.dsdt import SerialPort
        from qdevpy_machine.loader import load_kernel
        from qdevpy_machine.serial import ISASerial

        bus = cast("PCIBus", machine.find_bus("pci.0"))
        firmware.assign_bars(bus)
        firmware.route_interrupts(bus)
        firmware.enable_power_management(bus)
        if isinstance(machine.accel, CpuAccelerator):
            machine.accel.set_level_triggered({layout.SCI, *layout.PIRQ_ROUTES})
        serial_ports = [
            SerialPort(device.iobase, device.irq)
            for device in machine.devices()
            if isinstance(device, ISASerial) and device.iobase is not None and device.irq is not None
        ]
        tables = acpi.build_tables(layout.TABLES, cpus=machine.cpus, serial_ports=serial_ports)
        machine.memory.write(layout.TABLES, tables)
        return load_kernel(machine.memory, machine.memory_size, machine.definition.boot, layout.TABLES)

    def press_power_button(self, machine: Machine) -> None:
        """The PIIX4 tells the guest, with an SCI."""
        from qdevpy_machine.chipset import PIIX4PM

        for device in machine.devices():
            if isinstance(device, PIIX4PM):
                device.registers.press_power_button()


def fill_cmos(rtc: MC146818, memory_size: int, cpus: int) -> None:
    """Memory sizes and the number of CPUs in CMOS, where PC firmware looks for them. As QEMU's ``hw/i386/pc.c``."""
    low = min(memory_size, layout.LOW_RAM_END)
    extended = min((low - layout.MIB) // layout.KIB, 0xFFFF)
    beyond_16m = min(max(low - 16 * layout.MIB, 0) >> 16, 0xFFFF)
    above_4g = (memory_size - low) >> 16
    rtc.cmos[0x15:0x17] = (640).to_bytes(2, "little")
    rtc.cmos[0x17:0x19] = rtc.cmos[0x30:0x32] = extended.to_bytes(2, "little")
    rtc.cmos[0x34:0x36] = beyond_16m.to_bytes(2, "little")
    rtc.cmos[0x5B:0x5E] = above_4g.to_bytes(3, "little")
    rtc.cmos[0x5F] = cpus - 1
