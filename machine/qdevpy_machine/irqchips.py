# SPDX-License-Identifier: Apache-2.0
"""Interrupt chips as they stand in the device tree. The accelerator is what emulates them; here they have a name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from qdevpy.qdev import property as prop
from qdevpy.qdev.sysbus import SysBusDevice

IOAPIC_BASE = 0xFEC0_0000


class IOAPICCommon(SysBusDevice):
    """What the two sorts have in common: 24 pins at 0xFEC00000."""

    type_name: ClassVar[str] = "ioapic-common"
    abstract: ClassVar[bool] = True
    mmio: ClassVar[Sequence[tuple[int, int]]] = ((IOAPIC_BASE, 0x1000),)
    gpios: ClassVar[Sequence[tuple[str, str, int]]] = (("in", "", 24),)


class IOAPIC(IOAPICCommon):
    """An I/O APIC of an accelerator that has no CPUs."""

    type_name: ClassVar[str] = "ioapic"
    description: ClassVar[str] = "I/O interrupt controller"

    version: int = prop.uint8(0x20, minimum=0x20, maximum=0x20, help="of the chip, as it says itself")


class KVMIOAPIC(IOAPICCommon):
    """The I/O APIC in the kernel."""

    type_name: ClassVar[str] = "kvm-ioapic"
    description: ClassVar[str] = "I/O interrupt controller in the kernel"

    gsi_base: int = prop.uint32(0, maximum=0, name="gsi_base", help="interrupt that its first pin raises")
