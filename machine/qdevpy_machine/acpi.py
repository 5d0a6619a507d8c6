# SPDX-License-Identifier: Apache-2.0
"""The ACPI tables (ACPI 6.4, chapter 5): RSDP, RSDT, XSDT, FADT, FACS, MADT, and the DSDT from :mod:`.dsdt`."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from qdevpy_machine import layout
from qdevpy_machine.dsdt import SerialPort, build_dsdt
from qdevpy_machine.hotplug_aml import FIRST_BUS, HotplugBus

OEM_ID = b"QDEVPY"
OEM_TABLE_ID = b"QDEVPYPC"
CREATOR = b"QDEV"

# FADT fixed feature flags (5.2.9, table 5.10)
WBINVD = 1 << 0
PROC_C1 = 1 << 2
SLP_BUTTON = 1 << 5  #: there is no fixed sleep button
FIX_RTC = 1 << 6  #: the RTC does not wake through the fixed registers
RESET_REG_SUP = 1 << 10

# IA-PC boot architecture flags (5.2.9.3). The 8042 bit stays clear: there is a controller, good for reset and A20,
# but no keyboard behind it, and an OS that is told so does not spend a second looking for one.
LEGACY_DEVICES = 1 << 0
VGA_NOT_PRESENT = 1 << 2

RTC_CENTURY = 0x32
RESET_PORT = 0xCF9
RESET_VALUE = 0x06

FLAGS_LEVEL_ACTIVE_HIGH = 0x000D
#: ISA interrupts whose lines are level triggered here: the SCI, and those PCI interrupts may be routed to
LEVEL_IRQS = (5, 9, 10, 11)


def checksum(data: bytes | bytearray) -> int:
    """The byte that makes the sum of DATA and itself zero."""
    return -sum(data) & 0xFF


def table(signature: bytes, revision: int, body: bytes) -> bytes:
    """A system description table: header (5.2.6) and BODY."""
    head = struct.pack(
        "<4sIBB6s8sI4sI", signature, 36 + len(body), revision, 0, OEM_ID, OEM_TABLE_ID, 1, CREATOR, 1
    )  # fmt: skip
    data = bytearray(head + body)
    data[9] = checksum(data)
    return bytes(data)


def _port(address: int, width: int) -> bytes:
    """Generic address structure (5.2.3.2) of an I/O port of WIDTH bits; address 0: there is none."""
    if not address:
        return bytes(12)
    return struct.pack("<BBBBQ", 1, width, 0, {8: 1, 16: 2, 32: 3}[width], address)


def build_fadt(dsdt: int, facs: int) -> bytes:
    """Fixed ACPI description table, revision 3 (5.2.9), for the PIIX4's registers at ``layout.PM_BASE``.

    SMI_CMD is 0: there is no legacy mode to leave, ACPI is enabled from the start.
    """
    base = layout.PM_BASE
    flags = WBINVD | PROC_C1 | SLP_BUTTON | FIX_RTC | RESET_REG_SUP
    body = struct.pack("<IIBBH", facs, dsdt, 1, 0, layout.SCI)
    body += struct.pack("<IBBBB", 0, 0, 0, 0, 0)  # SMI_CMD, ACPI_ENABLE, ACPI_DISABLE, S4BIOS_REQ, PSTATE_CNT
    body += struct.pack(
        "<8I", base, 0, base + 4, 0, 0, base + 8, layout.GPE0, 0
    )  # PM1a/b_EVT, PM1a/b_CNT, PM2, PM_TMR, GPE0, GPE1
    body += struct.pack("<8B", 4, 2, 0, 4, 4, 0, 0, 0)  # lengths of EVT, CNT, PM2, TMR, GPE0, GPE1; GPE1 base, _CST
    body += struct.pack("<HHHHBBBBBHBI", 0xFFF, 0xFFF, 0, 0, 0, 0, 0, 0, RTC_CENTURY, LEGACY_DEVICES | VGA_NOT_PRESENT, 0, flags)
    body += _port(RESET_PORT, 8) + bytes([RESET_VALUE, 0, 0, 0])
    body += struct.pack("<QQ", facs, dsdt)
    body += _port(base, 32) + _port(0, 0) + _port(base + 4, 16) + _port(0, 0)
    body += _port(0, 0) + _port(base + 8, 32) + _port(layout.GPE0, 32) + _port(0, 0)
    return table(b"FACP", 3, body)


def build_madt(cpus: int) -> bytes:
    """Multiple APIC description table (5.2.12): a local APIC for each of CPUS, one I/O APIC, and the overrides."""
    body = struct.pack("<II", layout.LOCAL_APIC, 1)  # there are 8259s too
    for index in range(cpus):
        body += struct.pack("<BBBBI", 0, 8, index, index, 1)
    body += struct.pack("<BBBBII", 1, 12, 0, 0, layout.IOAPIC, 0)
    body += struct.pack("<BBBBIH", 2, 10, 0, 0, 2, 0)  # the PIT is on pin 2
    for irq in LEVEL_IRQS:
        body += struct.pack("<BBBBIH", 2, 10, 0, irq, irq, FLAGS_LEVEL_ACTIVE_HIGH)
    body += struct.pack("<BBBHB", 4, 6, 0xFF, 0, 1)  # NMI on LINT1 of all
    return table(b"APIC", 1, body)


def build_facs() -> bytes:
    """Firmware ACPI control structure (5.2.10): the global lock's home."""
    return struct.pack("<4sIIIIIQB31x", b"FACS", 64, 0, 0, 0, 0, 0, 1)


def build_rsdp(rsdt: int, xsdt: int) -> bytes:
    """Root system description pointer, revision 2 (5.2.5.3)."""
    data = bytearray(struct.pack("<8sB6sBIIQB3x", b"RSD PTR ", 0, OEM_ID, 2, rsdt, 36, xsdt, 0))
    data[8] = checksum(data[:20])
    data[32] = checksum(data)
    return bytes(data)


def build_tables(base: int, *, cpus: int, serial_ports: Sequence[SerialPort], hotplug: HotplugBus = FIRST_BUS) -> bytes:
    """All tables, to be put at BASE (a multiple of 64); the RSDP comes first.

    :param cpus: number of processors; their local APIC ids count from 0
    :param hotplug: buses that devices come to and go from
    """
    blob = bytearray(64)  # the RSDP is filled in last

    def place(data: bytes) -> int:
        blob.extend(bytes(-len(blob) % 64))
        blob.extend(data)
        return base + len(blob) - len(data)

    facs = place(build_facs())
    dsdt = place(table(b"DSDT", 2, build_dsdt(cpus=cpus, serial_ports=serial_ports, hotplug=hotplug)))
    entries = [place(build_fadt(dsdt, facs)), place(build_madt(cpus))]
    rsdt = place(table(b"RSDT", 1, struct.pack(f"<{len(entries)}I", *entries)))
    xsdt = place(table(b"XSDT", 1, struct.pack(f"<{len(entries)}Q", *entries)))
    rsdp = build_rsdp(rsdt, xsdt)
    blob[: len(rsdp)] = rsdp
    return bytes(blob)
