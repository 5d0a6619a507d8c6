# SPDX-License-Identifier: Apache-2.0
"""A kernel without firmware: what firmware would have done, then the kernel (see :mod:`.loader`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qdevpy.accel.base import CpuAccelerator
from qdevpy.errors import BootError
from qdevpy_machine import acpi, firmware, layout, smbios
from qdevpy_machine.chipset import HOST_BRIDGE, I440FX, PIIX4PM, POWER
from qdevpy_machine.dsdt import SerialPort
from qdevpy_machine.loader import load_kernel
from qdevpy_machine.serial import ISASerial

if TYPE_CHECKING:
    from qdevpy.accel.base import BootState
    from qdevpy.pci.bus import PCIBus
    from qdevpy.vm.machine import Machine


def boot_directly(machine: Machine) -> BootState:
    """Set the chipset and PCI devices up, write the tables, and load the kernel.

    :raises BootError: names the image and what is wrong with it
    """
    bus = cast("PCIBus", machine.find_bus("pci.0"))
    bridge = bus.device_at(HOST_BRIDGE)
    assert isinstance(bridge, I440FX)
    bridge.open_low_memory()
    firmware.assign_bars(bus)
    firmware.route_interrupts(bus)
    firmware.enable_power_management(bus)
    if isinstance(machine.accel, CpuAccelerator):
        machine.accel.set_level_triggered({layout.SCI, *layout.PIRQ_ROUTES})
    rsdp = 0
    if getattr(machine.board, "acpi", "on") != "off":
        rsdp = layout.TABLES
        tables = acpi_tables(machine, layout.TABLES)
        room = layout.SMBIOS - layout.TABLES
        if len(tables) > room:
            raise BootError(f"the ACPI tables have {len(tables)} bytes, of {room}: each bridge takes 2 KiB; use fewer bridges")
        machine.memory.write(layout.TABLES, tables)
    smbios.place(machine, layout.SMBIOS)
    return load_kernel(machine.memory, machine.memory_size, machine.definition.boot, rsdp)


def acpi_tables(machine: Machine, base: int) -> bytes:
    """The machine's ACPI tables, to be put at BASE."""
    serial_ports = [
        SerialPort(device.iobase, device.irq)
        for device in machine.devices()
        if isinstance(device, ISASerial) and device.iobase is not None and device.irq is not None
    ]
    bus = cast("PCIBus", machine.find_bus("pci.0"))
    power = bus.device_at(POWER)
    assert isinstance(power, PIIX4PM)
    return acpi.build_tables(base, cpus=machine.cpus, serial_ports=serial_ports, hotplug=power.hotplug.describe(bus))
