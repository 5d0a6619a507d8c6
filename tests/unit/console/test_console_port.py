# SPDX-License-Identifier: Apache-2.0
"""Ports: output with backpressure, input with room, opening and closing, reset, a paused VM."""

import pytest

from qdevpy.virtio import defs

READY, ADD, REMOVE, PORT_READY, CONSOLE, RESIZE, OPEN, NAME = range(8)


@pytest.fixture
def chardev(guest):
    return guest.chardev()


@pytest.fixture
def port(guest, chardev):
    """A serial port, number 1 with queues 4 and 5, open on both sides."""
    made = guest.serialport(chardev)
    guest.start()
    guest.control(0, READY)
    guest.control(1, PORT_READY)
    guest.control(1, OPEN)
    return made


# -- output


def test_output_is_with_the_chardev_when_the_kick_returns(guest, chardev, port):
    assert guest.send(5, b"hello, ", b"world")
    assert chardev.written == b"hello, world"
    assert guest.bindings.interrupts[-1] == 5


def test_output_of_a_console_needs_no_opening(guest, chardev):
    guest.console(chardev)
    guest.start()
    assert guest.send(1, b"early boot")
    assert chardev.written == b"early boot"


def test_slow_chardev_keeps_the_chain_and_goes_on_where_it_stopped(guest, chardev, port):
    chardev.credit = 4
    assert not guest.send(5, b"abc", b"def")
    assert not guest.send(5, b"second")
    assert chardev.written == b"abcd"
    assert port.describe() == ["port 1, guest on, host on, throttle on"]
    chardev.give(1)
    assert (chardev.written, guest.q[5].take()) == (b"abcde", [])
    chardev.give(100)
    assert (chardev.written, len(guest.q[5].take())) == (b"abcdefsecond", 2)
    assert port.describe() == ["port 1, guest on, host on, throttle off"]


def test_slow_console_is_throttled_too_and_a_closed_one_discards(guest, chardev):
    guest.console(chardev)
    guest.start()
    chardev.credit = 0
    assert not guest.send(1, b"waits")
    chardev.set_open(False)
    assert len(guest.q[1].take()) == 1
    assert guest.send(1, b"lost")
    assert chardev.written == b""


def test_host_that_closes_a_throttled_port_frees_the_guest(guest, chardev, port):
    chardev.credit = 0
    assert not guest.send(5, b"never read")
    chardev.set_open(False)
    assert guest.q[5].take() == [b""]
    assert guest.messages() == [(1, OPEN, 0)]
    assert guest.send(5, b"nobody there")
    chardev.set_open(True)
    assert guest.messages() == [(1, OPEN, 1)]
    chardev.credit = 100
    assert guest.send(5, b"back")
    assert chardev.written == b"back"


def test_host_side_opening_is_not_told_before_the_port_is_ready(guest, chardev):
    guest.serialport(chardev)
    guest.start()
    guest.control(0, READY)
    chardev.set_open(False)
    chardev.set_open(True)
    assert guest.messages() == []
    chardev.set_open(False)
    assert guest.control(1, PORT_READY) == []


def test_console_stays_open_to_the_guest_whatever_the_chardev_does(guest, chardev):
    guest.console(chardev)
    guest.start()
    guest.control(0, READY)
    guest.control(0, PORT_READY)
    chardev.set_open(False)
    chardev.send_event("break")
    assert guest.messages() == []


def test_huge_output_is_carried_in_turns(guest, chardev, port):
    queue = guest.q[5]
    big = bytes(range(256)) * 512  # 128 KiB at one address, offered 40 times over: 5 MiB
    heads = [queue.add(out=[big]) for _ in range(40)]
    guest.kick(5)
    after_kick = len(chardev.written)
    assert 1 << 20 <= after_kick < 40 * len(big)
    while len(queue.take()) < 1 or queue.used_idx() < len(heads):
        guest.loop.run_once(0)
    assert len(chardev.written) == 40 * len(big)


def test_output_chain_with_writable_buffers_only_is_given_back(guest, chardev, port):
    guest.q[5].add(into=[10])
    guest.kick(5)
    assert guest.q[5].take() == [b""]


# -- input


def test_input_goes_into_the_guests_buffers_as_they_come(guest, chardev, port):
    chardev.type(b"early")
    assert chardev.waiting == b"early"
    guest.offer(4, 3, 100)
    assert guest.received(4) == [b"ear", b"ly"]
    assert guest.bindings.interrupts[-1] == 4
    guest.offer(4, 100)
    chardev.type(b"late")
    assert guest.received(4) == [b"late"]


def test_input_beyond_the_buffers_waits(guest, chardev, port):
    guest.offer(4, 3)
    chardev.type(b"abcdefgh")
    assert guest.received(4) == [b"abc"]
    chardev.type(b"ij")
    assert chardev.waiting == b"ij"
    guest.offer(4, 4)
    assert guest.received(4) == [b"defg"]
    guest.offer(4, 1, 100)
    assert guest.received(4) == [b"h", b"ij"]


def test_input_while_the_guests_side_is_closed_waits(guest, chardev, port):
    guest.offer(4, 100, 100)
    guest.control(1, OPEN, 0)
    chardev.type(b"later")
    assert guest.received(4) == []
    guest.control(1, OPEN, 1)
    assert guest.received(4) == [b"later"]
    assert chardev.guest_open == [True, False, True]


def test_input_that_the_guest_had_not_got_when_it_closed_is_lost(guest, chardev, port):
    guest.offer(4, 1)
    chardev.type(b"abc")
    guest.control(1, OPEN, 0)
    guest.control(1, OPEN, 1)
    guest.offer(4, 100)
    chardev.type(b"new")
    assert guest.received(4) == [b"a", b"new"]


def test_input_buffers_without_room_are_given_back(guest, chardev, port):
    guest.q[4].add(out=[b"not writable"])
    guest.offer(4, 10)
    chardev.type(b"x")
    assert guest.received(4) == [b"", b"x"]


def test_many_ports_do_not_mix(guest_with):
    guest = guest_with(max_ports=8)
    chardevs = [guest.chardev(f"c{n}") for n in range(8)]
    guest.console(chardevs[0])
    for chardev in chardevs[1:]:
        guest.serialport(chardev)
    guest.start()
    for number, chardev in enumerate(chardevs):
        first = 0 if number == 0 else 2 * number + 2
        guest.control(number, OPEN)
        guest.offer(first, 64)
        assert guest.send(first + 1, b"from %d" % number)
        chardev.type(b"to %d" % number)
        assert guest.received(first) == [b"to %d" % number]
    assert [chardev.written for chardev in chardevs] == [b"from %d" % number for number in range(8)]


# -- a driver without MULTIPORT


def test_port_zero_of_a_simple_driver_is_open_from_driver_ok(guest, chardev):
    port = guest.console(chardev)
    chardev.type(b"typed ahead")
    guest.start(features=0, control_buffers=0)
    guest.offer(0, 100)
    assert guest.received(0) == [b"typed ahead"]
    assert guest.send(1, b"out")
    assert chardev.written == b"out"
    assert port.guest_connected


def test_buffers_offered_before_driver_ok_are_served_soon_after(guest, chardev):
    guest.console(chardev)
    chardev.type(b"now")
    guest.start(features=0, control_buffers=0, early_buffers=[100])
    assert guest.received(0) == [b"now"]


# -- reset and pause


def test_reset_closes_the_guests_side_and_forgets_what_was_in_flight(guest, chardev, port):
    chardev.credit = 2
    assert not guest.send(5, b"abcdef")
    guest.device.reset()
    assert (port.guest_connected, port.is_ready) == (False, False)
    assert chardev.guest_open == [True, False]
    chardev.give(100)
    assert chardev.written == b"ab"
    guest.start()
    guest.control(1, OPEN)
    assert guest.send(5, b"new")
    assert chardev.written == b"abnew"


def test_driver_ok_cleared_closes_the_guests_side(guest, chardev, port):
    guest.device.write_status(defs.STATUS_ACKNOWLEDGE | defs.STATUS_DRIVER)
    assert not port.guest_connected
    chardev.set_open(False)
    assert not guest.device._outbox


def test_paused_vm_gets_nothing_and_catches_up(guest, chardev, port):
    guest.offer(4, 100)
    chardev.credit = 1
    assert not guest.send(5, b"xyz")
    guest.running = False
    guest.bindings.vm_state_changed(False)
    chardev.give(100)
    chardev.type(b"in")
    chardev.set_open(False)
    chardev.set_open(True)
    guest.loop.run_once(0)
    assert (guest.q[5].take(), guest.q[4].take(), guest.q[2].take()) == ([], [], [])
    guest.running = True
    guest.bindings.vm_state_changed(True)
    guest.loop.run_once(0)
    assert (chardev.written, guest.q[5].take(), guest.q[4].take()) == (b"xyz", [b""], [b"in"])
    assert guest.messages() == [(1, OPEN, 0), (1, OPEN, 1)]


def test_closed_while_paused_discards_when_the_vm_goes_on(guest, chardev, port):
    chardev.credit = 0
    assert not guest.send(5, b"gone")
    guest.running = False
    guest.bindings.vm_state_changed(False)
    chardev.set_open(False)
    guest.running = True
    guest.bindings.vm_state_changed(True)
    guest.loop.run_once(0)
    assert guest.q[5].take() == [b""]


def test_port_is_taken_out_with_its_controller(guest_with):
    guest = guest_with()
    chardev = guest.chardev()
    guest.console(chardev)
    guest.device.unrealize()
    assert chardev.user is None
