# SPDX-License-Identifier: Apache-2.0
"""The real-time clock's finer points: setting it, its divider, alarms in every form, the periodic interrupt."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qdevpy.definition.model import Position, Value
from qdevpy.vm.event_types import RtcChange
from qdevpy_machine.rtc import MC146818, UPDATE_TIME
from qdevpy_machine.rtc_alarm import next_alarm

BINARY, HOUR24, SET = 0x04, 0x02, 0x80
START = 951782399_500_000_000  # 2000-02-28 23:59:59.5 UTC, a Monday


@pytest.fixture
def rtc(isa):
    rtc = MC146818()
    rtc.host_clock = lambda: START
    return isa.plug(rtc)


def cmos(isa, register):
    isa.outb(0x70, register)
    return isa.inb(0x71)


def set_cmos(isa, register, value):
    isa.outb(0x70, register)
    isa.outb(0x71, value)


def set_time(isa, mode, hour, minute, second):
    set_cmos(isa, 0x0B, mode)
    set_cmos(isa, 0x0A, 0x76)
    for register, value in ((4, hour), (2, minute), (0, second)):
        set_cmos(isa, register, value)
    set_cmos(isa, 0x0A, 0x26)


@pytest.mark.parametrize(
    ("mode", "before", "after"),
    [
        (0, (0x12, 0x59, 0x59), (0x01, 0, 0)),
        (0, (0x92, 0x59, 0x59), (0x81, 0, 0)),
        (0, (0x11, 0x59, 0x59), (0x92, 0, 0)),
        (0, (0x91, 0x59, 0x59), (0x12, 0, 0)),
        (BINARY, (0x8C, 59, 59), (0x81, 0, 0)),
        (BINARY, (0x0B, 59, 59), (0x8C, 0, 0)),
        (HOUR24, (0x09, 0x59, 0x59), (0x10, 0, 0)),
        (HOUR24 | BINARY, (23, 59, 59), (0, 0, 0)),
    ],
)
def test_rtc_hour_ends_in_every_mode(isa, rtc, mode, before, after):
    set_time(isa, mode, *before)
    isa.step(1)
    assert (cmos(isa, 4), cmos(isa, 2), cmos(isa, 0)) == after


def test_rtc_divider_reset_stops_time_and_the_first_update_is_half_a_second_after(isa, rtc):
    set_time(isa, HOUR24, 0x02, 0x04, 0x58)
    set_cmos(isa, 0x0A, 0x76)
    isa.step(1)
    assert cmos(isa, 0) == 0x58
    assert not cmos(isa, 0x0A) & 0x80

    set_cmos(isa, 0x0A, 0x26)
    isa.clock.advance_to(isa.clock.now_ns() + 500_000_000 - UPDATE_TIME - 1)
    assert not cmos(isa, 0x0A) & 0x80
    isa.clock.advance_to(isa.clock.now_ns() + 1)
    assert cmos(isa, 0x0A) & 0x80
    assert cmos(isa, 0) == 0x58
    isa.clock.advance_to(isa.clock.now_ns() + UPDATE_TIME)
    assert cmos(isa, 0) == 0x59


def test_rtc_century_has_a_second_name(isa, rtc):
    set_cmos(isa, 0x37, 0x19)
    assert cmos(isa, 0x32) == cmos(isa, 0x37) == 0x19


def test_rtc_alarm_of_the_morning_stays_quiet_in_the_afternoon(isa, rtc):
    set_time(isa, BINARY, 3, 0, 0)
    for register, value in ((5, 2), (3, 0xC0), (1, 0xC0)):
        set_cmos(isa, register, value)
    cmos(isa, 0x0C)
    isa.step(11 * 3600)
    assert cmos(isa, 4) == 0x82
    assert not cmos(isa, 0x0C) & 0x20


def test_rtc_alarm_that_was_missed_while_nobody_looked_is_in_the_flags(isa, rtc):
    set_time(isa, HOUR24 | BINARY, 3, 0, 0)
    for register, value in ((5, 4), (3, 30), (1, 10)):
        set_cmos(isa, register, value)
    cmos(isa, 0x0C)
    isa.step(7200)
    assert cmos(isa, 0x0C) & 0x30 == 0x30


def test_rtc_alarm_interrupt_is_set_for_its_second_alone(isa, rtc):
    set_time(isa, HOUR24 | BINARY, 3, 0, 0)
    for register, value in ((5, 4), (3, 0), (1, 0), (0x0B, 0x26)):
        set_cmos(isa, register, value)
    assert isa.clock.deadline() == isa.clock.now_ns() + 3599_500_000_000
    set_cmos(isa, 5, 99)  # no such hour
    assert isa.clock.deadline() is None


def test_rtc_rate_changed_in_the_midst_counts_from_the_last_interrupt(isa, rtc):
    set_cmos(isa, 0x0A, 0x2D)  # 8 Hz
    set_cmos(isa, 0x0B, 0x42)
    begin = isa.clock.now_ns()
    isa.step(0.125)
    assert cmos(isa, 0x0C) & 0x40
    isa.step(0.1)
    set_cmos(isa, 0x0A, 0x2F)  # 2 Hz
    assert isa.clock.deadline() == begin + 625_000_000


def test_rtc_set_by_the_guest_is_told(isa, rtc):
    events = []
    isa.events.subscribe(events.append)
    set_cmos(isa, 9, 0x01)
    assert [type(event) for event in events] == [RtcChange]
    assert events[0].offset == 366 * 86400  # 2000-02-28 to 2001-02-28


@pytest.mark.parametrize(
    ("base", "expected"),
    [("2006-06-17T16:01:21", (0x06, 0x06, 0x17, 0x16, 0x01, 0x21)), ("2031-12-01", (0x31, 0x12, 1, 0, 0, 0))],
)
def test_rtc_starts_at_the_date_of_the_definition(isa, base, expected):
    isa.definition = isa.definition._replace(rtc={"base": Value(base, Position("test")), "clock": Value("vm", Position("test"))})
    isa.plug(MC146818())
    assert tuple(cmos(isa, register) for register in (9, 8, 7, 4, 2, 0)) == expected


@settings(deadline=None, max_examples=40)
@given(
    after=st.integers(0, 3 * 86400),
    hour=st.none() | st.integers(0, 25),
    minute=st.none() | st.integers(0, 61),
    second=st.none() | st.integers(0, 61),
)
def test_next_alarm_is_the_first_second_that_matches(after, hour, minute, second):
    def matches(t):
        return all(
            wanted is None or wanted == present
            for wanted, present in ((hour, t // 3600 % 24), (minute, t // 60 % 60), (second, t % 60))
        )

    found = next_alarm(after, hour, minute, second)
    if found is None:
        assert (hour or 0) > 23 or (minute or 0) > 59 or (second or 0) > 59
    else:
        assert matches(found)
        assert not any(matches(t) for t in range(after + 1, found))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(writes=st.lists(st.tuples(st.integers(0, 15), st.integers(0, 255), st.integers(0, 2_000_000_000)), max_size=60))
def test_rtc_takes_any_write_at_any_time(isa, rtc, writes):
    for register, value, ns in writes:
        set_cmos(isa, register, value)
        cmos(isa, register)
        isa.clock.advance_to(isa.clock.now_ns() + ns)
