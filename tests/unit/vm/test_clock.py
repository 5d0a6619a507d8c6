# SPDX-License-Identifier: Apache-2.0
"""Virtual time: the host's, which stands still with the machine, and the one that a test moves."""

import pytest

from qdevpy.testing.machine import FakeMachine
from qdevpy.vm.clock import SECOND, Clock, HostClock, SteppedClock


class FakeLoop:
    """Takes one timer at a time, as a clock should need no more."""

    def __init__(self):
        self.timers = []

    def call_later(self, seconds, callback):
        loop = self

        class Timer:
            def cancel(self):
                loop.timers.remove(entry)

        entry = (seconds, callback)
        self.timers.append(entry)
        return Timer()

    def fire(self):
        ((_, callback),) = self.timers
        self.timers.clear()
        callback()


class Host:
    """A host whose clock a test sets."""

    def __init__(self):
        self.now = 7 * SECOND
        self.loop = FakeLoop()
        self.clock = HostClock(self.loop, lambda: self.now)


@pytest.fixture
def host():
    return Host()


def test_host_clock_begins_at_zero_and_stands_still_until_started(host):
    host.now += 100
    assert host.clock.now_ns() == 0
    host.clock.start()
    host.now += 100
    assert host.clock.now_ns() == 100


def test_host_clock_stopped_does_not_count_the_pause(host):
    host.clock.start()
    host.now += 10
    host.clock.stop()
    host.now += 1000
    assert host.clock.now_ns() == 10
    host.clock.start()
    host.clock.start()  # harmless
    host.now += 5
    assert host.clock.now_ns() == 15


def test_host_clock_timers_of_one_loop_wakeup_run_in_order(host):
    seen = []
    host.clock.start()
    host.clock.call_at(2 * SECOND, lambda: seen.append("second"))
    host.clock.call_later(1, lambda: seen.append("first"))
    assert [seconds for seconds, _ in host.loop.timers] == [1]
    host.now += 2 * SECOND
    host.loop.fire()
    assert seen == ["first", "second"]
    assert host.loop.timers == []


def test_host_clock_woken_early_waits_on(host):
    seen = []
    host.clock.start()
    host.clock.call_later(1, lambda: seen.append(1))
    host.now += SECOND // 2
    host.loop.fire()
    assert seen == []
    assert [seconds for seconds, _ in host.loop.timers] == [0.5]


def test_host_clock_stopped_calls_no_timer_before_it_is_started(host):
    seen = []
    host.clock.start()
    host.clock.call_later(1, lambda: seen.append(1))
    host.clock.stop()
    assert host.loop.timers == []
    host.now += 5 * SECOND
    host.clock.start()
    assert [seconds for seconds, _ in host.loop.timers] == [1]


def test_host_clock_timer_that_fails_leaves_the_next_one_waiting(host):
    def fail():
        raise RuntimeError("a chip")

    host.clock.start()
    host.clock.call_at(1, fail)
    host.clock.call_at(SECOND, lambda: None)
    host.now += 1
    with pytest.raises(RuntimeError):
        host.loop.fire()
    assert len(host.loop.timers) == 1


def test_timer_cancelled_is_not_called_and_needs_no_wakeup(host):
    host.clock.start()
    timer = host.clock.call_later(1, pytest.fail)
    timer.cancel()
    timer.cancel()
    assert host.loop.timers == []
    assert host.clock.deadline() is None


def test_stepped_clock_runs_timers_at_their_times_in_order():
    clock = SteppedClock()
    seen = []
    for when in (30, 10, 20, 99):
        clock.call_at(when, lambda: seen.append(clock.now_ns()))
    clock.advance_to(50)
    assert seen == [10, 20, 30]
    assert clock.now_ns() == 50


def test_stepped_clock_timer_set_by_a_timer_runs_in_the_same_step():
    clock = SteppedClock()
    seen = []

    def again():
        seen.append(clock.now_ns())
        clock.call_at(clock.now_ns() + 10, again)

    clock.call_at(10, again)
    clock.advance_to(35)
    assert seen == [10, 20, 30]


def test_stepped_clock_does_not_go_back():
    clock = SteppedClock()
    clock.advance_to(50)
    clock.advance_to(20)
    assert clock.now_ns() == 50


def test_stepped_clock_told_to_stop_stops_between_timers():
    clock = SteppedClock()
    seen = []
    clock.call_at(10, lambda: seen.append(10))
    clock.call_at(20, lambda: seen.append(20))
    clock.advance_to(50, go_on=lambda: not seen)
    assert seen == [10]
    assert clock.now_ns() == 10


def test_clock_itself_has_no_time():
    with pytest.raises(NotImplementedError):
        Clock().now_ns()


def test_machine_paused_stops_its_clock():
    with FakeMachine() as machine:
        assert isinstance(machine.clock, HostClock)
        machine.pause()
        stopped = machine.clock.now_ns()
        seen = []
        with machine.lock:
            machine.clock.call_later(0, lambda: seen.append(machine.clock.now_ns()))
        machine.run_loop_once(0.01)
        assert (machine.clock.now_ns(), seen) == (stopped, [])
        machine.start()
        machine.wait_for(lambda: seen, "timer")
        assert seen[0] > stopped
