# SPDX-License-Identifier: Apache-2.0
"""SeaBIOS boots from a virtio-blk disk: firmware that polls, with ioeventfds and without (docs/host-notifiers.md, rule 10)."""

import os
import re
import subprocess
import sys

import pytest

from qdevpy_machine.board import PC
from qdevpy_machine.rom import DEFAULT

FIRMWARE = [path for folder in PC.data_folders for name in DEFAULT if os.path.isfile(path := os.path.join(folder, name))]

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="no /dev/kvm that may be used"),
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


def boot(tmp_path, devices, *, extra=""):
    """Boot a machine without kernel; the finished process, what came out of its serial port, and SeaBIOS' log."""
    (tmp_path / "machine.yaml").write_text(f"""
machine: pc
accel: kvm
memory: 64M
{extra}
drives:
  root: {{file: ./disk.img, format: raw}}
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
