# SPDX-License-Identifier: Apache-2.0
"""fw_cfg: items and files, byte by byte and by DMA; and what firmware is told through them."""

import struct
from types import MappingProxyType

import pytest

from qdevpy.accel.none import NoneAccelerator
from qdevpy.definition.model import BootDefinition, MachineDefinition, Position, Value
from qdevpy.errors import BootError
from qdevpy.qdev import property as prop
from qdevpy.vm.machine import Machine
from qdevpy_machine import fw_cfg_items as keys
from qdevpy_machine.board import PC
from qdevpy_machine.serial import ISASerial

MIB = 1 << 20
REQUEST, TARGET = 0x1000, 0x2000
ERROR, READ, SKIP, SELECT, WRITE = 1, 2, 4, 8, 16


def value(text):
    return Value(str(text), Position("test.yaml", 1, 1))


def settings(**options):
    return MappingProxyType({name: value(text) for name, text in options.items()})


@pytest.fixture
def make(tmp_path):
    machines = []
    (tmp_path / "bios.bin").write_bytes(bytes(0x1_0000))

    def build(*, memory=16 * MIB, cpus=2, boot=None, board=None, **definition):
        start = BootDefinition(firmware=value(tmp_path / "bios.bin"))._replace(**(boot or {}))
        described = MachineDefinition(boot=start, **definition)
        machine = Machine(board or PC(), NoneAccelerator(), memory_size=memory, cpus=cpus, definition=described)
        machines.append(machine)
        machine.open()
        machine.board.build(machine)
        machine.reset()
        return machine

    yield build
    for machine in machines:
        machine.close()


def item(machine, key, n):
    machine.space.write("pio", 0x510, key, 2)
    return bytes(machine.space.read("pio", 0x511, 1) for _ in range(n))


def directory(machine):
    (count,) = struct.unpack(">I", item(machine, 0x19, 4))
    data = item(machine, 0x19, 4 + 64 * count)[4:]
    found = {}
    for size, key, _, name in struct.iter_unpack(">IHH56s", data):
        found[name.rstrip(b"\0").decode()] = (key, size)
    return found


def file(machine, name):
    return item(machine, *directory(machine)[name])


def dma(machine, control, length, address, at=REQUEST):
    if at + 16 <= machine.memory_size:
        machine.memory.write(at, struct.pack(">IIQ", control, length, address))
    machine.space.write("pio", 0x514, int.from_bytes((at >> 32).to_bytes(4, "big"), "little"), 4)
    machine.space.write("pio", 0x518, int.from_bytes((at & 0xFFFF_FFFF).to_bytes(4, "big"), "little"), 4)
    return struct.unpack(">I", machine.memory.read(REQUEST, 4))[0]


# -- the interface


def test_item_is_read_byte_by_byte_with_zeros_behind_it(make):
    machine = make()
    assert item(machine, 0, 6) == b"QEMU\0\0"
    assert item(machine, 1, 4) == b"\3\0\0\0"
    assert item(machine, 0x1234, 2) == b"\0\0"


def test_item_is_copied_by_dma(make):
    machine = make()
    machine.memory.write(TARGET, b"x" * 8)
    assert dma(machine, SELECT | READ, 6, TARGET) == 0
    assert machine.memory.read(TARGET, 8) == b"QEMU\0\0xx"


def test_dma_skips_and_goes_on(make):
    machine = make()
    assert dma(machine, SELECT | SKIP, 2, 0) == 0
    assert dma(machine, READ, 2, TARGET) == 0
    assert machine.memory.read(TARGET, 2) == b"MU"


@pytest.mark.parametrize(
    ("control", "length", "address"),
    [(SELECT | READ, 4, 1 << 40), (SELECT | READ, 0xFFFF_FFFF, TARGET), (SELECT | WRITE, 4, TARGET)],
)
def test_dma_that_cannot_be_done_sets_the_error_bit(make, control, length, address):
    machine = make()
    assert dma(machine, control, length, address) == ERROR


def test_dma_request_outside_memory_is_ignored(make):
    machine = make()
    machine.memory.write(REQUEST, b"keep")
    assert dma(machine, READ, 4, TARGET, at=0xFFFF_0000) == int.from_bytes(b"keep", "big")


def test_dma_address_is_taken_in_one_write_too(make):
    machine = make()
    machine.memory.write(REQUEST, struct.pack(">IIQ", SELECT | READ, 4, TARGET))
    machine.space.write("pio", 0x514, int.from_bytes(REQUEST.to_bytes(8, "big"), "little"), 8)
    assert machine.memory.read(TARGET, 4) == b"QEMU"


def test_dma_register_says_that_there_is_dma(make):
    machine = make()
    assert machine.space.read("pio", 0x514, 4).to_bytes(4, "little") == b"QEMU"
    assert machine.space.read("pio", 0x518, 4).to_bytes(4, "little") == b" CFG"


# -- what it tells


def test_numbered_items_describe_the_machine(make):
    board = PC()
    board.set_property("graphics", "off")
    machine = make(board=board, boot={"menu": value("on")}, uuid=value("00112233-4455-6677-8899-aabbccddeeff"))
    assert item(machine, keys.UUID, 16) == bytes(range(0, 256, 17))
    assert item(machine, keys.RAM_SIZE, 8) == (16 * MIB).to_bytes(8, "little")
    assert [item(machine, key, 2) for key in (keys.NB_CPUS, keys.MAX_CPUS, keys.NOGRAPHIC, keys.BOOT_MENU)] == [
        b"\2\0", b"\2\0", b"\1\0", b"\1\0",
    ]  # fmt: skip


def test_e820_has_ram_on_both_sides_of_the_hole(make):
    machine = make(memory=4 << 30)
    entries = list(struct.iter_unpack("<QQI", file(machine, "etc/e820")))
    assert entries[:2] == [(0, 3 << 30, 1), (4 << 30, 1 << 30, 1)]
    assert entries[2][2] == 2


def test_users_files_are_there_and_names_are_sorted(make, tmp_path):
    (tmp_path / "blob").write_bytes(b"from a file")
    given = {"opt/b": settings(string="text"), "opt/a": settings(file=tmp_path / "blob")}
    machine = make(fw_cfg=MappingProxyType(given))
    assert file(machine, "opt/a") == b"from a file"
    assert file(machine, "opt/b") == b"text"
    names = list(directory(machine))
    assert names == sorted(names)


def test_users_file_that_is_not_there_is_an_error_before_the_guest_runs(make, tmp_path):
    machine = make(fw_cfg=MappingProxyType({"opt/a": settings(file=tmp_path / "none")}))
    with pytest.raises(BootError, match=r"fw_cfg: opt/a: file .*none': No such file"):
        machine.board.prepare_boot(machine)


def test_more_files_than_slots_are_refused(make):
    many = {f"opt/{n}": settings(string="x") for n in range(40)}
    machine = make(fw_cfg=MappingProxyType(many))
    with pytest.raises(BootError, match="there is room for 32"):
        machine.board.prepare_boot(machine)


def test_boot_settings_become_files(make):
    machine = make(boot={"reboot_timeout": value("15"), "splash_time": value("12")})
    assert file(machine, "etc/boot-fail-wait") == b"\x0f\0\0\0"
    assert file(machine, "etc/boot-menu-wait") == b"\x0c\0"


class Bootable(ISASerial):
    type_name = "bootable"
    bootindex: int = prop.int32(0, help="order")


def test_bootorder_without_devices_is_empty_unless_strict(make):
    assert directory(make())["bootorder"][1] == 0
    machine = make(boot={"strict": value("on")})
    machine.plug(Bootable())  # no place that firmware has a name for
    assert file(machine, "bootorder") == b"HALT\0"


def test_acpi_off_leaves_the_tables_out(make):
    board = PC()
    board.set_property("acpi", "off")
    assert not any("acpi" in name or "loader" in name for name in directory(make(board=board)))


# -- tables that the firmware puts in place


def load_tables(files, where):
    """Carry the loader's commands out as firmware does; the files' contents by name."""
    memory = {}
    for at in range(0, len(files["etc/table-loader"]), 128):
        entry = files["etc/table-loader"][at : at + 128]
        (command,) = struct.unpack_from("<I", entry)
        name = entry[4:60].rstrip(b"\0").decode()
        if command == 1:
            align, zone = struct.unpack_from("<IB", entry, 60)
            assert zone in (1, 2)
            assert where[name] % align == 0
            memory[name] = bytearray(files[name])
        elif command == 2:
            source = entry[60:116].rstrip(b"\0").decode()
            offset, size = struct.unpack_from("<IB", entry, 116)
            pointer = int.from_bytes(memory[name][offset : offset + size], "little") + where[source]
            memory[name][offset : offset + size] = pointer.to_bytes(size, "little")
        elif command == 3:
            offset, start, length = struct.unpack_from("<III", entry, 60)
            memory[name][offset] = (memory[name][offset] - sum(memory[name][start : start + length])) & 0xFF
    return memory


def test_table_loader_makes_the_tables_that_a_direct_boot_has(make):
    machine = make()
    names = ("etc/acpi/tables", "etc/acpi/rsdp", "etc/table-loader")
    where = {"etc/acpi/tables": 0x7FF_0000, "etc/acpi/rsdp": 0xF_5000}
    loaded = load_tables({name: file(machine, name) for name in names}, where)

    tables, rsdp = loaded["etc/acpi/tables"], loaded["etc/acpi/rsdp"]
    assert sum(rsdp[:20]) & 0xFF == sum(rsdp) & 0xFF == 0

    def table(address):
        start = address - where["etc/acpi/tables"]
        (length,) = struct.unpack_from("<I", tables, start + 4)
        data = bytes(tables[start : start + length])
        assert sum(data) & 0xFF == 0, data[:4]
        return data

    for root, form in ((struct.unpack_from("<I", rsdp, 16)[0], "<I"), (struct.unpack_from("<Q", rsdp, 24)[0], "<Q")):
        entries = [address for (address,) in struct.iter_unpack(form, table(root)[36:])]
        assert [table(address)[:4] for address in entries] == [b"FACP", b"APIC"]
    fadt = table(entries[0])
    assert table(struct.unpack_from("<I", fadt, 40)[0])[:4] == table(struct.unpack_from("<Q", fadt, 140)[0])[:4] == b"DSDT"
    facs = struct.unpack_from("<I", fadt, 36)[0] - where["etc/acpi/tables"]
    assert tables[facs : facs + 4] == b"FACS"


# -- kernels for the firmware to start


def test_kernel_with_firmware_is_in_items_for_the_option_rom(make, tmp_path, bzimage):
    (tmp_path / "vmlinuz").write_bytes(bzimage(b"K" * 4096))
    (tmp_path / "initrd").write_bytes(b"I" * 5000)
    (tmp_path / "linuxboot_dma.bin").write_bytes(b"\x55\xaaROM")
    boot = {"kernel": value(tmp_path / "vmlinuz"), "initrd": value(tmp_path / "initrd"), "cmdline": value("quiet")}
    machine = make(boot=boot, data_dirs=(str(tmp_path),))

    def number(key):
        return int.from_bytes(item(machine, key, 4), "little")

    assert item(machine, keys.CMDLINE_DATA, number(keys.CMDLINE_SIZE)) == b"quiet\0"
    assert item(machine, keys.KERNEL_DATA, number(keys.KERNEL_SIZE)) == b"K" * 4096
    assert item(machine, keys.INITRD_DATA, number(keys.INITRD_SIZE)) == b"I" * 5000
    assert number(keys.INITRD_ADDR) % 4096 == 0
    setup = item(machine, keys.SETUP_DATA, number(keys.SETUP_SIZE))
    assert struct.unpack_from("<II", setup, 0x218) == (number(keys.INITRD_ADDR), 5000)
    assert file(machine, "genroms/linuxboot_dma.bin") == b"\x55\xaaROM"
    assert file(machine, "bootorder").startswith(b"/rom@genroms/linuxboot_dma.bin\0")


def test_kernel_with_firmware_that_is_no_bzimage_is_refused(make, tmp_path):
    (tmp_path / "vmlinux").write_bytes(b"\x7fELF" + bytes(2000))
    machine = make(boot={"kernel": value(tmp_path / "vmlinux")})
    with pytest.raises(BootError, match="no bzImage; firmware starts nothing else"):
        machine.board.prepare_boot(machine)


def test_kernel_with_firmware_without_its_rom_is_refused(make, tmp_path, bzimage):
    (tmp_path / "vmlinuz").write_bytes(bzimage())
    board = PC()
    machine = make(board=board, boot={"kernel": value(tmp_path / "vmlinuz")})
    machine.find_data_file = lambda *names: None
    with pytest.raises(BootError, match=r"firmware needs linuxboot_dma\.bin"):
        machine.board.prepare_boot(machine)
