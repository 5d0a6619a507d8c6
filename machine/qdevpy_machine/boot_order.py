# SPDX-License-Identifier: Apache-2.0
"""Which device is booted first: letters in CMOS (QEMU: -boot order=), and ``bootindex`` properties as a list for SeaBIOS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qdevpy.pci import config
from qdevpy.pci.device import PCIDevice

if TYPE_CHECKING:
    from qdevpy.definition.model import BootDefinition
    from qdevpy.qdev.device import Device
    from qdevpy.vm.machine import Machine

DEFAULT = "cad"
#: letter -> number in CMOS: floppy, hard disk, CD-ROM, network
NUMBERS = {"a": 1, "b": 1, "c": 2, "d": 3, "n": 4, "o": 4, "p": 4}
CMOS_FIRST_TWO, CMOS_THIRD = 0x3D, 0x38
NO_FLOPPY_SIGNATURE_CHECK = 0x01


def letters(boot: BootDefinition, *, rebooted: bool) -> str:
    """What ``boot.order`` says, or ``boot.once`` until the first reset."""
    if boot.once is not None and not rebooted:
        return boot.once.given
    return DEFAULT if boot.order is None else boot.order.given


def cmos_values(order: str, *, floppy_check: bool) -> dict[int, int]:
    """CMOS registers for up to three letters (QEMU: set_boot_dev in hw/i386/pc.c)."""
    numbers = [NUMBERS.get(letter, 0) for letter in order[:3]] + [0] * 3
    third = numbers[2] << 4 | (0 if floppy_check else NO_FLOPPY_SIGNATURE_CHECK)
    return {CMOS_FIRST_TWO: numbers[1] << 4 | numbers[0], CMOS_THIRD: third}


#: class and subclass -> OpenFirmware's name, and what stands below the function
UNITS = {0x0100: ("scsi", "/disk@0,0"), 0x0200: ("ethernet", "/ethernet-phy@0"), 0x0604: ("pci-bridge", "")}


def firmware_path(device: Device) -> str | None:
    """How SeaBIOS knows a device: its OpenFirmware path; None: it does not."""
    if not isinstance(device, PCIDevice):
        return None
    space = device.config
    numbers = f"pci{space.get(config.VENDOR_ID, 2):x},{space.get(config.DEVICE_ID, 2):x}"
    name, below = UNITS.get(space.get(config.CLASS + 1, 2), (numbers, ""))
    slot, function = device.devfn >> 3, device.devfn & 7
    bridge = device.bus.owner
    above = (firmware_path(bridge) if isinstance(bridge, PCIDevice) else None) or "/pci@i0cf8"
    return f"{above}/{name}@{slot:x}{f',{function:x}' if function else ''}{below}"


def bios_geometry(machine: Machine) -> bytes:
    """Paths of disks, each with the geometry that ``lcyls``, ``lheads`` and ``lsecs`` give it for firmware's old calls."""
    lines = []
    for device in machine.devices():
        path = firmware_path(device)
        if path is not None and "lcyls" in device.all_properties():
            logical = [device.get_property(name) for name in ("lcyls", "lheads", "lsecs")]
            if any(logical):
                lines.append(" ".join(map(str, [path, *logical])))
    return "\n".join(lines).encode() + b"\0" if lines else b""


def bootorder(machine: Machine, *, strict: bool = False) -> bytes:
    """The paths of all devices with a ``bootindex``, lowest first; STRICT: nothing else is tried."""
    found = []
    for device in machine.devices():
        if "bootindex" in device.all_properties():
            index = device.get_property("bootindex")
            path = firmware_path(device)
            if index is not None and index >= 0 and path is not None:
                found.append((index, path))
    lines = [path for _, path in sorted(found)]
    if machine.definition.boot.kernel is not None:
        lines.insert(0, "/rom@genroms/linuxboot_dma.bin")
    if strict:
        lines.append("HALT")
    return "\n".join(lines).encode() + b"\0" if lines else b""
