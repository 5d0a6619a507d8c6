# SPDX-License-Identifier: Apache-2.0
"""RTC, keyboard controller, port 0x92, isa-debug-exit, isa-debugcon, and the power management registers."""

import attrs
import pytest

from qdevpy.backend.chardev import Chardev
from qdevpy.errors import RealizeError
from qdevpy_machine.i8042 import I8042
from qdevpy_machine.pm import TIMER_HZ, PMRegisters
from qdevpy_machine.ports import ISADebugCon, ISADebugExit, Port92
from qdevpy_machine.rtc import MC146818

# -- RTC


@pytest.fixture
def rtc(isa):
    rtc = MC146818()
    rtc.host_clock = lambda: 951782399_500_000_000  # 2000-02-28 23:59:59.5 UTC, a Monday
    return isa.plug(rtc)


def cmos(isa, register):
    isa.outb(0x70, register)
    return isa.inb(0x71)


def set_cmos(isa, register, value):
    isa.outb(0x70, register)
    isa.outb(0x71, value)


def read_time(isa):
    return [cmos(isa, register) for register in (0x32, 9, 8, 7, 6, 4, 2, 0)]


def test_rtc_shows_the_hosts_utc_in_bcd(isa, rtc):
    assert read_time(isa) == [0x20, 0x00, 0x02, 0x28, 2, 0x23, 0x59, 0x59]
    isa.step(1)
    assert read_time(isa) == [0x20, 0x00, 0x02, 0x29, 3, 0x00, 0x00, 0x00]


def test_rtc_in_binary_12_hour_mode_says_pm(isa, rtc):
    set_cmos(isa, 0x0B, 0x04)

    assert cmos(isa, 4) == 0x80 | 11
    assert cmos(isa, 0) == 59
    isa.step(1)
    assert cmos(isa, 4) == 12


def test_rtc_update_in_progress_only_at_a_seconds_end(isa, rtc):
    assert not cmos(isa, 0x0A) & 0x80
    isa.step(0.4999)
    assert cmos(isa, 0x0A) & 0x80


def test_rtc_set_by_the_guest_goes_on_from_there(isa, rtc):
    set_cmos(isa, 0x0B, 0x82)
    for register, value in ((0x32, 0x20), (9, 0x31), (8, 0x12), (7, 0x31), (4, 0x12), (2, 0x30), (0, 0x15)):
        set_cmos(isa, register, value)
    isa.step(100)  # nothing moves while SET is on
    assert cmos(isa, 0) == 0x15
    set_cmos(isa, 0x0B, 0x02)
    isa.step(10)

    assert read_time(isa) == [0x20, 0x31, 0x12, 0x31, 4, 0x12, 0x30, 0x25]


def test_rtc_register_written_while_running_sets_it(isa, rtc):
    set_cmos(isa, 4, 0x05)

    assert read_time(isa)[5:] == [0x05, 0x59, 0x59]


def test_rtc_hour_in_12_hour_mode_is_understood(isa, rtc):
    set_cmos(isa, 0x0B, 0x00)
    set_cmos(isa, 4, 0x92)  # 12 PM
    set_cmos(isa, 0x0B, 0x02)

    assert cmos(isa, 4) == 0x12


def test_rtc_set_to_nonsense_keeps_its_time(isa, rtc):
    set_cmos(isa, 8, 0x99)

    assert read_time(isa)[2] == 0x02


def test_rtc_alarm_raises_irq_8_until_register_c_is_read(isa, rtc):
    for register, value in ((5, 0xFF), (3, 0x00), (1, 0x00), (0x0B, 0x22)):
        set_cmos(isa, register, value)
    isa.step(0.499)
    assert not isa.lines.get(8)
    isa.step(0.001)

    assert isa.lines[8]
    assert cmos(isa, 0x0C) == 0xB0
    assert not isa.lines[8]
    assert cmos(isa, 0x0C) == 0


def test_rtc_alarm_at_another_time_stays_quiet(isa, rtc):
    for register, value in ((5, 0x12), (3, 0x00), (1, 0x00), (0x0B, 0x22)):
        set_cmos(isa, register, value)
    isa.step(0.5)

    assert not isa.lines.get(8)


def test_rtc_update_interrupt_comes_every_second(isa, rtc):
    set_cmos(isa, 0x0B, 0x12)
    for _ in range(2):
        isa.step(1)
        assert isa.lines[8]
        assert cmos(isa, 0x0C) & 0x90 == 0x90


def test_rtc_periodic_interrupt_comes_at_its_rate(isa, rtc):
    set_cmos(isa, 0x0B, 0x42)
    for _ in range(3):
        begin = isa.clock.now_ns()
        assert isa.clock.deadline() == begin + 1_000_000_000 // 1024
        isa.clock.advance_to(isa.clock.deadline())
        assert cmos(isa, 0x0C) & 0xC0 == 0xC0

    set_cmos(isa, 0x0A, 0x2F)
    assert isa.clock.deadline() == isa.clock.now_ns() + 500_000_000
    set_cmos(isa, 0x0A, 0x20)
    assert isa.clock.deadline() is None


def test_rtc_update_flag_without_interrupt_is_seen_when_polled(isa, rtc):
    cmos(isa, 0x0C)
    assert cmos(isa, 0x0C) == 0
    isa.step(1)
    assert cmos(isa, 0x0C) & 0x10


def test_rtc_reset_turns_interrupts_off_and_keeps_memory(isa, rtc):
    set_cmos(isa, 0x40, 0x77)
    set_cmos(isa, 0x0B, 0x72)
    rtc.reset()

    assert isa.clock.deadline() is None
    assert cmos(isa, 0x40) == 0x77
    assert cmos(isa, 0x0B) == 0x02
    assert cmos(isa, 0x0D) == 0x80


def test_rtc_registers_c_and_d_cannot_be_written(isa, rtc):
    set_cmos(isa, 0x0D, 0)

    assert cmos(isa, 0x0D) == 0x80


def test_rtc_index_cannot_be_read(isa, rtc):
    isa.outb(0x70, 0x8D)

    assert isa.inb(0x70) == 0xFF
    assert isa.inb(0x71) == 0x80


# -- keyboard controller


@pytest.fixture
def keyboard(isa):
    return isa.plug(I8042())


@pytest.mark.parametrize(
    ("command", "answer"), [(0xAA, 0x55), (0xAB, 0x00), (0xA9, 0xFF), (0x20, 0x34), (0xC0, 0x80), (0xD0, 0x03)]
)
def test_i8042_command_is_answered(isa, keyboard, command, answer):
    isa.outb(0x64, command)

    assert isa.inb(0x64) & 1
    assert isa.inb(0x60) == answer
    assert not isa.inb(0x64) & 1


def test_i8042_pulse_of_reset_line_resets_the_machine(isa, keyboard):
    isa.outb(0x64, 0xFF)
    assert isa.requests == []
    isa.outb(0x64, 0xFE)

    assert isa.requests == [("reset", "keyboard controller reset")]


def test_i8042_output_port_resets_and_keeps_a20(isa, keyboard):
    isa.outb(0x64, 0xD1)
    isa.outb(0x60, 0xDD)
    isa.outb(0x64, 0xD0)
    assert isa.inb(0x60) & 2 == 0
    isa.outb(0x64, 0xD1)
    isa.outb(0x60, 0xFE)

    assert isa.requests == [("reset", "keyboard controller reset")]


def test_i8042_command_byte_has_no_mouse_port(isa, keyboard):
    isa.outb(0x64, 0x60)
    isa.outb(0x60, 0x45)
    isa.outb(0x64, 0xAD)
    isa.outb(0x64, 0x20)
    assert isa.inb(0x60) == 0x75
    isa.outb(0x64, 0xAE)
    isa.outb(0x64, 0x20)

    assert isa.inb(0x60) == 0x65


def test_i8042_keyboard_command_times_out_at_once_with_an_interrupt(isa, keyboard):
    isa.outb(0x64, 0x60)
    isa.outb(0x60, 0x45)
    isa.outb(0x60, 0xF2)

    assert isa.lines[1]
    assert isa.inb(0x64) & 0x41 == 0x41
    assert isa.inb(0x60) == 0xFE
    assert not isa.lines[1]


def test_i8042_mouse_command_times_out(isa, keyboard):
    isa.outb(0x64, 0xD4)
    isa.outb(0x60, 0xF2)

    assert isa.inb(0x64) & 0x61 == 0x61
    assert isa.inb(0x60) == 0xFE


def test_i8042_echo_returns_the_byte(isa, keyboard):
    isa.outb(0x64, 0xD2)
    isa.outb(0x60, 0x1C)

    assert isa.inb(0x60) == 0x1C


# -- single ports


def test_port92_resets_on_a_rising_bit(isa):
    isa.plug(Port92())
    assert isa.inb(0x92) == 2
    isa.outb(0x92, 0)
    assert isa.requests == []
    isa.outb(0x92, 3)
    isa.outb(0x92, 3)

    assert isa.requests == [("reset", "port 0x92 reset")]


def test_debug_exit_ends_the_machine_with_a_status(isa):
    isa.plug(ISADebugExit())
    assert isa.inb(0x501) == 0
    isa.outb(0x501, 0x10)

    assert isa.requests == [("shutdown", "isa-debug-exit: the guest wrote 0x10, status 33", 33)]


def test_debug_exit_ports_are_properties(isa):
    device = ISADebugExit()
    device.set_property("iobase", "0xf4")
    device.set_property("iosize", "4")
    isa.plug(device)
    isa.space.write("pio", 0xF4, 0, 4)

    assert isa.requests[0][2] == 1


def test_debug_exit_beyond_the_last_port_is_refused(isa):
    with pytest.raises(RealizeError, match="expected ports below 0x10000"):
        isa.plug(ISADebugExit(iobase=0xFFFF, iosize=2))


class Kept(Chardev):
    sent: bytearray = attrs.field(factory=bytearray, init=False)

    def do_write(self, data):
        self.sent += bytes(data)
        return len(data)


def test_debugcon_writes_to_its_chardev(isa):
    chardev = Kept(id="log")
    chardev.set_open(True)
    isa.plug(ISADebugCon(chardev=chardev))
    isa.outb(0xE9, ord("!"))

    assert chardev.sent == b"!"
    assert isa.inb(0xE9) == 0xE9


def test_debugcon_without_chardev_is_refused(isa):
    with pytest.raises(RealizeError, match="needs a chardev"):
        isa.plug(ISADebugCon())


# -- power management


class Power:
    """PM registers without a machine."""

    def __init__(self, clock):
        self.sci = False
        self.off = 0
        self.clock = clock
        self.registers = PMRegisters(self.set_sci, self.power_off, clock)

    def set_sci(self, level):
        assert level != self.sci
        self.sci = level

    def power_off(self):
        self.off += 1

    def ticks(self, count):
        self.clock.advance_to(self.clock.now_ns() + -(-count * 1_000_000_000 // TIMER_HZ))


@pytest.fixture
def power(isa):
    power = Power(isa.clock)
    yield power
    power.registers.close()


def test_pm_timer_counts_at_its_rate_in_24_bits(power):
    assert power.registers.read(8, 4) == 0
    power.clock.advance_to(1_000_000_000)
    assert power.registers.read(8, 4) == TIMER_HZ
    power.clock.advance_to(10_000_000_000)
    assert power.registers.read(8, 4) == TIMER_HZ * 10 % (1 << 24)


def test_pm_control_with_sleep_enable_and_type_0_powers_off(power):
    assert power.registers.read(4, 2) == 1
    power.registers.write(4, 0x2001, 2)

    assert power.off == 1
    assert power.registers.read(4, 2) == 1


def test_pm_control_with_another_sleep_type_stays_on(power):
    power.registers.write(4, 0x2000 | 5 << 10, 2)

    assert power.off == 0


def test_pm_control_written_by_bytes_powers_off(power):
    power.registers.write(5, 0x20, 1)

    assert power.off == 1


def test_power_button_raises_sci_until_acknowledged(power):
    power.registers.write(2, 0x0100, 2)
    power.registers.press_power_button()
    assert power.sci
    assert power.registers.read(0, 2) == 0x0100
    power.registers.write(0, 0x0100, 2)

    assert not power.sci
    assert power.registers.read(0, 4) == 0x0100_0000


def test_pm_timer_carry_sets_status_and_interrupts_where_enabled(power):
    power.registers.write(2, 1, 2)
    power.ticks((1 << 23) - 1)
    assert not power.sci
    power.ticks(1)
    assert power.sci

    power.registers.write(0, 1, 2)
    assert not power.sci
    assert power.clock.deadline() is not None


def test_pm_timer_carry_is_seen_when_polled(power):
    power.ticks((1 << 23) - 1000)
    assert power.registers.read(0, 2) == 0
    power.ticks(2000)
    assert power.registers.read(0, 2) == 1


def test_pm_registers_that_are_not_there_read_as_zero(power):
    power.registers.write(0x20, 0xFFFF, 2)
    power.registers.write(6, 0xFFFF, 2)

    assert power.registers.read(0x20, 4) == 0
    assert power.registers.read(6, 2) == 0
