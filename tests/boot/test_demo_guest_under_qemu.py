# SPDX-License-Identifier: Apache-2.0
"""The demo guest against QEMU, under software emulation: what it checks is true of somebody else's devices too,
and its checks can fail.
"""

import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
QEMU = shutil.which("qemu-system-x86_64")

pytestmark = pytest.mark.skipif(QEMU is None, reason="qemu-system-x86_64 is not installed")


@pytest.fixture(scope="module")
def guest():
    return runpy.run_path(str(ROOT / "machine/build_guest.py"))["build"]()


@pytest.fixture
def run_demo(guest, tmp_path):
    """Run the guest; its exit status and what it printed."""
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(16 << 20))

    def run(words, *, virtio="", readonly="off", serial="demo0", console="ioeventfd=off"):
        command = [QEMU, "-accel", "tcg", "-m", "64", "-nodefaults", "-display", "none", "-no-reboot"]
        command += ["-kernel", str(guest), "-append", words, "-chardev", "stdio,id=c"]
        command += ["-device", f"virtio-serial-pci,{console}{virtio}", "-device", "virtconsole,chardev=c"]
        command += ["-drive", f"file={image},format=raw,if=none,id=d,readonly={readonly}"]
        command += ["-device", f"virtio-blk-pci,drive=d,serial={serial}{virtio}"]
        for port in "ab":
            command += ["-netdev", f"hubport,id={port},hubid=0", "-device", f"virtio-net-pci,netdev={port}{virtio}"]
        command += ["-device", "isa-debug-exit,iobase=0x501"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout

    return run


@pytest.mark.parametrize(
    ("virtio", "words", "registers"),
    [
        ("", "", "modern"),
        ("", "transport=legacy", "legacy"),
        (",disable-modern=on", "", "legacy"),
        (",disable-legacy=on", "", "modern"),
        (",ioeventfd=off", "", "modern"),
        (",event_idx=off", "", "modern"),
        (",packed=on", "ring=packed", "modern"),
        (",packed=on,event_idx=off", "ring=packed indirect=on", "modern"),
        ("", "indirect=on", "modern"),
        (",disable-modern=on,event_idx=off", "", "legacy"),
    ],
)
def test_demo_guest_passes_its_checks(run_demo, virtio, words, registers):
    if virtio == ",ioeventfd=off":
        status, output = run_demo("disks=1 nics=2 serial=demo0 writable", virtio=virtio, console="max_ports=4")
    else:
        status, output = run_demo(f"disks=1 nics=2 serial=demo0 writable {words}", virtio=virtio)

    assert status == 0, output
    assert "checks passed" in output
    assert "FAILED" not in output
    assert output.count(f", {registers}, ") == 4


@pytest.mark.parametrize(
    ("words", "machine", "failure"),
    [
        ("disks=2", {}, "FAILED: disks found: 1"),
        ("serial=other", {}, "FAILED: disk 0: serial 'demo0'"),
        ("writable", {"readonly": "on"}, "FAILED: disk 0: is writable"),
        ("transport=legacy", {"virtio": ",disable-legacy=on"}, "FAILED: every virtio device can be used"),
    ],
)
def test_demo_guest_with_wrong_expectation_fails_with_a_status(run_demo, words, machine, failure):
    status, output = run_demo(words, **machine)

    assert status == 3
    # without a console nobody hears it
    assert failure in output or "legacy" in words


def test_demo_guest_on_a_read_only_disk_reads_and_is_refused_to_write(run_demo):
    status, output = run_demo("disks=1", readonly="on")

    assert status == 0, output
    assert "ok: disk 0: read-only, refuses to be written" in output


def test_demo_guest_told_to_exit_powers_off_at_once(run_demo):
    assert run_demo("exit") == (0, "")
