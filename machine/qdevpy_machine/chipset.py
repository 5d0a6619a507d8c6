# SPDX-License-Identifier: Apache-2.0
"""Intel 440FX and PIIX: host bridge, PCI-to-ISA bridge with interrupt routing and reset, power management.

As QEMU's ``hw/pci-host/i440fx.c``, ``hw/isa/piix3.c`` and ``hw/acpi/piix4.c``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import attrs

from qdevpy.pci.bus import PCIBus
from qdevpy.pci.device import PCIDevice
from qdevpy.qdev import kinds
from qdevpy.qdev import property as prop
from qdevpy.qdev.sysbus import SysBusDevice
from qdevpy_machine import layout
from qdevpy_machine.dsdt import pirq_of
from qdevpy_machine.isa import ISABus
from qdevpy_machine.pcihp import BASE as HOTPLUG_BASE
from qdevpy_machine.pcihp import GPE_BASE, GPE_HOTPLUG, GPE_SIZE, GeneralPurposeEvents, PCIHotplug
from qdevpy_machine.pcihp import SIZE as HOTPLUG_SIZE
from qdevpy_machine.pm import SIZE as PM_SIZE
from qdevpy_machine.pm import PMRegisters

if TYPE_CHECKING:
    from qdevpy.native.overlay import HostPages
    from qdevpy.native.space import Mapping
    from qdevpy_machine.shadow import ShadowRam

NO_MIGRATION = "there is no migration from and to other versions"
NO_SLEEP = "the machine cannot be suspended; it is 1 here and 0 in QEMU"

CONFIG_ADDRESS, CONFIG_DATA = 0xCF8, 0xCFC
RESET_CONTROL = 1  #: offset of port 0xCF9
CONFIG_ENABLE = 1 << 31

#: devfns, as QEMU's pc
HOST_BRIDGE, ISA_BRIDGE, POWER = 0x00, 0x08, 0x0B

PIRQ_REGISTERS = range(0x60, 0x64)
PIRQ_DISABLED = 0x80
RESET_FULL, RESET_CPU = 0x02, 0x04

PM_BASE_REGISTER, PM_ENABLE_REGISTER = 0x40, 0x80
#: in it, bit 25: SMIs by port 0xB2 are on. Firmware that sees it set leaves system management mode alone; there is none
DEVACTB_REGISTER, APMC_ENABLE = 0x58, 0x0200_0000

PAM_REGISTERS = range(0x59, 0x60)
PAM_ALL_RAM = b"\x30\x33\x33\x33\x33\x33\x33"
SMRAM_REGISTER, SMRAM_BASE, SMRAM_LOCK = 0x72, 0x02, 0x10


class PCIHostBridge(SysBusDevice):
    """What QEMU's host bridges have in common."""

    type_name: ClassVar[str] = "pci-host-bridge"
    abstract: ClassVar[bool] = True

    config_reg_migration: bool = prop.only(
        kinds.Bool(), True, name="x-config-reg-migration-enabled", why=NO_MIGRATION, help="migrate the address register"
    )
    bypass_iommu: bool = prop.only(kinds.Bool(), False, why="the board has no IOMMU", help="devices go past it")


class PCIHost(PCIHostBridge):
    """The way to config space: ports 0xCF8 and 0xCFC (PCI 3.0, 3.2.2.3.2). Offers ``pci.0``.

    :ivar reset_control: who answers byte accesses to port 0xCF9, in the midst of the address register: the PIIX3
    """

    type_name: ClassVar[str] = "i440FX-pcihost"
    description: ClassVar[str] = "Intel 440FX host bridge"

    pci_hole64_size: int = prop.only(
        kinds.Size(), 2 << 30, why="BARs go below 4 GiB, firmware's choice aside", help="bytes for BARs above 4 GiB"
    )
    short_root_bus: int = prop.only_integer("uint32", 0, name="short_root_bus", why=NO_MIGRATION, help="as QEMU before 1.5")
    hole64_fix: bool = prop.only(kinds.Bool(), True, name="x-pci-hole64-fix", why=NO_MIGRATION, help="as QEMU after 2.10")

    def do_realize(self) -> None:
        """Offer the bus and answer at the ports."""
        space = self.machine.space
        self.reset_control: PIIX3 | None = None
        self._address = 0
        self.bus = PCIBus("pci.0", self, accel=self.machine.accel)
        self.add_bus(self.bus)
        for port, read, write in (
            (CONFIG_ADDRESS, self._read_address, self._write_address),
            (CONFIG_DATA, self._read_data, self._write_data),
        ):
            self.cleanup.callback(space.map("pio", port, 4, read, write).unmap)

    def do_reset(self) -> None:
        """No register is selected."""
        self._address = 0

    def _read_address(self, offset: int, size: int) -> int:
        if offset == RESET_CONTROL and size == 1 and self.reset_control is not None:
            return self.reset_control.read_reset()
        return self._address if offset == 0 and size == 4 else -1

    def _write_address(self, offset: int, value: int, size: int) -> None:
        if offset == RESET_CONTROL and size == 1 and self.reset_control is not None:
            self.reset_control.write_reset(value)
        elif offset == 0 and size == 4:  # other accesses are not for the address register
            self._address = value

    def _target(self, offset: int) -> tuple[PCIBus, int, int] | None:
        """Bus, devfn and register that 0xCFC + OFFSET means; None: nothing."""
        number = self._address >> 16 & 0xFF
        bus = self.bus.bus_behind(number) if number else self.bus
        if not self._address & CONFIG_ENABLE or bus is None:
            return None
        return bus, self._address >> 8 & 0xFF, self._address & 0xFF | offset

    def _read_data(self, offset: int, size: int) -> int:
        target = self._target(offset)
        if target is None:
            return -1
        bus, devfn, register = target
        return bus.config_read(devfn, register, size)

    def _write_data(self, offset: int, value: int, size: int) -> None:
        target = self._target(offset)
        if target is not None:
            bus, devfn, register = target
            bus.config_write(devfn, register, value, size)


class I440FX(PCIDevice):
    """Function 00.0: the bridge as a device, with the shadow RAM and SMRAM registers.

    :ivar shadow: what CPUs see from 0xC0000 on; None while all of it is RAM and always was
    """

    type_name: ClassVar[str] = "i440FX"
    description: ClassVar[str] = "host bridge"
    user_creatable: ClassVar[bool] = False
    vendor_id: ClassVar[int] = 0x8086
    device_id: ClassVar[int] = 0x1237
    revision: ClassVar[int] = 0x02
    class_code: ClassVar[int] = 0x060000
    interrupt_pin: ClassVar[int] = 0

    shadow: ShadowRam | None = attrs.field(default=None, init=False)

    def do_realize(self) -> None:
        """Registers that firmware and curious drivers look at; only the PAM registers do something."""
        self.config.writable[0x40:] = b"\xff" * (len(self.config.writable) - 0x40)
        self.config.set(SMRAM_REGISTER, SMRAM_BASE, 1, mask=0x78)

    def do_reset(self) -> None:
        """Firmware is to be seen below 1 MiB again, where there is any."""
        self.config.set(PAM_REGISTERS.start, 0, len(PAM_REGISTERS))
        self.config.set(SMRAM_REGISTER, SMRAM_BASE, 1, mask=0x78)
        if self.shadow is not None:
            self._update_shadow()

    def add_shadow(self, rom: HostPages | None) -> None:
        """From now on the PAM registers rule; ROM is what is there when they do not say RAM."""
        from qdevpy_machine.shadow import ShadowRam

        self.shadow = ShadowRam(self.machine, rom)
        self._update_shadow()

    def open_low_memory(self) -> None:
        """What firmware does before it is through: all of low memory is RAM."""
        self.config.data[PAM_REGISTERS.start : PAM_REGISTERS.stop] = PAM_ALL_RAM
        if self.shadow is not None:
            self._update_shadow()

    def _update_shadow(self) -> None:
        assert self.shadow is not None
        self.shadow.update(bytes(self.config.data[PAM_REGISTERS.start : PAM_REGISTERS.stop]))

    def config_written(self, offset: int, size: int) -> None:
        """PAM registers move memory; a locked SMRAM register stays as it is until reset."""
        if self.config.data[SMRAM_REGISTER] & SMRAM_LOCK:
            self.config.writable[SMRAM_REGISTER] = 0
        if offset < PAM_REGISTERS.stop and offset + size > PAM_REGISTERS.start:
            if self.shadow is None:  # a kernel that was loaded without firmware closes memory
                self.add_shadow(None)
            else:
                self._update_shadow()


class PIIX3(PCIDevice):
    """Function 01.0: ISA bridge, PCI interrupt routing, and the reset control register. Offers ``isa.0``.

    :ivar isa_bus: the bus
    """

    type_name: ClassVar[str] = "PIIX3"
    description: ClassVar[str] = "ISA bridge"
    user_creatable: ClassVar[bool] = False
    vendor_id: ClassVar[int] = 0x8086
    device_id: ClassVar[int] = 0x7000
    class_code: ClassVar[int] = 0x060100
    interrupt_pin: ClassVar[int] = 0

    def do_realize(self) -> None:
        """Offer the ISA bus, route PCI interrupts, and have the host bridge pass port 0xCF9 on."""
        self._reset_control = 0
        self.config.set(PIRQ_REGISTERS.start, 0x8080_8080, 4, mask=0x8F8F_8F8F)
        self.isa_bus = ISABus("isa.0", self, self.machine.accel.set_gsi)
        self.add_bus(self.isa_bus)
        self.bus.intx_router = self.route
        assert isinstance(self.bus.owner, PCIHost)
        self.bus.owner.reset_control = self

    def do_reset(self) -> None:
        """PCI interrupts go nowhere until boot code routes them."""
        self._reset_control = 0
        self.config.set(PIRQ_REGISTERS.start, 0x8080_8080, 4)
        self.bus.routes_changed()

    def route(self, slot: int, pin: int) -> int:
        """The GSI that pin PIN (1: INTA#) of SLOT raises, which is the ISA interrupt's number; -1: none."""
        register = self.config.get(PIRQ_REGISTERS[pirq_of(slot, pin - 1)], 1)
        return -1 if register & PIRQ_DISABLED else register & 0x0F

    def config_written(self, offset: int, size: int) -> None:
        """Writes to the PIRQ registers move interrupts that are up."""
        if offset < PIRQ_REGISTERS.stop and offset + size > PIRQ_REGISTERS.start:
            self.bus.routes_changed()

    def read_reset(self) -> int:
        """The reset control register."""
        return self._reset_control

    def write_reset(self, value: int) -> None:
        """Write the reset control register: bit 2 resets the processor."""
        if value & RESET_CPU:
            self.machine.request_reset("reset control register 0xCF9")
        else:
            self._reset_control = value & RESET_FULL


class PIIX4PM(PCIDevice):
    """Function 01.3: ACPI fixed hardware: PM1 event and control, PM timer; S5 ends the machine.

    :ivar registers: the block that is mapped where config register 0x40 says
    :ivar hotplug: the ACPI PCI hotplug controller
    """

    type_name: ClassVar[str] = "PIIX4_PM"
    description: ClassVar[str] = "power management"
    user_creatable: ClassVar[bool] = False
    vendor_id: ClassVar[int] = 0x8086
    device_id: ClassVar[int] = 0x7113
    revision: ClassVar[int] = 0x03
    class_code: ClassVar[int] = 0x068000
    interrupt_pin: ClassVar[int] = 0  # the SCI is an ISA interrupt; the FADT has it
    gpios: ClassVar[Sequence[tuple[str, str, int]]] = (("out", "smi-irq", 1), ("out", "", 1))

    disable_s3: int = prop.only_integer("uint8", 1, name="disable_s3", why=NO_SLEEP, help="no suspend to memory")
    disable_s4: int = prop.only_integer("uint8", 1, name="disable_s4", why=NO_SLEEP, help="no suspend to disk")
    s4_val: int = prop.only_integer("uint8", 2, name="s4_val", why=NO_SLEEP, help="sleep type of suspend to disk")
    bridge_hotplug: bool = prop.boolean(
        True, name="acpi-pci-hotplug-with-bridge-support", help="devices come and go behind bridges that were there at boot"
    )
    root_hotplug: bool = prop.boolean(True, name="acpi-root-pci-hotplug", help="devices come and go on the board's own bus")
    memory_hotplug: bool = prop.only(
        kinds.Bool(), False, name="memory-hotplug-support", why="memory is what it is at the start", help="memory comes and goes"
    )
    smm_compat: bool = prop.only(kinds.Bool(), False, why=NO_MIGRATION, help="as QEMU before 2.3")
    smm_enabled: bool = prop.only(
        kinds.Bool(), False, why="there is no system management mode", help="firmware may use system management mode"
    )

    def do_realize(self) -> None:
        """Make the registers; config space says where they are mapped."""
        self.config.set(PM_BASE_REGISTER, 1, 4, mask=0xFFC0)
        self.config.set(PM_ENABLE_REGISTER, 0, 1, mask=1)
        self.config.set(DEVACTB_REGISTER, APMC_ENABLE, 4)
        machine = self.machine
        self._mapping: Mapping | None = None
        self._fixed_event = self._sci = False
        self.events = GeneralPurposeEvents(self._update_sci)
        self.hotplug = PCIHotplug(lambda: self.events.raise_event(GPE_HOTPLUG))
        if self.root_hotplug:
            self.hotplug.add_bus(self.bus)
        if self.bridge_hotplug:
            self.bus.board_hotplug = self.hotplug
        for block, base, size in ((self.events, GPE_BASE, GPE_SIZE), (self.hotplug, HOTPLUG_BASE, HOTPLUG_SIZE)):
            self.cleanup.callback(machine.space.map("pio", base, size, block.read, block.write).unmap)
        self.registers = PMRegisters(
            set_sci=self._set_fixed_event,
            power_off=lambda: machine.request_shutdown("guest powered off"),
            clock=machine.clock,
        )
        self.cleanup.callback(self.registers.close)
        self.cleanup.callback(self._map, None)

    def do_reset(self) -> None:
        """Not mapped, nothing pending."""
        self.config.set(PM_BASE_REGISTER, 1, 4)
        self.config.set(PM_ENABLE_REGISTER, 0, 1)
        self._map(None)
        self.registers.reset()
        self.events.reset()

    def _set_fixed_event(self, level: bool) -> None:
        self._fixed_event = level
        self._update_sci()

    def _update_sci(self) -> None:
        """The SCI is up while a fixed or a general purpose event is pending."""
        level = self._fixed_event or self.events.level
        if level != self._sci:
            self._sci = level
            self.machine.accel.set_gsi(layout.SCI, level)

    def config_written(self, offset: int, size: int) -> None:
        """Base and enable registers move the block."""
        base = self.config.get(PM_BASE_REGISTER, 2) & 0xFFC0
        self._map(base if self.config.get(PM_ENABLE_REGISTER, 1) & 1 and base else None)

    def _map(self, base: int | None) -> None:
        if self._mapping is not None:
            if self._mapping.base == base:
                return
            self._mapping.unmap()
            self._mapping = None
        if base is not None:
            self._mapping = self.machine.space.map("pio", base, PM_SIZE, self.registers.read, self.registers.write)
