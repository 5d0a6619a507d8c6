# SPDX-License-Identifier: Apache-2.0
"""The ACPI tables: checksums, pointers, and Intel's disassembler reading them back."""

import shutil
import struct
import subprocess

import pytest

from qdevpy_machine import aml, layout
from qdevpy_machine.acpi import build_tables
from qdevpy_machine.dsdt import SerialPort, pirq_of
from qdevpy_machine.hotplug_aml import FIRST_BUS, HotplugBus

BASE = layout.TABLES


def split(blob, base=BASE):
    """Tables by signature, found from the RSDP as an operating system does."""
    assert blob[:8] == b"RSD PTR "
    assert sum(blob[:20]) & 0xFF == 0
    assert sum(blob[:36]) & 0xFF == 0
    rsdt, _, xsdt = struct.unpack_from("<IIQ", blob, 16)

    def at(address):
        offset = address - base
        length = struct.unpack_from("<I", blob, offset + 4)[0]
        return blob[offset : offset + length]

    roots = at(rsdt), at(xsdt)
    addresses = [struct.unpack_from("<I", roots[0], offset)[0] for offset in range(36, len(roots[0]), 4)]
    assert addresses == [struct.unpack_from("<Q", roots[1], offset)[0] for offset in range(36, len(roots[1]), 8)]
    tables = {bytes(root[:4]).decode(): root for root in (*roots, *map(at, addresses))}
    facs, dsdt = struct.unpack_from("<II", tables["FACP"], 36)
    tables["DSDT"] = at(dsdt)
    for table in tables.values():
        assert sum(table) & 0xFF == 0
    tables["FACS"] = at(facs)
    assert facs % 64 == 0
    return tables


def test_tables_with_two_cpus_have_right_checksums_and_pointers():
    tables = split(build_tables(BASE, cpus=2, serial_ports=[SerialPort(0x3F8, 4)]))

    assert set(tables) == {"RSDT", "XSDT", "FACP", "FACS", "APIC", "DSDT"}


def test_tables_with_most_cpus_fit_below_one_mib():
    blob = build_tables(BASE, cpus=64, serial_ports=[SerialPort(0x3F8, 4)] * 4)

    assert BASE + len(blob) <= layout.TABLES_END


def test_fadt_names_power_management_ports_and_reset_register():
    fadt = split(build_tables(BASE, cpus=1, serial_ports=[]))["FACP"]

    assert len(fadt) == 244
    assert struct.unpack_from("<H", fadt, 46) == (layout.SCI,)
    assert struct.unpack_from("<8I", fadt, 56) == (0x600, 0, 0x604, 0, 0, 0x608, 0xAFE0, 0)
    assert fadt[88:93] == bytes([4, 2, 0, 4, 4])
    assert fadt[108] == 0x32
    assert fadt[116:128] == struct.pack("<BBBBQ", 1, 8, 0, 1, 0xCF9)
    assert fadt[128] == 6
    assert fadt[148:160] == struct.pack("<BBBBQ", 1, 32, 0, 3, 0x600)
    assert fadt[208:220] == struct.pack("<BBBBQ", 1, 32, 0, 3, 0x608)


def test_madt_lists_processors_ioapic_and_overrides():
    madt = split(build_tables(BASE, cpus=3, serial_ports=[]))["APIC"]
    entries, offset = [], 44
    while offset < len(madt):
        entries.append(madt[offset : offset + madt[offset + 1]])
        offset += madt[offset + 1]

    assert [e[3] for e in entries if e[0] == 0] == [0, 1, 2]
    assert [struct.unpack("<II", e[4:]) for e in entries if e[0] == 1] == [(0xFEC00000, 0)]
    overrides = {e[3]: struct.unpack("<IH", e[4:]) for e in entries if e[0] == 2}
    assert overrides == {0: (2, 0), 5: (5, 13), 9: (9, 13), 10: (10, 13), 11: (11, 13)}


@pytest.mark.parametrize(("slot", "pin", "pirq"), [(0, 0, 3), (1, 0, 0), (2, 0, 1), (3, 0, 2), (4, 0, 3), (5, 0, 0), (3, 1, 3)])
def test_pirq_of_slot_and_pin_is_qemus(slot, pin, pirq):
    assert pirq_of(slot, pin) == pirq


def disassemble(tmp_path, name, table):
    if shutil.which("iasl") is None:
        pytest.skip("needs iasl (Debian: acpica-tools)")
    (tmp_path / f"{name}.aml").write_bytes(table)
    done = subprocess.run(["iasl", "-d", f"{name}.aml"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return (tmp_path / f"{name}.dsl").read_text()


def test_dsdt_read_by_iasl_names_our_devices(tmp_path):
    tables = split(build_tables(BASE, cpus=2, serial_ports=[SerialPort(0x3F8, 4), SerialPort(0x2F8, 3)]))
    text = disassemble(tmp_path, "dsdt", tables["DSDT"])

    for name in ("PCI0", "LNKA", "LNKD", "COM1", "COM2", "RTC", "C000", "C001"):
        assert f"Device ({name})" in text
    for piece in (
        'EisaId ("PNP0A03")',
        "0xC0000000, // Range Minimum",
        "0xFEBFFFFF, // Range Maximum",
        "Interrupt (ResourceConsumer, Level, ActiveHigh, Shared, ,, )",
        "IO (Decode16, 0x03F8, // Range Minimum",
        "Name (_S5, Package (0x04)",
    ):
        assert piece in " ".join(text.split())


BRIDGES = HotplugBus(0, tuple(range(2, 32)), {5: HotplugBus(1, tuple(range(32)), {1: HotplugBus(2, (3,), {})})})


ROOT_OFF = HotplugBus(None, (), {5: HotplugBus(0, (1, 2), {})})


@pytest.mark.parametrize("hotplug", [FIRST_BUS, BRIDGES, ROOT_OFF], ids=["one bus", "bridges", "bridge only"])
def test_dsdt_recompiled_by_iasl_is_the_same(tmp_path, hotplug):
    table = split(build_tables(BASE, cpus=2, serial_ports=[SerialPort(0x3F8, 4)], hotplug=hotplug))["DSDT"]
    disassemble(tmp_path, "dsdt", table)
    done = subprocess.run(["iasl", "-oa", "-p", "again", "dsdt.dsl"], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 Errors, 0 Warnings" in done.stdout
    assert (tmp_path / "again.aml").read_bytes()[36:] == table[36:]


@pytest.mark.parametrize("name", ["FACP", "APIC", "XSDT", "FACS"])
def test_table_read_by_iasl_is_understood(tmp_path, name):
    text = disassemble(tmp_path, name.lower(), split(build_tables(BASE, cpus=2, serial_ports=[]))[name])

    assert f'Signature : "{name}"' in text
    assert "Invalid" not in text
    assert "Unknown" not in text


# -- the encoder


@pytest.mark.parametrize(
    ("length", "encoded"),
    [(62, b"\x3f"), (63, b"\x41\x04"), (4093, b"\x4f\xff"), (4094, b"\x81\x00\x01"), (0xFFFFC, b"\x8f\xff\xff")],
)
def test_package_length_counts_itself(length, encoded):
    assert aml.package_length(bytes(length)) == encoded


def test_package_length_of_too_much_raises():
    class Huge(bytes):
        def __len__(self):
            return 1 << 28

    with pytest.raises(ValueError, match="too long"):
        aml.package_length(Huge())


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, b"\x00"),
        (1, b"\x01"),
        (2, b"\x0a\x02"),
        (0x100, b"\x0b\x00\x01"),
        (0x10000, b"\x0c\x00\x00\x01\x00"),
        (1 << 32, b"\x0e\x00\x00\x00\x00\x01\x00\x00\x00"),
    ],
)
def test_integer_takes_the_shortest_form(value, encoded):
    assert aml.integer(value) == encoded


@pytest.mark.parametrize(
    ("path", "encoded"),
    [("RTC", b"RTC_"), ("\\_SB", b"\\_SB_"), ("\\_SB.PCI0", b"\\\x2e_SB_PCI0"), ("A.B.C", b"\x2f\x03A___B___C___")],
)
def test_name_string_pads_and_prefixes(path, encoded):
    assert aml.name_string(path) == encoded


@pytest.mark.parametrize("path", ["TOOLONG", "", "9ABC", "low", "A..B"])
def test_name_string_with_bad_segment_raises(path):
    with pytest.raises(ValueError, match="not a name segment"):
        aml.name_string(path)


def test_eisa_id_is_compressed():
    assert aml.eisa_id("PNP0A03") == b"\x0c\x41\xd0\x0a\x03"
