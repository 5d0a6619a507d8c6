# SPDX-License-Identifier: Apache-2.0
"""A PCI function with one BAR of each sort, and an accelerator that remembers."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from qdevpy.pci import config
from qdevpy.pci.device import PCIDevice
from qdevpy.testing.machine import FakeMachine


class Widget(PCIDevice):
    """BAR 0: 32 ports; BAR 1: MSI-X; BAR 2 and 3: 64 KiB of 64-bit memory; each answers with what was written."""

    type_name: ClassVar[str] = "widget"
    vendor_id: ClassVar[int] = 0x1234
    device_id: ClassVar[int] = 0x5678
    revision: ClassVar[int] = 3
    class_code: ClassVar[int] = 0x020000
    subsystem_vendor_id: ClassVar[int] = 0xAAAA
    subsystem_id: ClassVar[int] = 0xBBBB

    vectors: int = 4
    log: list[Any] = attrs.field(factory=list, init=False)

    def do_realize(self) -> None:
        self.init_msix(self.vectors, 1)
        self.register_bar(0, "io", 32, read=self.read, write=self.write)
        self.register_bar(2, "mem64", 0x10000, read=self.read, write=self.write)
        self.add_capability_for_test()

    def add_capability_for_test(self) -> None:
        at = self.config.add_capability(0x09, 6)
        self.config.set(at + 2, 0x0BAD, 2)

    def read(self, offset: int, size: int) -> int:
        return offset + 0x100

    def write(self, offset: int, value: int, size: int) -> None:
        self.log.append((offset, value, size))

    def command_changed(self, old: int, new: int) -> None:
        self.log.append(("command", old, new))

    def bars_moved(self) -> None:
        self.log.append(("moved", {bar.index: bar.base for bar in self.bars}))


class BusRig:
    """A machine, and configuration cycles."""

    def __init__(self) -> None:
        self.machine = FakeMachine()
        self.bus = self.machine.pci
        self.space = self.machine.space

    def plug(self, **properties: Any) -> Any:
        return self.machine.plug_device(Widget(id=properties.pop("id", None)), **properties)

    def read(self, device: Widget, offset: int, size: int = 4) -> int:
        return self.bus.config_read(device.devfn, offset, size)

    def write(self, device: Widget, offset: int, value: int, size: int = 4) -> None:
        self.bus.config_write(device.devfn, offset, value, size)

    def command(self, device: Widget, bits: int) -> None:
        self.write(device, config.COMMAND, bits, 2)

    def place(self, device: Widget, index: int, base: int) -> None:
        self.write(device, config.BAR0 + 4 * index, base & 0xFFFFFFFF)
        if index == 2:
            self.write(device, config.BAR0 + 4 * index + 4, base >> 32)

    def level(self, gsi: int) -> bool:
        return self.machine.accelerator.gsi_levels.get(gsi, False)
