# SPDX-License-Identifier: Apache-2.0
"""The DSDT: what an operating system cannot find out by itself.

::

    _SB    C000, C001, ...   processors
           LNKA .. LNKD      PCI interrupt links, each tied to the interrupt that its PIRQ register has
           PCI0              host bridge: windows, interrupt routing
             ISA             PIIX3: COM1 .., RTC
    _S5                   power-off: SLP_TYP 0

The links cannot be moved: _SRS does nothing and _PRS has one choice. Our boot code sets the PIRQ registers and
no operating system needs another routing, so there is no AML that writes config space.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from qdevpy_machine import aml, hotplug_aml, layout, pcihp
from qdevpy_machine.hotplug_aml import FIRST_BUS, HotplugBus

PCI_IO_START = 0xB000
LINKS = ("LNKA", "LNKB", "LNKC", "LNKD")


class SerialPort(NamedTuple):
    """A 16550 to be named in the DSDT."""

    iobase: int
    irq: int


def pirq_of(slot: int, pin: int) -> int:
    """Which PIRQ (0: A .. 3: D) pin PIN (0: INTA#) of the device in SLOT is wired to.

    As QEMU's ``pci_slot_get_pirq`` in hw/pci-host/i440fx.c: slots take turns, starting with A at slot 1.
    """
    return (slot - 1 + pin) & 3


def _link(index: int) -> bytes:
    resources = aml.resource_template(aml.interrupt(layout.PIRQ_ROUTES[index]))
    return aml.device(
        LINKS[index],
        aml.name("_HID", aml.eisa_id("PNP0C0F")),
        aml.name("_UID", aml.integer(index)),
        aml.name("_PRS", resources),
        aml.name("_CRS", resources),
        aml.method("_DIS", 0),
        aml.method("_SRS", 1),
    )


def _routing() -> bytes:
    """_PRT (6.2.13): ``{slot << 16 | 0xFFFF, pin, link, 0}`` for every pin of every slot."""
    links = [aml.name_string(link) for link in LINKS]
    return aml.name(
        "_PRT",
        aml.package(
            aml.package((aml.integer(slot << 16 | 0xFFFF), aml.integer(pin), links[pirq_of(slot, pin)], aml.ZERO))
            for slot in range(32)
            for pin in range(4)
        ),
    )


def _host_bridge(*inside: bytes) -> bytes:
    return aml.device(
        "PCI0",
        aml.name("_HID", aml.eisa_id("PNP0A03")),
        aml.name("_UID", aml.ZERO),
        aml.name(
            "_CRS",
            aml.resource_template(
                aml.word_bus_number(0, 0xFF),
                aml.io(0xCF8, 8),
                aml.word_io(0, 0xCF7),
                aml.word_io(0xD00, pcihp.BASE - 1),  # between the two windows are the hotplug registers
                aml.word_io(PCI_IO_START, 0xFFFF),
                aml.dword_memory(*layout.PCI_HOLE),
            ),
        ),
        _routing(),
        *inside,
    )


def _serial_ports(ports: Sequence[SerialPort]) -> Iterable[bytes]:
    for number, port in enumerate(ports, 1):
        yield aml.device(
            f"COM{number}",
            aml.name("_HID", aml.eisa_id("PNP0501")),
            aml.name("_UID", aml.integer(number)),
            aml.name("_CRS", aml.resource_template(aml.io(port.iobase, 8), aml.irq(port.irq))),
        )


def _rtc() -> bytes:
    return aml.device(
        "RTC",
        aml.name("_HID", aml.eisa_id("PNP0B00")),
        aml.name("_CRS", aml.resource_template(aml.io(0x70, 2), aml.irq(8))),
    )


def _processor(index: int) -> bytes:
    # ACPI0007 with a _UID that is the MADT's processor id; the Processor() term is gone since ACPI 6.0
    return aml.device(f"C{index:03X}", aml.name("_HID", aml.string("ACPI0007")), aml.name("_UID", aml.integer(index)))


def build_dsdt(*, cpus: int, serial_ports: Sequence[SerialPort], hotplug: HotplugBus = FIRST_BUS) -> bytes:
    """The definition block's body, without the table header."""
    isa = aml.device("ISA", aml.name("_ADR", aml.integer(1 << 16)), *_serial_ports(serial_ports), _rtc())
    return (
        aml.scope(
            "_SB",
            *(_processor(index) for index in range(cpus)),
            *(_link(index) for index in range(len(LINKS))),
            _host_bridge(hotplug_aml.registers(), isa, hotplug_aml.bus(hotplug)),
        )
        + hotplug_aml.event()
        + aml.name("_S5", aml.package((aml.ZERO,) * 4))
    )
