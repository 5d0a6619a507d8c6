# SPDX-License-Identifier: Apache-2.0
"""A PCI function: configuration space, BARs, INTx, MSI-X. As QEMU's ``hw/pci/pci.c``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from qdevpy.errors import RealizeError
from qdevpy.native.space import Mapping
from qdevpy.pci import config
from qdevpy.pci.bar import Bar, Mapped
from qdevpy.pci.config import ConfigSpace
from qdevpy.pci.intx import Intx
from qdevpy.pci.msi import MSI
from qdevpy.pci.msix import MSIX
from qdevpy.qdev import kinds
from qdevpy.qdev import property as prop
from qdevpy.qdev.device import Device

if TYPE_CHECKING:
    from qdevpy.native.space import AddressSpace
    from qdevpy.pci.bus import PCIBus
    from qdevpy.pci.rom import OptionRom

#: how ``info qtree`` names classes, as far as we have such functions
CLASS_NAMES = {
    0x0100: "SCSI controller",
    0x0200: "Ethernet controller",
    0x0600: "Host bridge",
    0x0601: "ISA bridge",
    0x0604: "PCI bridge",
    0x0680: "Bridge",
}
UNMAPPED = (1 << 64) - 1
ROM_INDEX = 6  #: of the option ROM among the BARs, as QEMU counts
NO_SIZE = 0xFFFFFFFF  #: ``romsize`` that the ROM's file decides
NO_EXPRESS = "its bus is conventional PCI, where there is no such register"
NO_FAILOVER = "there is no migration, so no card that stands in during one"
NO_INDEX = "the ACPI tables do not name devices by index"


def express_bit(name: str, default: bool, what: str) -> Any:
    """A bit of QEMU's that means something on PCI Express only."""
    return prop.only(kinds.Bit(), default, name=name, why=NO_EXPRESS, help=f"{what} (PCI Express)")


class PCIDevice(Device):
    """Base class of PCI functions.

    :cvar class_code: 24 bits: class, subclass, programming interface
    :cvar interrupt_pin: 1 for INTA, 0 for none
    :cvar default_romfile: option ROM where the user names none, and firmware runs
    :ivar devfn: slot * 8 + function, once plugged
    :ivar config: the configuration space
    :ivar msix: after :meth:`init_msix`; msi_capability: after :meth:`init_msi`
    :ivar rom: the option ROM's BAR; rom_path: its file, with or without one
    """

    type_name: ClassVar[str] = "pci-device"
    abstract: ClassVar[bool] = True
    bus_type: ClassVar[str | None] = "PCI"
    vendor_id: ClassVar[int] = 0
    device_id: ClassVar[int] = 0
    revision: ClassVar[int] = 0
    class_code: ClassVar[int] = 0xFF0000
    subsystem_vendor_id: ClassVar[int] = 0x1AF4  # Red Hat, QEMU, as QEMU gives all functions that have none of their own
    subsystem_id: ClassVar[int] = 0x1100
    interrupt_pin: ClassVar[int] = 1
    default_romfile: ClassVar[str | None] = None

    addr: int = prop.pci_devfn(help="slot and function on the bus; default: the next free slot")
    romfile: str | None = prop.string(help="option ROM that firmware runs; empty: none; default: the type's")
    romsize: int = prop.uint32(NO_SIZE, maximum=1 << 31, unset=NO_SIZE, help="bytes of the ROM's BAR, a power of two")
    rombar: int = prop.uint32(1, help="0: the ROM has no BAR; firmware gets it as a file")
    multifunction: bool = prop.bit("cap_present", 3, False, help="function 0 of a device with several functions")
    lnksta_dllla: bool = express_bit("x-pcie-lnksta-dllla", True, "link active is reported")
    extcap_init: bool = express_bit("x-pcie-extcap-init", True, "extended capabilities begin empty")
    failover_pair_id: str | None = prop.only(
        kinds.Str(), None, name="failover_pair_id", why=NO_FAILOVER, help="the virtio-net that stands in"
    )
    acpi_index: int = prop.only(kinds.Integer("uint32", 0, 0xFFFF), 0, why=NO_INDEX, help="number that names it in the guest")

    devfn: int = attrs.field(default=-1, init=False)
    config: ConfigSpace = attrs.field(factory=ConfigSpace, init=False)
    bars: list[Bar] = attrs.field(factory=list, init=False)
    msi_capability: MSI | None = attrs.field(default=None, init=False)
    msix: MSIX | None = attrs.field(default=None, init=False)
    intx: Intx = attrs.field(default=None, init=False)
    rom: OptionRom | None = attrs.field(default=None, init=False)
    rom_path: str | None = attrs.field(default=None, init=False)

    @property
    def bus(self) -> PCIBus:
        """The bus it is plugged into."""
        from qdevpy.pci.bus import PCIBus

        assert isinstance(self.parent_bus, PCIBus)
        return self.parent_bus

    def realize(self) -> None:
        """As :meth:`Device.realize`, with identity, interrupt pin and address on the bus in place."""
        self.config = space = ConfigSpace()
        space.set(config.VENDOR_ID, self.vendor_id, 2)
        space.set(config.DEVICE_ID, self.device_id, 2)
        space.set(config.COMMAND, 0, 2, mask=config.COMMAND_WRITABLE)
        space.set(config.REVISION, self.revision, 1)
        space.set(config.CLASS, self.class_code, 3)
        space.set(config.CACHE_LINE_SIZE, 0, 1, mask=0xFF)
        space.set(config.HEADER_TYPE, 0x80 if self.multifunction else 0, 1)
        space.set(config.SUBSYSTEM_VENDOR_ID, self.subsystem_vendor_id, 2)
        space.set(config.SUBSYSTEM_ID, self.subsystem_id, 2)
        space.set(config.INTERRUPT_LINE, 0, 1, mask=0xFF)
        space.set(config.INTERRUPT_PIN, self.interrupt_pin, 1)
        self.intx = Intx(self.bus.lines)
        self.cleanup.callback(self._let_go)
        is_default_rom = self.romfile is None
        self._add_rom()
        self.add_declared()
        super().realize()
        if self.rom is not None and is_default_rom:
            self.rom.rename(space.get(config.VENDOR_ID, 2), space.get(config.DEVICE_ID, 2))
        self.bus.route(self)

    def _add_rom(self) -> None:
        """The option ROM, where there is one.

        :raises RealizeError: it is not there, or does not fit
        """
        if self.romfile is None and (self.default_romfile is None or not self.machine.board.runs_firmware):
            return
        from qdevpy.pci import rom

        self.rom_path = rom.find(self)
        if self.rom_path is None or not self.rombar:
            return
        content = rom.read(self, self.rom_path)
        try:
            self.rom = rom.OptionRom(self.machine, content, None if self.romsize == NO_SIZE else self.romsize)
        except ValueError as error:
            raise RealizeError(f"romsize: {error}", device=self.label) from None
        self.cleanup.callback(self._close_rom)
        self.rom.declare(self.config)
        self.romfile, self.romsize = self.romfile or self.default_romfile, self.rom.size

    def _close_rom(self) -> None:
        if self.rom is not None:
            self.rom.close()
        self.rom = None

    def _let_go(self) -> None:
        for bar in self.bars:
            bar.unmap()
        self.bars.clear()
        self.intx.set(False)
        for messages in (self.msi_capability, self.msix):
            if messages is not None:
                messages.close()

    # -- for subclasses, in do_realize

    def add_declared(self) -> None:
        """Override: what a class declares rather than adds in do_realize (:mod:`.endpoint`)."""

    def register_bar(
        self,
        index: int,
        kind: str,
        size: int,
        *,
        read: Callable[[int, int], int] | None = None,
        write: Callable[[int, int, int], None] | None = None,
        on_map: Callable[[AddressSpace, str, int], Iterable[Mapped]] | None = None,
    ) -> Bar:
        """Declare a BAR: either READ and WRITE serve all of it, or ON_MAP maps its parts itself.

        :param kind: ``io``, ``mem`` or ``mem64`` (takes the next index, too)
        :param size: bytes, a power of two
        """

        def map_whole(space: AddressSpace, bus: str, base: int) -> list[Mapped]:
            assert read is not None
            assert write is not None
            return [space.map(bus, base, size, read, write)]

        def map_owned(space: AddressSpace, bus: str, base: int) -> Iterator[Mapped]:
            for mapping in (on_map or map_whole)(space, bus, base):
                if isinstance(mapping, Mapping):
                    mapping.owner = self
                yield mapping

        bar = Bar(index, kind, size, map_owned)
        bar.declare(self.config)
        self.bars.append(bar)
        return bar

    def bar_at(self, index: int) -> Bar:
        """The BAR with that index; there must be one."""
        return next(bar for bar in self.bars if bar.index == index)

    def init_msix(self, vectors: int, bar: int) -> MSIX:
        """Offer MSI-X with its table and pending bits alone in memory BAR number BAR."""
        self.msix = MSIX(self.config, vectors, bar, self.machine.accel)
        self.register_bar(bar, "mem", self.msix.size, read=self.msix.read, write=self.msix.write)
        return self.msix

    def init_msi(self, vectors: int, *, bits64: bool = True, masking: bool = False) -> MSI:
        """Offer MSI; see :class:`MSI`."""
        self.msi_capability = MSI(self.config, vectors, self.machine.accel, bits64=bits64, masking=masking)
        return self.msi_capability

    # -- the function's side of the bus

    def bus_of(self, number: int) -> PCIBus | None:
        """Override in bridges: the bus of that number behind this function."""
        return None

    @property
    def bus_master(self) -> bool:
        """Whether the driver lets the function access memory."""
        return bool(self.config.get(config.COMMAND, 2) & config.COMMAND_MASTER)

    def set_intx(self, level: bool) -> None:
        """Assert or release the interrupt pin; the command register may disable it. Any thread."""
        self.intx.set(level)

    def config_read(self, offset: int, size: int) -> int:
        """The guest reads its configuration space."""
        if offset <= config.STATUS < offset + size:
            status = self.config.get(config.STATUS, 2) & ~config.STATUS_INTERRUPT
            self.config.set(config.STATUS, status | (config.STATUS_INTERRUPT if self.intx.level else 0), 2)
        return self.config.get(offset, size)

    def config_write(self, offset: int, value: int, size: int) -> None:
        """The guest writes its configuration space."""
        before = self.config.get(config.COMMAND, 2)
        self.config.write(offset, value, size)
        after = self.config.get(config.COMMAND, 2)
        if offset < config.BAR0 + 24 or (self.rom is not None and offset < config.CAPABILITIES):
            self._update_bars()
        if self.msix is not None:
            self.msix.config_written()
        if self.msi_capability is not None:
            self.msi_capability.config_written()
            if self.msi_capability.enabled:  # 6.8: a function that uses MSI does not assert its pin
                self.intx.set(False)
        if before != after:
            self.intx.disable(bool(after & config.COMMAND_INTX_DISABLE))
            self.command_changed(before, after)
        self.config_written(offset, size)

    def _update_bars(self) -> None:
        if self.rom is not None:
            self.rom.update(self.config)
        moved = [bar.update(self.config, self.machine.space) for bar in self.bars]
        if any(moved):
            self.bars_moved()

    def bars_moved(self) -> None:
        """Override: a BAR is decoded somewhere else than before, or not any more."""

    def config_written(self, offset: int, size: int) -> None:
        """Override: after any write of the guest's."""

    def command_changed(self, old: int, new: int) -> None:
        """Override: the command register went from OLD to NEW; BARs have moved already."""

    def config_loaded(self, msix: dict[str, object] | None) -> None:
        """The configuration space was put back as it was saved; so is everything that follows from it.

        :param msix: what :meth:`MSIX.save` returned
        """
        self._update_bars()
        self.intx.disable(bool(self.config.get(config.COMMAND, 2) & config.COMMAND_INTX_DISABLE))
        if self.msix is not None and msix is not None:
            self.msix.load(msix)

    def reset(self) -> None:
        """As after power-on: the function's own part first, then nothing is decoded and no interrupt is asserted."""
        super().reset()
        self.config.set(config.COMMAND, 0, 2)
        for bar in self.bars:
            bar.unmap()
            bar.declare(self.config)
        if self.rom is not None:
            self.rom.unmap()
            self.rom.declare(self.config)
        self.config.set(config.INTERRUPT_LINE, 0, 1)
        self.intx.set(False)
        self.intx.disable(False)
        for messages in (self.msi_capability, self.msix):
            if messages is not None:
                messages.reset()

    def describe(self) -> list[str]:
        """Class, address and BARs as QEMU's ``info qtree`` prints them (pcibus_dev_print)."""
        space = self.config
        kind = space.get(config.CLASS + 1, 2)
        lines = [
            f"class {CLASS_NAMES.get(kind, f'Class {kind:04x}')}, addr 00:{self.devfn >> 3:02x}.{self.devfn & 7}, "
            f"pci id {space.get(config.VENDOR_ID, 2):04x}:{space.get(config.DEVICE_ID, 2):04x} "
            f"(sub {space.get(config.SUBSYSTEM_VENDOR_ID, 2):04x}:{space.get(config.SUBSYSTEM_ID, 2):04x})"
        ]
        regions = [(bar.index, "i/o" if bar.kind == "io" else "mem", bar.base, bar.size) for bar in self.bars]
        if self.rom is not None:
            regions.append((ROM_INDEX, "mem", self.rom.base, self.rom.size))
        for index, sort, where, size in sorted(regions):
            base = UNMAPPED if where is None else where
            lines.append(f"bar {index}: {sort} at {base:#x} [{(base + size - 1) & UNMAPPED:#x}]")
        return lines
