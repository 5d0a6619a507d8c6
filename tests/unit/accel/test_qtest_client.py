# SPDX-License-Identifier: Apache-2.0
"""A machine in another process, driven over the qtest protocol by our client."""

import socket
import subprocess
import sys

import pytest

from qdevpy.testing.qtest import QtestClient, QtestError

MACHINE = """
machine: pc
accel: qtest
memory: 16M
rtc: {clock: vm}
chardevs:
  qt: {type: socket, path: ./qt.sock}
qtest: {chardev: qt}
devices:
  - virtio-blk-pci: {drive: disk, addr: 4}
drives:
  disk: {driver: null-co, size: 1M}
"""


@pytest.fixture
def client(tmp_path):
    (tmp_path / "machine.yaml").write_text(MACHINE)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "qt.sock"))
        listener.listen(1)
        process = subprocess.Popen([sys.executable, "-m", "qdevpy", "boot", tmp_path / "machine.yaml"], stdin=subprocess.DEVNULL)
        try:
            with QtestClient.accept(listener) as connected:
                yield connected
        finally:
            process.terminate()
            status = process.wait(30)
    assert status == 0


def test_client_reads_and_writes_in_all_sizes(client):
    client.writeb(0x1000, 0x11)
    client.writew(0x1002, 0x2222)
    client.writel(0x1004, 0x33333333)
    client.writeq(0x1008, 0x4444444444444444)
    assert client.readb(0x1000) == 0x11
    assert client.readw(0x1002) == 0x2222
    assert client.readl(0x1004) == 0x33333333
    assert client.readq(0x1008) == 0x4444444444444444
    client.memwrite(0x2000, b"there and back")
    client.memset(0x2000, 5, 0x20)
    assert client.memread(0x2000, 14) == b"      and back"
    client.outl(0xCF8, 0x8000_2000)
    assert client.inl(0xCFC) == 0x1001_1AF4
    client.outw(0x80, 1)
    assert client.inw(0xCFC) == 0x1AF4


def test_client_moves_time_and_sees_interrupts(client):
    client.irq_intercept_in("ioapic")
    client.outb(0x70, 0x0B)
    client.outb(0x71, 0x42)
    assert not client.irq_level(8)
    now = client.clock_step()
    assert client.irq_level(8)
    client.outb(0x70, 0x0C)
    assert client.inb(0x71) & 0xC0 == 0xC0
    assert client.irq_changes == [(8, True), (8, False)]
    assert client.clock_set(now + 10) == client.clock_step(0)
    client.wait_for(lambda: client.irq_levels.get(8, False), step=100_000)
    with pytest.raises(TimeoutError):
        client.wait_for(lambda: False, steps=3)


def test_client_told_no_raises_what_was_said(client):
    with pytest.raises(QtestError, match="FAIL Unknown command 'nonsense'"):
        client.command("nonsense")


def test_client_without_a_server_says_so(tmp_path):
    with pytest.raises(FileNotFoundError):
        QtestClient.connect(str(tmp_path / "nobody"))


def test_client_whose_server_hangs_up_says_so():
    ours, theirs = socket.socketpair()
    theirs.close()
    with QtestClient(ours) as client, pytest.raises(EOFError):
        client.receive()
