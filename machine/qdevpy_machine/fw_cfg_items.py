# SPDX-License-Identifier: Apache-2.0
"""What the firmware configuration device has to tell: numbered items, and files by name."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from qdevpy.errors import BootError
from qdevpy.qdev.kinds import Bool
from qdevpy_machine import layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from qdevpy.definition.model import Value
    from qdevpy.vm.machine import Machine

    Content = bytes | Callable[[], bytes]

SIGNATURE, ID, UUID, RAM_SIZE, NOGRAPHIC, NB_CPUS = range(6)
KERNEL_ADDR, KERNEL_SIZE, KERNEL_CMDLINE, INITRD_ADDR, INITRD_SIZE, BOOT_DEVICE, NUMA, BOOT_MENU, MAX_CPUS = range(7, 16)
KERNEL_ENTRY, KERNEL_DATA, INITRD_DATA, CMDLINE_ADDR, CMDLINE_SIZE, CMDLINE_DATA, SETUP_ADDR, SETUP_SIZE, SETUP_DATA = range(
    0x10, 0x19
)
FILE_DIRECTORY, FIRST_FILE = 0x19, 0x20
X86_LOCAL = 0x8000
IRQ0_OVERRIDE = X86_LOCAL + 2

FEATURE_TRADITIONAL, FEATURE_DMA = 1, 2
NAME_SIZE = 56


class Items:
    """All items and files of one machine, as of now.

    :param slots: files that there is room for
    :raises BootError: a file of the user's cannot be read, or there are too many
    """

    def __init__(self, machine: Machine, *, slots: int, dma: bool) -> None:
        self._items: dict[int, Content] = fixed_items(machine, dma)
        self.files: dict[str, Content] = {}
        for name, content in machine_files(machine).items():
            self.files[name] = content
        self.files.update(barless_roms(machine))
        for name, given in machine.definition.fw_cfg.items():
            self.files[name] = user_file(name, given)
        if machine.definition.boot.kernel is not None and getattr(machine.board, "firmware", None) is not None:
            from qdevpy_machine.linuxboot import kernel_items

            items, files = kernel_items(machine)
            self._items.update(items)
            self.files.update(files)
        if len(self.files) > slots:
            raise BootError(f"fw_cfg: {len(self.files)} files, and there is room for {slots}; set fw_cfg_io.x-file-slots")
        ordered = sorted(self.files)
        for number, name in enumerate(ordered):
            self._items[FIRST_FILE + number] = self.files[name]
        self._items[FILE_DIRECTORY] = lambda: self._directory(ordered)

    def content(self, key: int) -> bytes:
        """What item KEY has; nothing where there is none."""
        found = self._items.get(key, b"")
        if callable(found):
            found = self._items[key] = found()
        return found

    def _directory(self, names: list[str]) -> bytes:
        """Number of files, then for each size, key and name, big-endian (``struct FWCfgFiles``)."""
        directory = struct.pack(">I", len(names))
        for number, name in enumerate(names):
            key = FIRST_FILE + number
            directory += struct.pack(">IHH56s", len(self.content(key)), key, 0, name.encode()[: NAME_SIZE - 1])
        return directory


def fixed_items(machine: Machine, dma: bool) -> dict[int, Content]:
    """The numbered items."""
    definition = machine.definition
    uuid = bytes.fromhex(definition.uuid.given.replace("-", "")) if definition.uuid is not None else bytes(16)
    graphics = bool(getattr(machine.board, "graphics", True))
    return {
        SIGNATURE: b"QEMU",
        ID: struct.pack("<I", FEATURE_TRADITIONAL | (FEATURE_DMA if dma else 0)),
        UUID: uuid,
        RAM_SIZE: struct.pack("<Q", machine.memory_size),
        NOGRAPHIC: struct.pack("<H", not graphics),
        NB_CPUS: struct.pack("<H", machine.cpus),
        MAX_CPUS: struct.pack("<H", machine.cpus),
        NUMA: bytes(8 * (1 + machine.cpus)),
        BOOT_MENU: struct.pack("<H", is_on(definition.boot.menu)),
        IRQ0_OVERRIDE: struct.pack("<I", 1),
    }


def is_on(value: Value | None) -> bool:
    """Whether a setting is there and on."""
    return value is not None and bool(Bool().parse(value.given))


def machine_files(machine: Machine) -> dict[str, Content]:
    """The files that describe the machine to SeaBIOS."""
    from qdevpy_machine.boot_order import bios_geometry, bootorder

    boot = machine.definition.boot
    timeout = -1 if boot.reboot_timeout is None else int(boot.reboot_timeout.given, 0)
    files: dict[str, Content] = {
        "etc/e820": lambda: e820(machine.memory_size),
        "etc/boot-fail-wait": struct.pack("<I", timeout & 0xFFFF_FFFF),
        "bootorder": lambda: bootorder(machine, strict=is_on(boot.strict)),
        "bios-geometry": lambda: bios_geometry(machine),
        # no S3, no S4; S5 is SLP_TYP 0
        "etc/system-states": bytes([0x80, 0, 0, 0, 0, 0x80 | 0]),
    }
    if boot.splash_time is not None:
        files["etc/boot-menu-wait"] = struct.pack("<H", int(boot.splash_time.given, 0) & 0xFFFF)
    if getattr(machine.board, "acpi", "on") != "off":
        from qdevpy_machine.table_loader import acpi_files

        files.update(acpi_files(machine))
    from qdevpy_machine.smbios import smbios_files

    files.update(smbios_files(machine))
    return files


def barless_roms(machine: Machine) -> dict[str, Content]:
    """Option ROMs of functions with ``rombar: 0``.

    :raises RealizeError: one cannot be read
    """
    from qdevpy.pci.device import PCIDevice

    found: dict[str, Content] = {}
    for device in machine.devices():
        if isinstance(device, PCIDevice) and device.rom_path is not None and device.rom is None:
            from qdevpy.pci.rom import read

            found[f"genroms/{os.path.basename(device.rom_path)}"] = read(device, device.rom_path)
    return found


def e820(memory_size: int) -> bytes:
    """RAM and what is reserved besides, ``struct e820_entry``: firmware adds what it takes for itself."""
    entries = [(piece.start, piece.size, layout.E820_RAM) for piece in layout.ram_ranges(memory_size)]
    entries.append((*layout.KVM_PAGES, layout.E820_RESERVED))
    return b"".join(struct.pack("<QQI", *entry) for entry in entries)


def user_file(name: str, given: dict[str, Value] | object) -> bytes:
    """A file of the definition's ``fw_cfg:`` section.

    :raises BootError: it cannot be read
    """
    assert hasattr(given, "get")
    text = given.get("string")
    if text is not None:
        return str(text.given).encode("utf-8", "surrogateescape")
    path = given.get("file").given
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise BootError(f"fw_cfg: {name}: file '{path}': {error.strerror}") from error
