# SPDX-License-Identifier: Apache-2.0
"""What the stock kernel boots: an initramfs with virtio's modules, and an ext4 root file system that does the work."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from qdevpy.testing.initramfs import File, initramfs
from qdevpy.testing.kernel import GUEST_MODULES, Kernel

BUSYBOX = Path("/bin/busybox")
PROGRAMS = (
    *("cat", "dd", "echo", "grep", "ifconfig", "mount", "nproc", "poweroff"),
    *("sh", "sha256sum", "sleep", "sync", "uname", "wget"),
)
IMAGE_SIZE = "16M"

HOST_ADDRESS = "192.0.2.1"  # RFC 5737: for documentation, so nobody's
GUEST_ADDRESS = "192.0.2.2"
PORT = 8000
SERIAL_NAME = "org.qdevpy.port"

INITRAMFS_INIT = """\
#!/bin/busybox sh
b=/bin/busybox
$b mkdir /proc /sys /dev /root
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
for module in /modules/*; do $b insmod $module; done
for try in 1 2 3 4 5 6 7 8 9; do [ -c /dev/hvc0 ] && break; $b sleep 1; done
exec </dev/hvc0 >/dev/hvc0 2>&1
for try in 1 2 3 4 5 6 7 8 9; do [ -b /dev/vda ] && break; $b sleep 1; done
if $b mount -t ext4 /dev/vda /root; then
    for folder in proc sys dev; do $b mount --move /$folder /root/$folder; done
    exec $b switch_root /root /sbin/init
fi
echo 'lab: FAILED: no root file system'
$b poweroff -f
"""

#: instead of the one above: says what it has, marks the disk and reboots; with the mark there, powers off
REBOOTING_INIT = """\
#!/bin/busybox sh
b=/bin/busybox
$b mkdir /proc /sys /dev
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
for module in /modules/*; do $b insmod $module; done
for try in 1 2 3 4 5 6 7 8 9; do [ -c /dev/hvc0 ] && [ -b /dev/vda ] && break; $b sleep 1; done
exec </dev/hvc0 >/dev/hvc0 2>&1
boots=$($b head -c 1 /dev/vda)
case $boots in [0-3]) ;; *) boots=0 ;; esac
echo "lab: boot $boots, $($b nproc) cpus, clock $($b cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
[ $boots = 3 ] && $b poweroff -f
echo -n $((boots + 1)) | $b dd of=/dev/vda conv=notrunc,fsync 2>/dev/null
$b reboot -f
"""

ROOT_INIT = f"""\
#!/bin/sh
# Every step says "lab: ok STEP" or "lab: FAILED STEP"; the host reads that, and the files in /data.
export PATH=/bin
step() {{
    name=$1
    shift
    if "$@"; then echo "lab: ok $name"; else echo "lab: FAILED $name"; fi
}}

files() {{
    dd if=/dev/urandom of=/data/written bs=4096 count=512 2>/dev/null &&
    sha256sum /data/written >/data/written.sum && sync &&
    echo 3 >/proc/sys/vm/drop_caches && sha256sum -c /data/written.sum
}}

download() {{
    ifconfig eth0 {GUEST_ADDRESS} netmask 255.255.255.0 up &&
    wget -q -O /data/download http://{HOST_ADDRESS}:{PORT}/payload &&
    sha256sum -c /etc/payload.sum
}}

find_port() {{
    for port in /sys/class/virtio-ports/*; do
        [ "$(cat $port/name 2>/dev/null)" = {SERIAL_NAME} ] && echo "/dev/${{port##*/}}" && return
    done
    return 1
}}

echo_back() {{
    port=$(find_port) && exec 3<>"$port" || return 1
    # without anybody at the other end a read says end of file
    for try in 1 2 3 4 5 6 7 8 9; do
        if read -r line <&3; then
            echo "$line" >&3
            cat <&3 >&3
            exec 3>&-
            return 0
        fi
        sleep 1
    done
    return 1
}}

echo "lab: Linux $(uname -r), $(nproc) cpus"
echo lab: features $(cat /sys/bus/virtio/devices/*/features)
step root grep -q '^/dev/vda / ext4 rw' /proc/mounts
step files files
step network download
step serial echo_back
grep virtio /proc/interrupts
sync
mount -o remount,ro /
echo 'lab: done'
poweroff -f
"""


def make_initramfs(kernel: Kernel, init: str = INITRAMFS_INIT, modules: Sequence[str] = GUEST_MODULES) -> bytes:
    """The initramfs for KERNEL, with INIT for its first program."""
    files = {"init": File(init.encode(), 0o755), "bin/busybox": File(BUSYBOX.read_bytes(), 0o755)}
    return initramfs(files | kernel.modules(modules))


def make_root_image(image: Path, payload: bytes) -> None:
    """An ext4 image whose ``/sbin/init`` is the scenario; it expects PAYLOAD from the network."""
    with tempfile.TemporaryDirectory() as work:
        tree = Path(work)
        for folder in ("bin", "sbin", "etc", "data", "proc", "sys", "dev"):
            (tree / folder).mkdir()
        (tree / "bin/busybox").write_bytes(BUSYBOX.read_bytes())
        (tree / "bin/busybox").chmod(0o755)
        for program in PROGRAMS:
            (tree / "bin" / program).symlink_to("busybox")
        (tree / "sbin/init").write_text(ROOT_INIT)
        (tree / "sbin/init").chmod(0o755)
        (tree / "etc/payload.sum").write_text(f"{hashlib.sha256(payload).hexdigest()}  /data/download\n")
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", work, str(image), IMAGE_SIZE], check=True)


def read_from_image(image: Path, path: str) -> bytes:
    """A file out of an ext4 image."""
    done = subprocess.run(["debugfs", "-R", f"cat {path}", str(image)], check=True, capture_output=True)
    return done.stdout


def check_image(image: Path) -> None:
    """Have e2fsck look at an ext4 image, changing nothing.

    :raises AssertionError: it is not clean
    """
    done = subprocess.run(["e2fsck", "-f", "-n", str(image)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
