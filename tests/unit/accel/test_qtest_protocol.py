# SPDX-License-Identifier: Apache-2.0
"""QEMU's qtest protocol, in this process: a pc without CPU, and a chardev whose other end is the test."""

import base64
import os
import threading
from contextlib import contextmanager

import attrs
import pytest

from qdevpy.accel.base import IoEvent, MsiMessage
from qdevpy.accel.qtest import server as server_module
from qdevpy.accel.qtest.accelerator import QtestAccelerator
from qdevpy.accel.qtest.commands import CommandError, number
from qdevpy.accel.qtest.physical import accesses
from qdevpy.accel.qtest.server import QtestServer, start_server
from qdevpy.backend.chardev import Chardev
from qdevpy.definition.model import MachineDefinition, Position, QtestDefinition, Value
from qdevpy.errors import BackendError, QdevpyError
from qdevpy.vm.machine import Machine
from qdevpy_machine.board import PC

HERE = Position("test")


class Wire(Chardev):
    """The test is at the other end. ``takes``: bytes of output that go before it is full; None: all."""

    type_name = "wire"

    output: bytearray = attrs.field(factory=bytearray, init=False)
    takes: int | None = attrs.field(default=None, init=False)

    def do_write(self, data):
        taken = len(data) if self.takes is None else min(self.takes, len(data))
        if self.takes is not None:
            self.takes -= taken
        self.output += data[:taken]
        return taken

    def say(self, data):
        """As far as there is room, as a stream does; what is left over."""
        while data and (room := self.room()):
            self.deliver(data[:room])
            data = data[room:]
        return data

    def answers(self):
        lines = self.output.decode().splitlines()
        self.output.clear()
        return lines


class Rig:
    """A machine, its server, and the wire to it."""

    def __init__(self, log_file=None):
        definition = MachineDefinition(accel="qtest", rtc={"clock": Value("vm", HERE)})
        self.accel = QtestAccelerator()
        self.machine = Machine(PC(), self.accel, memory_size=16 << 20, cpus=1, definition=definition)
        self.machine.open()
        self.machine.board.build(self.machine)
        self.machine.reset()
        self.machine.start()
        self.wire = Wire(id="qt")
        self.machine.add_backend(self.wire)
        self.server = QtestServer(self.machine, self.wire, log_file)
        self.machine.at_close(self.server.close)
        self.wire.set_open(True)

    def ask(self, line):
        """The lines that come back, the last of which is the answer."""
        assert self.wire.say(line.encode() + b"\n") == b""
        return self.wire.answers()

    def answer(self, line):
        (answer,) = self.ask(line)
        return answer


@contextmanager
def made(log_file=None):
    rig = Rig(log_file)
    with rig.machine, rig.machine.lock:
        yield rig


@pytest.fixture
def rig():
    with made() as rig:
        yield rig


# -- ports and memory


@pytest.mark.parametrize(("suffix", "value"), [("b", 0x12), ("w", 0x1234), ("l", 0x12345678), ("q", 0x123456789ABCDEF0)])
def test_memory_written_in_a_size_reads_back_in_it(rig, suffix, value):
    assert rig.answer(f"write{suffix} 0x1000 {value:#x}") == "OK"
    assert rig.answer(f"read{suffix} 4096") == f"OK 0x{value:016x}"


def test_memory_write_takes_the_low_bits_of_its_value(rig):
    rig.answer("writeb 0x1000 0x1ff")
    assert rig.answer("readw 0x1000") == "OK 0x00000000000000ff"


def test_ports_are_those_of_the_board(rig):
    rig.answer("outl 0xcf8 0x80000000")
    assert rig.answer("inl 0xcfc") == "OK 0x12378086"
    assert rig.answer("inw 0xcfe") == "OK 0x1237"
    assert rig.answer("inb 0xcfd") == "OK 0x0080"
    assert rig.answer("outw 0x80 1") == rig.answer("outb 0x80 1") == "OK"


def test_write_of_a_range_fills_up_with_zeros(rig):
    rig.answer("memset 0x1000 8 0xff")
    assert rig.answer("write 0x1000 4 0x6869") == "OK"
    assert rig.answer("read 0x1000 6") == "OK 0x68690000ffff"
    assert rig.answer("write 0x1000 1 0xabcdef") == "OK"  # more than the size is not looked at
    assert rig.answer("read 0x1000 2") == "OK 0xab69"
    assert rig.answer("write 0x1000 2 0xabc") == "OK"  # an odd digit neither
    assert rig.answer("read 0x1000 2") == "OK 0xab00"


def test_base64_goes_there_and_back(rig):
    data = bytes(range(256))
    assert rig.answer(f"b64write 0x2000 256 {base64.b64encode(data).decode()}") == "OK"
    assert rig.answer("b64read 0x2000 256") == f"OK {base64.b64encode(data).decode()}"
    assert rig.answer("b64write 0x2000 2 AAAA") == "OK"
    assert rig.answer("read 0x2000 3") == "OK 0x000002"


def test_memset_of_nothing_does_nothing(rig):
    assert rig.answer("memset 0x1000 0 0xff") == "OK"


def test_range_over_ram_and_nothing_is_cut(rig):
    end = 16 << 20
    assert rig.answer(f"write {end - 2} 4 0x11223344") == "OK"
    assert rig.answer(f"read {end - 2} 4") == "OK 0x1122ffff"
    assert rig.answer("write 0xfffffffffffffffe 4 0x11223344") == "OK"
    assert rig.answer("read 0xfffffffffffffffe 4") == "OK 0xffffffff"


def test_range_over_registers_is_accesses_of_at_most_four_bytes(rig):
    seen = []
    rig.machine.space.map(
        "mmio", 0xE000_0000, 16, lambda offset, size: offset, lambda offset, value, size: seen.append((offset, value, size))
    )
    assert rig.answer("write 0xe0000001 7 0x01020304050607") == "OK"
    assert seen == [(1, 0x01, 1), (2, 0x0302, 2), (4, 0x07060504, 4)]
    assert rig.answer("readl 0xe0000008") == "OK 0x0000000000000008"
    assert rig.answer("read 0xe0000004 6") == "OK 0x040000000800"


def test_accesses_of_a_processors_sizes_stay_whole():
    assert list(accesses(3, 8)) == [(3, 8)]
    assert list(accesses(3, 3)) == [(3, 1), (4, 2)]


# -- interrupts


def test_interrupt_comes_before_the_answer_of_what_caused_it(rig):
    assert rig.answer("irq_intercept_in ioapic") == "OK"
    assert rig.answer("irq_intercept_in ioapic") == "OK"
    rig.ask("outb 0x70 0x0b")
    rig.ask("outb 0x71 0x42")
    assert rig.ask("clock_step") == ["IRQ raise 8", "OK 976562"]
    rig.ask("outb 0x70 0x0c")
    assert rig.ask("inb 0x71") == ["IRQ lower 8", "OK 0x00c0"]


def test_interrupts_are_not_told_before_they_are_wanted(rig):
    assert rig.ask("set_irq_in ioapic unnamed-gpio-in 5 1") == ["OK"]
    rig.ask("irq_intercept_in ioapic")
    assert rig.ask("set_irq_in ioapic unnamed-gpio-in 5 0") == ["OK"]  # as QEMU: it was never told that it was high
    assert rig.ask("set_irq_in ioapic unnamed-gpio-in 5 1") == ["IRQ raise 5", "OK"]
    assert rig.ask("set_irq_in ioapic unnamed-gpio-in 5 1") == ["OK"]


def test_interrupt_of_another_thread_is_told_in_order(rig):
    rig.ask("irq_intercept_in ioapic")

    def drive():
        for level in (True, False, True):
            rig.accel.set_gsi(11, level)

    thread = threading.Thread(target=drive)
    thread.start()
    thread.join()
    rig.machine.loop.run_once(5)
    assert rig.wire.answers() == ["IRQ raise 11", "IRQ lower 11", "IRQ raise 11"]


def test_second_interception_of_another_device_is_refused(rig):
    assert rig.answer("irq_intercept_out /machine/unattached/device[0]") == "FAIL Unknown device"  # a processor
    rtc = next(device for device in rig.machine.devices() if device.type_name == "mc146818rtc")
    assert rig.answer(f"irq_intercept_out {rtc.qom_path}") == "OK"
    assert rig.answer("irq_intercept_in ioapic") == "FAIL IRQ intercept already enabled"


def test_message_becomes_a_write_to_memory(rig):
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    handle = rig.accel.assign_irqfd(fd, MsiMessage(0x3000, 0x12345678))
    os.eventfd_write(fd, 1)
    rig.machine.loop.run_once(5)
    assert rig.answer("readl 0x3000") == "OK 0x0000000012345678"
    rig.accel.update_irqfd(handle, MsiMessage(0x3004, 0x55))
    os.eventfd_write(fd, 1)
    rig.machine.loop.run_once(5)
    assert rig.answer("readl 0x3004") == "OK 0x0000000000000055"
    rig.accel.deassign_irqfd(handle)
    os.eventfd_write(fd, 1)
    rig.machine.loop.run_once(0)
    assert os.eventfd_read(fd) == 1  # nobody took it
    os.close(fd)


def test_message_to_processors_or_to_a_device_harms_nobody(rig):
    seen = []
    rig.machine.space.map("mmio", 0xE000_0000, 4, lambda *_: 0, lambda *access: seen.append(access))
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    handle = rig.accel.assign_irqfd(fd, MsiMessage(0xFEE0_0000, 0x41))
    os.eventfd_write(fd, 1)
    rig.machine.loop.run_once(5)
    rig.accel.update_irqfd(handle, MsiMessage(0xE000_0000, 0x42))
    os.eventfd_write(fd, 1)
    rig.machine.loop.run_once(5)
    assert seen == [(0, 0x42, 4)]
    rig.accel.deassign_irqfd(handle)
    os.close(fd)


def test_kick_signals_an_eventfd_in_software(rig):
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    event = IoEvent("pio", 0xC000, 2, 1, fd)
    rig.accel.assign_ioevent(event)
    rig.answer("outw 0xc000 1")
    assert os.eventfd_read(fd) == 1
    rig.accel.deassign_ioevent(event)
    os.close(fd)


# -- time


def test_clock_without_timers_stays(rig):
    assert rig.answer("clock_step") == "OK 0"
    assert rig.answer("clock_step 100") == "OK 100"
    assert rig.answer("clock_set 50") == "OK 100"
    assert rig.answer("clock_set 0x200") == "OK 512"
    assert rig.answer("clock_step -5") == "OK 512"


def test_clock_step_ends_with_the_machine(rig):
    def end():
        rig.machine.request_shutdown("somebody said so")

    rig.machine.clock.call_at(10, end)
    rig.machine.clock.call_at(20, pytest.fail)
    assert rig.answer("clock_step 1000") == "OK 10"


# -- clients' mistakes


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("", "FAIL Unknown command ''"),
        ("hello world", "FAIL Unknown command 'hello'"),
        ("inb", "FAIL Missing argument 1 of 'inb'"),
        ("inb 0x10000", "FAIL Invalid number 0x10000: expected less than 0x10000"),
        ("inb  0x10", "FAIL Invalid number ''"),
        ("outb 1 x", "FAIL Invalid number 'x'"),
        ("readb 0x1ffffffffffffffff", "FAIL Invalid number '0x1ffffffffffffffff'"),
        ("read 0 0", "FAIL Invalid size 0"),
        ("read 0 0x7fffffffffffffff", "FAIL Invalid size 9223372036854775807: expected at most 67108864"),
        ("write 0 4 0x", "ERR invalid argument size"),
        ("b64write 0 4 x", "ERR invalid argument size"),
        ("write 0 4 0xzz", "FAIL Invalid data: expected 0x and hexadecimal digits"),
        ("b64write 0 4 abc", "FAIL Invalid data: expected base64"),
        ("irq_intercept_in nothing", "FAIL Unknown device"),
        ("irq_intercept_in /machine", "FAIL Unknown device"),
        ("set_irq_in ioapic other 1 1", "FAIL Unknown interrupt input 'other' 1"),
        ("set_irq_in ioapic unnamed-gpio-in 24 1", "FAIL Unknown interrupt input 'unnamed-gpio-in' 24"),
        ("clock_step soon", "FAIL Invalid number 'soon'"),
        ("module_load hw-display- qxl", "FAIL"),
        ("endianness", "OK little"),
    ],
)
def test_mistake_is_answered_and_the_next_command_works(rig, line, answer):
    assert rig.answer(line) == answer
    assert rig.answer("inb 0x92") == "OK 0x0002"


@pytest.mark.parametrize(
    ("text", "value"),
    [("10", 10), ("0x10", 16), ("0X1f", 31), ("010", 8), ("0", 0), ("-1", (1 << 64) - 1), ("+5", 5)],
)
def test_number_is_read_as_c_reads_it(text, value):
    assert number(text) == value


@pytest.mark.parametrize("text", ["", "-", "0x", "08", "1_0", "0x-1", "٣", " 1", "1" * 100, "0b1"])
def test_number_that_is_none_is_refused(text):
    with pytest.raises(CommandError):
        number(text)


def test_commands_in_pieces_and_in_one_piece_are_the_same(rig):
    for byte in b"inb 0x92\n":
        rig.wire.say(bytes([byte]))
    rig.wire.say(b"inb 0x92\nendianness\ninb")
    assert rig.wire.answers() == ["OK 0x0002", "OK 0x0002", "OK little"]
    rig.wire.say(b" 0x92\n")
    assert rig.wire.answers() == ["OK 0x0002"]


def test_line_without_end_is_forgotten_and_said_so(rig, monkeypatch):
    monkeypatch.setattr(server_module, "LONGEST_LINE", 1000)
    for _ in range(30):
        assert rig.wire.say(b"x" * 100) == b""
    assert len(rig.server._input) <= 1100
    rig.wire.say(b"\nendianness\n")
    assert rig.wire.answers() == ["FAIL Line too long: expected at most 1000 bytes", "OK little"]


def test_device_that_fails_costs_no_answer(rig, caplog):
    def fail():
        raise RuntimeError("a chip")

    rig.machine.clock.call_at(10, fail)
    assert rig.answer("clock_step") == "FAIL Internal error"
    assert "a chip" in caplog.text
    assert rig.answer("endianness") == "OK little"


def test_client_that_does_not_read_is_not_read_from(rig):
    rig.ask("irq_intercept_in ioapic")
    rig.wire.takes = 3
    rest = rig.wire.say(b"endianness\n" * 20_000)
    assert rest  # what was taken waits, the remainder stays with the sender
    rig.accel.set_gsi(3, True)
    rig.wire.takes = None
    rig.wire.writable()
    assert rig.wire.say(rest) == b""
    rig.machine.loop.run_once(1)
    answers = rig.wire.answers()
    assert answers.count("OK little") == 20_000
    assert answers.count("IRQ raise 3") == 1


def test_client_that_comes_after_another_begins_anew(rig):
    rig.wire.say(b"half a comm")
    rig.wire.set_open(False)
    rig.wire.set_open(True)
    assert rig.answer("endianness") == "OK little"


# -- log, and the server's beginning


def test_log_has_every_line(tmp_path):
    with (tmp_path / "log").open("w+") as log_file:
        with made(log_file) as rig:
            rig.ask("endianness")
            rig.wire.set_open(False)
        log_file.seek(0)
        lines = [line.split("] ") for line in log_file.read().splitlines()]
    assert [(sort[:3], text) for sort, text in lines] == [
        ("[I ", "OPENED"),
        ("[R ", "endianness"),
        ("[S ", "OK little"),
        ("[I ", "CLOSED"),
    ]


def started(rig, log=None):
    wire = Wire(id="second")
    rig.machine.add_backend(wire)
    start_server(rig.machine, QtestDefinition(Value("second", HERE), log and Value(log, HERE)))
    return wire


def test_server_takes_its_chardev_for_itself(rig):
    wire = started(rig, "none")
    with pytest.raises(BackendError, match="in use by qtest"):
        wire.take("somebody")


def test_server_that_cannot_write_its_log_does_not_start(rig, tmp_path):
    with pytest.raises(QdevpyError, match=r"qtest: cannot write the log .*No such file"):
        started(rig, str(tmp_path / "no" / "log"))
    assert rig.machine.backend("chardevs", "second").user is None


def test_server_writes_its_log(rig, tmp_path):
    wire = started(rig, str(tmp_path / "log"))
    wire.set_open(True)
    assert "OPENED" in (tmp_path / "log").read_text()
