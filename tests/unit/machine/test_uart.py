# SPDX-License-Identifier: Apache-2.0
"""The 16550A: what Linux' 8250 driver and a FIFO-less driver see."""

import attrs
import pytest

from qdevpy.backend.chardev import Chardev
from qdevpy.errors import BackendError, RealizeError
from qdevpy_machine.serial import ISASerial
from qdevpy_machine.uart import UART

DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR = range(8)


class Line:
    """A UART and what came out of it."""

    def __init__(self):
        self.sent = bytearray()
        self.accept = 1 << 30
        self.irq = False
        self.edges = 0
        self.rooms = 0
        self.uart = UART(self.set_irq, self.transmit, self.room_made)

    def set_irq(self, level):
        assert level != self.irq
        self.irq = level
        self.edges += level

    def transmit(self, data):
        taken = min(self.accept, len(data))
        self.sent += data[:taken]
        self.accept -= taken
        return taken

    def room_made(self):
        self.rooms += 1

    def read(self, register):
        return self.uart.read(register, 1)

    def write(self, register, value):
        self.uart.write(register, value, 1)


@pytest.fixture
def line():
    return Line()


def test_character_written_goes_out_and_transmitter_is_empty(line):
    line.write(DATA, ord("x"))

    assert line.sent == b"x"
    assert line.read(LSR) == 0x60


def test_transmitter_is_busy_while_nobody_takes_characters(line):
    line.accept = 0
    for character in b"abc":
        line.write(DATA, character)
    assert line.read(LSR) == 0

    line.accept = 100
    line.uart.transmit_more()

    assert line.sent == b"abc"
    assert line.read(LSR) == 0x60


def test_transmitter_with_full_fifo_loses_characters(line):
    line.accept = 0
    for character in range(20):
        line.write(DATA, character)
    line.accept = 100
    line.uart.transmit_more()

    assert line.sent == bytes(range(16))


def test_transmit_more_with_nothing_to_send_does_nothing(line):
    line.uart.transmit_more()

    assert line.sent == b""


def test_transmitter_fifo_cleared_forgets_characters(line):
    line.write(IIR, 1)
    line.accept = 0
    line.write(DATA, 1)
    line.write(IIR, 5)

    assert line.read(LSR) == 0x60
    line.accept = 10
    line.uart.transmit_more()
    assert line.sent == b""


def test_transmitter_interrupt_is_raised_when_enabled_and_cleared_by_reading_iir(line):
    line.write(IER, 2)
    assert line.irq

    assert line.read(IIR) == 0x02
    assert not line.irq
    assert line.read(IIR) == 0x01

    line.write(DATA, 1)
    assert line.irq


def test_transmitter_interrupt_enabled_again_is_raised_again(line):
    line.write(IER, 2)
    line.read(IIR)
    line.write(IER, 0)
    line.write(IER, 2)

    assert line.read(IIR) == 0x02


def test_receiver_without_fifo_takes_one_character(line):
    assert line.uart.room == 1
    line.write(IER, 1)
    line.uart.receive(b"ab")

    assert line.uart.room == 0
    assert line.irq
    assert line.read(IIR) == 0x04
    assert line.read(LSR) == 0x63
    assert line.read(DATA) == ord("a")
    assert not line.irq
    assert line.read(LSR) == 0x60
    assert line.read(DATA) == 0


def test_receiver_with_fifo_times_out_below_trigger_level(line):
    line.write(IER, 1)
    line.write(IIR, 0x81)  # trigger at 8
    assert line.uart.room == 16
    line.uart.receive(b"abc")

    assert line.read(IIR) == 0xCC
    line.uart.receive(b"defgh")
    assert line.read(IIR) == 0xC4
    assert bytes(line.read(DATA) for _ in range(8)) == b"abcdefgh"
    assert line.read(IIR) == 0xC1


def test_receiver_says_when_there_is_room(line):
    line.uart.receive(b"a")
    line.read(DATA)

    assert line.rooms == 1


def test_receiver_fifo_cleared_is_empty(line):
    line.write(IIR, 1)
    line.uart.receive(b"abc")
    line.write(IIR, 3)

    assert line.read(LSR) == 0x60
    assert line.uart.room == 16


def test_break_is_a_line_status_interrupt(line):
    line.write(IER, 5)
    line.uart.receive_break()

    assert line.read(IIR) == 0x06
    assert line.read(LSR) == 0x71
    assert line.read(IIR) == 0x04
    assert line.read(DATA) == 0


def test_fifo_enabled_is_seen_in_iir_and_not_64_bytes(line):
    line.write(IIR, 0xE7)

    assert line.read(IIR) >> 5 == 6


def test_ier_keeps_four_bits(line):
    line.write(IER, 0xFF)
    assert line.read(IER) == 0x0F


def test_divisor_is_kept_behind_dlab(line):
    line.write(LCR, 0x83)
    line.write(0, 0x34)
    line.write(1, 0x12)

    assert (line.read(0), line.read(1), line.read(LCR)) == (0x34, 0x12, 0x83)
    line.write(LCR, 0x03)
    assert line.read(IER) == 0


def test_loopback_returns_characters_and_modem_lines(line):
    line.write(MCR, 0x1A)  # LOOP | OUT2 | RTS, as Linux' autoconfig

    assert line.read(MSR) & 0xF0 == 0x90
    assert line.uart.room == 0
    line.write(DATA, 0x55)
    assert line.sent == b""
    assert line.read(DATA) == 0x55
    line.write(MCR, 0x08)
    assert line.rooms == 1


def test_modem_status_says_somebody_is_there(line):
    assert line.read(MSR) == 0xB0


def test_scratch_register_is_kept(line):
    line.write(SCR, 0xA5)
    assert line.read(SCR) == 0xA5


def test_wide_access_is_taken_as_a_byte(line):
    line.uart.write(SCR, 0x1234, 2)

    assert line.uart.read(SCR, 2) & 0xFFFF == 0xFF34


def test_write_to_read_only_register_is_ignored(line):
    line.write(LSR, 0)
    line.write(MSR, 0xFF)

    assert (line.read(LSR), line.read(MSR)) == (0x60, 0xB0)


# -- the device


class Loopback(Chardev):
    """A chardev that a test feeds."""

    sent: bytearray = attrs.field(factory=bytearray, init=False)
    accept: int = attrs.field(default=1 << 20, init=False)
    waiting: bytearray = attrs.field(factory=bytearray, init=False)

    def do_write(self, data):
        taken = min(self.accept, len(data))
        self.sent += bytes(data[:taken])
        self.accept -= taken
        return taken

    def resume(self):
        while self.waiting and (room := self.room()) > 0:
            chunk = bytes(self.waiting[:room])
            del self.waiting[:room]
            self.deliver(chunk)


@pytest.fixture
def chardev():
    chardev = Loopback(id="term")
    chardev.set_open(True)
    return chardev


def test_serial_passes_characters_both_ways(isa, chardev):
    isa.plug(ISASerial(chardev=chardev))
    for character in b"hello":
        isa.outb(0x3F8, character)
    assert chardev.sent == b"hello"

    chardev.waiting += b"abc"
    chardev.resume()
    assert bytes(isa.inb(0x3F8) for _ in range(3)) == b"abc"


def test_serial_interrupts_on_its_line(isa, chardev):
    isa.plug(ISASerial(chardev=chardev))
    isa.outb(0x3F9, 1)
    chardev.waiting += b"a"
    chardev.resume()
    assert isa.lines == {4: True}

    isa.inb(0x3F8)
    assert isa.lines == {4: False}


def test_serial_goes_on_when_the_chardev_is_writable_again(isa, chardev):
    isa.plug(ISASerial(chardev=chardev))
    chardev.accept = 0
    isa.outb(0x3F8, ord("x"))
    assert isa.inb(0x3FD) == 0

    chardev.accept = 10
    chardev.writable()
    assert chardev.sent == b"x"
    assert isa.inb(0x3FD) == 0x60


def test_serial_hears_a_break(isa, chardev):
    isa.plug(ISASerial(chardev=chardev))
    chardev.send_event("break")

    assert isa.inb(0x3FD) & 0x10


def test_serial_without_chardev_swallows_characters(isa):
    isa.plug(ISASerial())
    isa.outb(0x3F8, 1)

    assert isa.inb(0x3FD) == 0x60


def test_serial_ports_take_the_next_free_index(isa):
    ports = [isa.plug(ISASerial()) for _ in range(4)]

    assert [(p.index, p.iobase, p.irq) for p in ports] == [(0, 0x3F8, 4), (1, 0x2F8, 3), (2, 0x3E8, 4), (3, 0x2E8, 3)]
    with pytest.raises(RealizeError, match="there are 4 serial ports already"):
        isa.plug(ISASerial())


def test_serial_at_another_ones_ports_says_whose_they_are(isa):
    isa.plug(ISASerial(id="first"))

    with pytest.raises(RealizeError, match=r"second \(isa-serial\): ports 0x3fc-0x403: first \(isa-serial\) has 0x3f8-0x3ff"):
        isa.plug(ISASerial(id="second", iobase=0x3FC))
    assert [d.id for d in isa.bus.children] == ["first"]


def test_serial_with_a_chardev_in_use_leaves_nothing_behind(isa, chardev):
    isa.plug(ISASerial(chardev=chardev))

    with pytest.raises(BackendError, match="in use by isa-serial"):
        isa.plug(ISASerial(chardev=chardev))
    isa.plug(ISASerial(index=1))


def test_shared_line_is_up_while_anybody_pulls_it(isa, chardev):
    isa.plug(ISASerial(index=0))
    isa.plug(ISASerial(index=2))
    isa.outb(0x3F9, 2)
    isa.outb(0x3E9, 2)
    isa.outb(0x3F9, 0)
    assert isa.lines == {4: True}

    isa.outb(0x3E9, 0)
    assert isa.lines == {4: False}


def test_unplugged_serial_lets_its_line_go_and_its_ports_free(isa, chardev):
    serial = isa.plug(ISASerial(chardev=chardev))
    isa.outb(0x3F9, 2)
    isa.bus.unplug(serial)

    assert isa.lines == {4: False}
    assert isa.inb(0x3FD) == 0xFF
    assert chardev.user is None
    isa.plug(ISASerial(chardev=chardev))
