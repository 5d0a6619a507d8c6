# SPDX-License-Identifier: Apache-2.0
"""The demo guest on KVM with disks that QEMU's storage daemon serves."""

import os
import re
import shutil
import subprocess
import sys
import time

import pytest

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.needs_host("kvm"),
    pytest.mark.skipif(shutil.which("qemu-storage-daemon") is None, reason="no qemu-storage-daemon (qemu-system-common)"),
]

MACHINE = """
machine: pc
memory: 64M
boot: {kernel: %(kernel)s, cmdline: "disks=1 serial=vhost_user_blk writable"}
chardevs:
  term: {type: stdio}
  store: {type: socket, path: ./store, %(side)s}
devices:
  - virtio-serial-pci: {id: vser0}
  - virtconsole: {bus: vser0.0, chardev: term}
  - vhost-user-blk-pci: {id: disk0, chardev: store, num-queues: %(queues)d}
  - isa-debug-exit: {iobase: 0x501}
"""


@pytest.fixture
def storage_daemon(tmp_path):
    """Starts a daemon that listens at ``store``; it is there when this returns."""
    (tmp_path / "image").write_bytes(bytes(16 << 20))
    started = []

    def start(queues):
        export = f"vhost-user-blk,id=e,node-name=r,addr.type=unix,addr.path=store,writable=on,num-queues={queues}"
        blockdev = ["--blockdev", "file,node-name=f,filename=image", "--blockdev", "raw,node-name=r,file=f"]
        process = subprocess.Popen(["qemu-storage-daemon", *blockdev, "--export", export], cwd=tmp_path)
        started.append(process)
        end = time.monotonic() + 10
        while not (tmp_path / "store").exists():
            assert process.poll() is None
            assert time.monotonic() < end
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def start_machine(tmp_path, **options):
    import qdevpy_machine

    kernel = os.path.join(os.path.dirname(qdevpy_machine.__file__), "guest", "demo.elf")
    values = {"kernel": kernel, "side": "reconnect: 1", "queues": 1} | options
    (tmp_path / "machine.yaml").write_text(MACHINE % values)
    command = [sys.executable, "-m", "qdevpy", "-v", "boot", str(tmp_path / "machine.yaml")]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=tmp_path, text=True, **pipes)


def boot(tmp_path, **options):
    with start_machine(tmp_path, **options) as machine:
        out, err = machine.communicate(timeout=60)
    return machine.returncode, out, err


@pytest.mark.parametrize("queues", [1, 2])
def test_demo_guest_passes_its_checks_on_a_disk_of_the_storage_daemon(tmp_path, storage_daemon, queues):
    storage_daemon(queues)
    status, out, err = boot(tmp_path, queues=queues)
    assert status == 0, out + err
    assert re.search(r"^demo: \d+ checks passed$", out, re.MULTILINE)
    assert "hung up" not in err
    assert (tmp_path / "image").read_bytes().strip(b"\0")


def test_demo_guest_passes_where_the_machine_starts_before_the_daemon(tmp_path, storage_daemon):
    with start_machine(tmp_path) as machine:
        assert "waiting for the vhost-user back end at" in machine.stderr.readline()
        storage_daemon(1)
        out, err = machine.communicate(timeout=60)
    assert machine.returncode == 0, out + err


def test_machine_without_a_daemon_that_could_come_does_not_start(tmp_path):
    status, _, err = boot(tmp_path, side="server: off")
    assert status == 1
    assert "cannot connect to" in err
    assert "Traceback" not in err
