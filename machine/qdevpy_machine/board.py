# SPDX-License-Identifier: Apache-2.0
"""The ``pc`` board: an Intel 440FX machine as QEMU's, without what no cloud guest uses (IDE, floppy, VGA).

Interrupt controllers and timer are the accelerator's. See docs/board.md for the memory map, the ports and the
interrupts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import attrs

from qdevpy.errors import QdevpyError
from qdevpy.qdev import property as prop
from qdevpy.vm.board import Board
from qdevpy_machine import layout
from qdevpy_machine.options import only

if TYPE_CHECKING:
    from qdevpy.accel.base import BootState
    from qdevpy.qdev.device import Device
    from qdevpy.vm.machine import Machine
    from qdevpy_machine.chipset import I440FX
    from qdevpy_machine.fw_cfg import FwCfg
    from qdevpy_machine.rtc import MC146818

#: where the processor starts after a reset
RESET_VECTOR = 0xFFFF_FFF0


class PC(Board):
    """See the module.

    :ivar firmware: the image that the machine starts with; None: a kernel is loaded without
    """

    type_name: ClassVar[str] = "pc-i440fx-7.2"
    aliases: ClassVar[Sequence[str]] = ("pc", "pc-7.2")
    description: ClassVar[str] = "PC with Intel 440FX and PIIX chips"
    buses: ClassVar[Mapping[str, str]] = {"pci.0": "PCI", "isa.0": "ISA"}
    chips: ClassVar[Mapping[tuple[str, int], str]] = {
        ("pci.0", 0x00): "i440FX",
        ("pci.0", 0x08): "PIIX3",
        ("pci.0", 0x0B): "PIIX4_PM",
    }
    qom_parents: ClassVar[Sequence[str]] = ("generic-pc-machine", "x86-machine")
    max_cpus: ClassVar[int] = 64
    is_default: ClassVar[bool] = True
    default_cpu_type: ClassVar[str | None] = "host-x86_64-cpu"
    default_ram_id: ClassVar[str | None] = "pc.ram"

    #: where distributions put SeaBIOS, QEMU's other ROMs, and iPXE
    data_folders: ClassVar[Sequence[str]] = ("/usr/share/seabios", "/usr/share/qemu", "/usr/lib/ipxe/qemu")

    acpi: str = prop.on_off_auto(help="ACPI tables")
    graphics: bool = prop.boolean(True, help="off: firmware is asked to use the first serial port as its console")
    i8042: bool = prop.boolean(True, help="keyboard controller and port 0x92")
    fd_bootchk: bool = prop.boolean(True, help="firmware checks a floppy's boot sector for its signature")
    mem_merge: bool = prop.boolean(True, help="the host may merge equal pages, where it does so with shared memory")
    dump_guest_core: str = only("bool", "off", why="core files never hold guest memory", help="guest memory in core files")
    hpet: str = only("bool", "off", why="there is no HPET", help="high precision event timer")
    usb: str = only("bool", "off", why="there is no USB controller", help="USB controller")
    smbus: str = only("bool", "off", why="there is no SMBus", help="system management bus")
    vmport: str = only("OnOffAuto", "auto", "off", why="there is no VMware port", help="VMware's port")
    smm: str = only("OnOffAuto", "auto", "off", why="there is no system management mode", help="system management mode")
    pic: str = only("OnOffAuto", "auto", "on", why="the 8259s are always there", help="interrupt controllers of the ISA bus")
    pit: str = only("OnOffAuto", "auto", "on", why="the 8254 is always there", help="interval timer")
    smbios_entry_point_type: str = only("str", "32", why="tables are below 1 MiB", help="form of the SMBIOS entry point")

    pflash0: str | None = prop.string(help="drive with the firmware, in flash that it may write")
    pflash1: str | None = prop.string(help="drive with what the firmware keeps, in flash below that")

    firmware: str | None = attrs.field(default=None, init=False)
    fw_cfg: FwCfg | None = attrs.field(default=None, init=False)
    rtc: MC146818 = attrs.field(default=None, init=False)
    _was_reset: bool = attrs.field(default=False, init=False)

    @property
    def runs_firmware(self) -> bool:
        """Whether there is firmware; a kernel is started without."""
        return self.firmware is not None

    def add_memory(self, machine: Machine) -> None:
        """RAM from 0 to at most 3 GiB, the rest from 4 GiB on.

        :raises QdevpyError: too little for the boot loader, or not whole pages
        """
        size = machine.memory_size
        if size < layout.MIN_MEMORY or size % 4096:
            raise QdevpyError(f"memory: {size} bytes: expected at least 2M, in whole pages of 4096 bytes")
        for number, piece in enumerate(layout.ram_ranges(size)):
            machine.memory.add_ram(piece.start, piece.size, name=f"pc.ram{number}")

    @classmethod
    def chip_classes(cls) -> Sequence[type[Device]]:
        """What :meth:`build` may plug."""
        from qdevpy_machine.chipset import I440FX, PIIX3, PIIX4PM, PCIHost
        from qdevpy_machine.fw_cfg import FwCfg
        from qdevpy_machine.i8042 import I8042
        from qdevpy_machine.irqchips import IOAPIC, KVMIOAPIC
        from qdevpy_machine.ports import Port92
        from qdevpy_machine.rtc import MC146818
        from qdevpy_machine.serial import SerialCore

        return (PCIHost, IOAPIC, KVMIOAPIC, FwCfg, I440FX, PIIX3, PIIX4PM, MC146818, I8042, Port92, SerialCore)

    def build(self, machine: Machine) -> None:
        """Plug the chips; with firmware, map it.

        :raises BootError: there is no such firmware, or it is none
        """
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
        northbridge = I440FX()
        bridge = PIIX3()
        bridge.multifunction = True
        for function, devfn in ((northbridge, HOST_BRIDGE), (bridge, ISA_BRIDGE), (PIIX4PM(), POWER)):
            function.addr = devfn
            machine.plug(function, host.bus)
        self.rtc = MC146818()
        chips = [self.rtc, I8042(), Port92()] if self.i8042 else [self.rtc]
        for chip in chips:
            machine.plug(chip, bridge.isa_bus)
        fill_cmos(self.rtc, machine.memory_size, machine.cpus)
        self._add_firmware(machine, northbridge)

    def _add_firmware(self, machine: Machine, northbridge: I440FX) -> None:
        """Image, shadow RAM and fw_cfg, for machines that start in firmware or might be looked at by it."""
        boot = machine.definition.boot
        if boot.kernel is not None and boot.firmware is None and not self.pflash0 and not machine.definition.fw_cfg:
            return
        from qdevpy_machine import rom
        from qdevpy_machine.fw_cfg import FwCfg

        flash = rom.add_flash(machine, self.pflash0, self.pflash1) if self.pflash0 else None
        path = None if flash is not None else rom.find_firmware(machine)
        if flash is not None:
            northbridge.add_shadow(flash.pages)
            self.firmware = str(self.pflash0)
        elif path is not None:
            image = rom.load(machine, path)
            rom.map_below_4g(machine, image)
            northbridge.add_shadow(image)
            self.firmware = path
        elif boot.kernel is None:
            northbridge.add_shadow(None)
        fw_cfg = FwCfg()
        machine.plug(fw_cfg, machine.system_bus, name="fw_cfg")
        self.fw_cfg = fw_cfg

    def reset(self, machine: Machine) -> None:
        """What CMOS has of the boot order: ``boot.once`` counts until the second reset."""
        from qdevpy_machine.boot_order import cmos_values, letters

        order = letters(machine.definition.boot, rebooted=self._was_reset)
        for register, value in cmos_values(order, floppy_check=self.fd_bootchk).items():
            self.rtc.cmos[register] = value
        self._was_reset = True

    def prepare_boot(self, machine: Machine) -> BootState:
        """Start in firmware; without, do its work: set chipset and PCI devices up, write ACPI and SMBIOS tables, load the
        kernel.

        :raises BootError: names the image and what is wrong with it
        """
        if self.firmware is not None:
            from qdevpy.accel.base import BootState

            assert self.fw_cfg is not None
            self.fw_cfg.load()  # what is wrong there is told now, not to the guest
            return BootState("real", RESET_VECTOR)
        from qdevpy_machine.direct import boot_directly

        return boot_directly(machine)

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
