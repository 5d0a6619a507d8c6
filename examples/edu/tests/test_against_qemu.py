"""The same accesses to QEMU's edu device and to this one, over the qtest protocol: every answer is the same."""

import shutil
import socket
import subprocess
import sys
import time

import pytest
from qdevpy.testing.qtest import QtestClient

QEMU = "qemu-system-x86_64"
BAR, RAM, MSI_TARGET = 0xE0000000, 0x100000, 0x200000
BUFFER = 0x40000
MACHINE = """
machine: pc
accel: qtest
memory: 64M
rtc: {clock: vm}
chardevs:
  qt: {type: socket, path: ./qt.sock}
qtest: {chardev: qt}
devices:
  - edu: {addr: 4}
"""
#: a BIOS that does nothing, so that nothing but the test touches the machine: cli, hlt, and again
IDLE_BIOS = bytes(0xFFF0) + bytes([0xFA, 0xF4, 0xEB, 0xFD]) + bytes(12)

pytestmark = pytest.mark.skipif(
    shutil.which(QEMU) is None, reason=f"{QEMU} is not installed; it is what is compared with"
)


class Edu:
    """A device behind a qtest connection, its BAR placed, I/O and bus mastering on."""

    def __init__(self, client, *, steps_time):
        self.client = client
        self.steps_time = steps_time
        self.config_write(0x10, BAR, 4)
        self.config_write(0x04, 6, 2)

    def config_read(self, offset, size):
        self.client.outl(0xCF8, 0x80002000 | offset & ~3)
        return {1: self.client.inb, 2: self.client.inw, 4: self.client.inl}[size](0xCFC + (offset & 3))

    def config_write(self, offset, value, size):
        self.client.outl(0xCF8, 0x80002000 | offset & ~3)
        {1: self.client.outb, 2: self.client.outw, 4: self.client.outl}[size](0xCFC + (offset & 3), value)

    def read(self, offset, size=4):
        client = self.client
        return {1: client.readb, 2: client.readw, 4: client.readl, 8: client.readq}[size](BAR + offset)

    def write(self, offset, value, size=4):
        client = self.client
        {1: client.writeb, 2: client.writew, 4: client.writel, 8: client.writeq}[size](BAR + offset, value)

    def wait(self, condition):
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, "not within 20 s"
            if self.steps_time:
                self.client.clock_step(10_000_000)

    @property
    def pin(self):
        """The interrupt bit of the status register."""
        return self.config_read(6, 2) >> 3 & 1


@pytest.fixture
def connect(tmp_path):
    """Start a program that connects back over qtest."""
    processes, connections = [], []

    def start(name, command):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / name))
            listener.listen(1)
            processes.append(subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.DEVNULL))
            connections.append(QtestClient.accept(listener))
        return connections[-1]

    yield start
    for connection in connections:
        connection.close()
    for process in processes:
        process.terminate()
        process.wait(30)


@pytest.fixture
def pair(connect, tmp_path):
    (tmp_path / "idle.bin").write_bytes(IDLE_BIOS)
    (tmp_path / "machine.yaml").write_text(MACHINE)
    # Debian's QEMU has no qtest accelerator; its qtest server works under TCG, but time goes by itself there
    words = ["-M", "pc", "-accel", "tcg", "-m", "64", "-nodefaults", "-display", "none", "-bios", "idle.bin"]
    qemu = connect(
        "qemu.sock", [QEMU, *words, "-device", "edu,addr=4", "-qtest", "unix:qemu.sock", "-qtest-log", "none"]
    )
    ours = connect("qt.sock", [sys.executable, "-m", "qdevpy", "boot", "machine.yaml"])
    return Edu(qemu, steps_time=False), Edu(ours, steps_time=True)


def both(pair, action):
    """What ACTION gives for QEMU's device, which must be what it gives for ours."""
    theirs, ours = (action(edu) for edu in pair)
    assert ours == theirs
    return theirs


def test_configuration_spaces_are_the_same_and_so_is_what_can_be_written(pair):
    everything = [both(pair, lambda edu, at=at: edu.config_read(at, 4)) for at in range(0, 0x100, 4)]
    assert everything[0] == 0x11E81234
    for at in (0x04, 0x0C, 0x10, 0x14, 0x30, 0x3C, 0x40, 0x44, 0x48, 0x4C):
        for value in (0xFFFFFFFE, 0):
            both(pair, lambda edu, at=at, value=value: edu.config_write(at, value, 4))
            both(pair, lambda edu, at=at: edu.config_read(at, 4))


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_every_offset_reads_the_same_in_every_size(pair, size):
    for register in (0x80, 0x88, 0x90):
        both(pair, lambda edu, register=register: edu.write(register, 0x1122334455667788 + register, 8))
    both(pair, lambda edu: edu.write(4, 0xA5A5A5A5))
    for offset in (*range(0, 0xB0, 4), 0xFFC, 0x40000, 0xFFFF0):
        both(pair, lambda edu, offset=offset: edu.read(offset, size))
        both(pair, lambda edu, offset=offset: edu.read(offset + size // 2, size))


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_every_register_takes_writes_of_every_size_the_same(pair, size):
    value = 0x0000000CB4A59680 & ((1 << 8 * size) - 1)  # 8 bytes at 4 ask for 12!
    for offset in (0x00, 0x04, 0x20, 0x24, 0x60, 0x64, 0x80, 0x84, 0x88, 0x90, 0x94):
        both(pair, lambda edu, offset=offset: edu.write(offset, value, size))
        both(pair, lambda edu: edu.wait(lambda: not edu.read(0x20) & 1))
        for register in (0x00, 0x04, 0x08, 0x20, 0x24, 0x80, 0x88, 0x90, 0x98):
            both(pair, lambda edu, register=register: edu.read(register, 4 if register < 0x80 else 8))
        both(pair, lambda edu: edu.pin)


@pytest.mark.parametrize("n", [0, 5, 12, 13, 40])
def test_factorials_and_their_interrupt_are_the_same(pair, n):
    both(pair, lambda edu: edu.write(0x20, 0x80))
    both(pair, lambda edu: edu.write(0x08, n))
    both(pair, lambda edu: edu.wait(lambda: edu.read(0x24) == 1))
    for offset in (0x08, 0x20, 0x24):
        both(pair, lambda edu, offset=offset: edu.read(offset))
    assert both(pair, lambda edu: edu.pin) == 1
    both(pair, lambda edu: edu.write(0x64, 1))
    assert both(pair, lambda edu: edu.pin) == 0


def test_transfers_both_ways_are_the_same_and_registers_stand_still_meanwhile(pair):
    def transfer(edu):
        edu.client.memwrite(RAM, bytes(range(200)))
        seen = []
        for source, target, command in ((RAM, BUFFER + 100, 1), (BUFFER + 120, RAM + 0x1000, 7)):
            for register, value in ((0x80, source), (0x88, target), (0x90, 150), (0x98, 2), (0x98, command)):
                edu.write(register, value, 8)
            for register in (0x80, 0x88, 0x90, 0x98):
                edu.write(register, 0, 8)
                edu.write(register, 1, 4)
                seen.append(edu.read(register, 8))
            edu.wait(lambda: not edu.read(0x98) & 1)
            seen += [edu.read(0x98, 8), edu.read(0x24), edu.pin]
        return seen, edu.client.memread(RAM + 0x1000, 160)

    seen, moved = both(pair, transfer)
    assert moved[:130] == bytes(range(20, 150))
    assert seen[-3:] == [6, 0x100, 1]


def test_messages_are_the_same(pair):
    def interrupt(edu):
        edu.client.memset(MSI_TARGET, 16, 0)
        edu.config_write(0x44, MSI_TARGET + 4, 4)
        edu.config_write(0x48, 0, 4)
        edu.config_write(0x4C, 0xBEEF, 2)
        edu.write(0x60, 1)
        pins = [edu.pin]
        edu.config_write(0x42, 1, 2)
        pins.append(edu.pin)
        edu.write(0x60, 2)
        edu.wait(lambda: edu.client.readl(MSI_TARGET + 4))
        pins.append(edu.pin)
        edu.write(0x64, 3)
        return pins, edu.client.memread(MSI_TARGET, 16), edu.read(0x24), edu.config_read(0x40, 4)

    pins, memory, *_ = both(pair, interrupt)
    assert pins == [1, 0, 0]
    assert memory == bytes(4) + b"\xef\xbe" + bytes(10)
