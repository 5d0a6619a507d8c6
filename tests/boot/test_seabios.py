# SPDX-License-Identifier: Apache-2.0
"""SeaBIOS boots from a virtio-blk disk: firmware that polls, with ioeventfds and without (docs/host-notifiers.md, rule 10)."""

import os
import re
import struct
import subprocess
import sys

import pytest

from qdevpy_machine.board import PC
from qdevpy_machine.rom import DEFAULT

FIRMWARE = [path for folder in PC.data_folders for name in DEFAULT if os.path.isfile(path := os.path.join(folder, name))]

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.needs_host("kvm"),
    pytest.mark.skipif(not FIRMWARE, reason="no SeaBIOS (Debian: seabios)"),
]

#: what the boot sector ends the machine with: isa-debug-exit makes 2 * N + 1 of it
GOOD, BAD = 0x15, 0x01
GREETING = b"sector two, read by firmware\r\n"

BOOT_SECTOR = (
    b"\x31\xc0"  # xor ax, ax
    b"\x8e\xd8\x8e\xc0"  # mov ds, ax; mov es, ax
    b"\xb8\x01\x02"  # mov ax, 0x0201: read one sector
    b"\xbb\x00\x7e"  # mov bx, 0x7e00
    b"\xb9\x02\x00"  # mov cx, 2: the second
    b"\xb6\x00"  # mov dh, 0
    b"\xcd\x13"  # int 0x13
    b"\x72\x14"  # jc bad
    b"\xbe\x00\x7e"  # mov si, 0x7e00
    b"\xac"  # next: lodsb
    b"\x84\xc0"  # test al, al
    b"\x74\x06"  # jz good
    b"\xba\xf8\x03"  # mov dx, 0x3f8
    b"\xee"  # out dx, al
    b"\xeb\xf5"  # jmp next
    b"\xb0\x15"  # good: mov al, 0x15
    b"\xeb\x02"  # jmp end
    b"\xb0\x01"  # bad: mov al, 1
    b"\xba\x01\x05"  # end: mov dx, 0x501
    b"\xee"  # out dx, al
    b"\xf4"  # hlt
).ljust(510, b"\0") + b"\x55\xaa"


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "disk.img"
    path.write_bytes((BOOT_SECTOR + GREETING).ljust(1 << 20, b"\0"))
    return path


def boot(tmp_path, devices, *, extra="", drives="drives: {root: {file: ./disk.img, format: raw}}"):
    """Boot a machine without kernel; the finished process, what came out of its serial port, and SeaBIOS' log."""
    (tmp_path / "machine.yaml").write_text(f"""
machine: pc
accel: kvm
memory: 64M
{extra}
{drives}
chardevs:
  com1: {{type: file, path: ./serial.txt}}
  log: {{type: file, path: ./log.txt}}
devices:
  - isa-serial: {{chardev: com1}}
  - isa-debugcon: {{chardev: log, iobase: 0x402}}
  - isa-debug-exit: {{}}
{devices}
""")
    command = [sys.executable, "-m", "qdevpy", "boot", "-v", str(tmp_path / "machine.yaml")]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    log = tmp_path / "log.txt"
    return done, (tmp_path / "serial.txt").read_bytes(), log.read_text(errors="replace")


def kicks(report, device):
    """Kicks of a device by ioeventfd, and synchronous ones."""
    found = re.search(rf"^{device}: .*kicks: (\d+) by ioeventfd, (\d+) synchronous", report, re.MULTILINE)
    assert found, report
    return int(found[1]), int(found[2])


@pytest.mark.parametrize(
    ("interface", "ioeventfd"),
    [
        ("virtio-blk-pci", "on"),
        ("virtio-blk-pci", "off"),
        ("virtio-blk-pci-transitional", "on"),
        ("virtio-blk-pci-non-transitional", "off"),
    ],
)
def test_seabios_boots_from_virtio_blk(tmp_path, disk, interface, ioeventfd):
    done, serial, log = boot(tmp_path, f"  - {interface}: {{id: disk0, drive: root, ioeventfd: {ioeventfd}}}")
    assert serial == GREETING, log
    assert done.returncode == (GOOD << 1 | 1), done.stderr
    by_ioeventfd, synchronous = kicks(done.stderr, "disk0")
    # the kick by hand when the ioeventfd was assigned counts as synchronous
    assert (by_ioeventfd > 0, synchronous <= 1) == ((True, True) if ioeventfd == "on" else (False, False))


#: what follows the setup header: the kernel's real-mode entry jumps to it
KERNEL_CODE = (
    b"\xba\xf8\x03"  # mov dx, 0x3f8
    b"\xb0\x4b"  # mov al, 'K'
    b"\xee"  # out dx, al
    b"\xb0\x15"  # mov al, 0x15
    b"\xba\x01\x05"  # mov dx, 0x501
    b"\xee"  # out dx, al
    b"\xf4"  # hlt
)


def make_bzimage():
    """A bzImage whose real-mode code says K and ends the machine."""
    head = bytearray(1024)
    head[0x1F1] = 1
    head[0x1FE:0x206] = b"\x55\xaa\xeb\x66HdrS"
    struct.pack_into("<H", head, 0x206, 0x020F)
    head[0x211] = 1
    struct.pack_into("<I", head, 0x22C, 0x7FFF_FFFF)
    head[0x268 : 0x268 + len(KERNEL_CODE)] = KERNEL_CODE
    return bytes(head) + bytes(4096)


@pytest.mark.skipif(
    not os.path.isfile("/usr/share/qemu/linuxboot_dma.bin"), reason="no linuxboot_dma.bin (Debian: qemu-system-data)"
)
def test_seabios_starts_a_kernel_that_it_is_given(tmp_path):
    (tmp_path / "vmlinuz").write_bytes(make_bzimage())
    kernel = "boot: {kernel: ./vmlinuz, firmware: bios-256k.bin, cmdline: quiet}"
    done, serial, log = boot(tmp_path, "", extra=kernel, drives="")
    assert serial == b"K", log
    assert done.returncode == (GOOD << 1 | 1), done.stderr


def test_seabios_starts_again_after_a_reset(tmp_path):
    """A boot sector that resets the machine until CMOS says that it was here: shadow RAM, PCI and ACPI are set up twice."""
    code = (
        b"\xb0\x40\xe6\x70\xe4\x71"  # mov al, 0x40; out 0x70, al; in al, 0x71
        b"\x3c\x5a"  # cmp al, 0x5a
        b"\x74\x0e"  # je second
        b"\xb0\x40\xe6\x70\xb0\x5a\xe6\x71"  # CMOS 0x40 = 0x5a
        b"\xb0\x06\xba\xf9\x0c\xee"  # mov al, 6; mov dx, 0xcf9; out dx, al
        b"\xb0\x15\xba\x01\x05\xee\xf4"  # second: mov al, 0x15; mov dx, 0x501; out dx, al; hlt
    )
    (tmp_path / "disk.img").write_bytes((code.ljust(510, b"\0") + b"\x55\xaa").ljust(1 << 20, b"\0"))
    done, _, log = boot(tmp_path, "  - virtio-blk-pci: {id: disk0, drive: root}")
    assert done.returncode == (GOOD << 1 | 1), log
    assert log.count("Found QEMU fw_cfg") == 2
