# SPDX-License-Identifier: Apache-2.0
"""The controller: properties, bus, config space, control messages."""

import logging
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qdevpy.errors import BackendError, PropertyError, RealizeError
from qdevpy.qdev.bus import Bus
from qdevpy.qdev.device import Notification
from qdevpy_virtio_console import control
from qdevpy_virtio_console.control import ControlMessage
from qdevpy_virtio_console.device import port_of_queue
from qdevpy_virtio_console.plugin import qdevpy_devices

READY, ADD, REMOVE, PORT_READY, CONSOLE, RESIZE, OPEN, NAME = range(8)


def test_plugin_offers_controller_and_ports():
    offered = qdevpy_devices()
    assert [cls.type_name for cls in offered] == ["virtio-serial-device", "virtconsole", "virtserialport"]
    assert offered[0].ioeventfd is Notification.FORBIDDEN


def test_controller_has_two_queues_a_port_and_two_for_control(guest_with):
    device = guest_with(max_ports=4).device
    assert [queue.name for queue in device.queues[:6]] == [
        "port0-in",
        "port0-out",
        "control-in",
        "control-out",
        "port1-in",
        "port1-out",
    ]
    assert len(device.queues) == 10
    assert device.vectors_wanted == 5  # of old machines; the default of 'vectors' is 2
    assert [port_of_queue(i) for i in (0, 1, 4, 5, 8, 9)] == [(0, False), (0, True), (1, False), (1, True), (3, False), (3, True)]


@pytest.mark.parametrize("value", [0, 512])
def test_max_ports_out_of_range_is_refused(guest_with, value):
    with pytest.raises(PropertyError, match="from 1 to 511"):
        guest_with(max_ports=value)


def test_bus_is_named_after_the_id_else_counted(guest_with):
    assert guest_with().bus.name == "virtio-serial-bus.0"
    second = guest_with()
    second.buses = [second.bus]
    assert second.device._bus_name() == "virtio-serial-bus.1"
    second.device.id = "vser0"
    assert second.device._bus_name() == "vser0.0"


def test_bus_is_named_after_the_transport_that_the_user_named(guest):
    class Transport:
        id = "front"

    guest.device.parent_bus = Bus("virtio-bus", Transport())
    assert guest.device._bus_name() == "front.0"
    guest.device.parent_bus = None


@pytest.mark.parametrize(("options", "bits"), [({}, 0b110), ({"max_ports": 1}, 0b100), ({"emergency__write": "off"}, 0b010)])
def test_features_follow_properties(guest_with, options, bits):
    assert guest_with(**options).device.host_features() & 0b111 == bits


def test_config_has_ports_and_no_size_by_default(guest):
    assert guest.device.get_config() == struct.pack("<HHII", 0, 0, 31, 0)


def test_config_without_emergency_write_is_eight_bytes(guest_with):
    assert guest_with(emergency__write="off").device.get_config() == struct.pack("<HHI", 0, 0, 31)


def test_config_with_console_size_has_the_terminals(guest_with):
    guest = guest_with(console__size="on")
    chardev = guest.chardev()
    chardev.size = (132, 43)
    guest.console(chardev)
    assert guest.device.get_config()[:4] == struct.pack("<HH", 132, 43)


# -- numbers of ports


def test_ports_get_numbers_and_zero_is_kept_for_a_console(guest):
    first, console, second, other_console = guest.serialport(), guest.console(), guest.serialport(), guest.console()
    assert [port.nr for port in (first, console, second, other_console)] == [1, 0, 2, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nr": 0}, "port 0 of 'virtio-serial-bus.0' is kept for a virtconsole; use 1 to 3"),
        ({"nr": 4}, "'nr': 4: 'virtio-serial-bus.0' has ports 0 to 3"),
        ({"nr": 2}, "'nr': 2: taken by virtserialport"),
        ({"name": "agent"}, "'agent': another port of"),
    ],
)
def test_port_that_does_not_fit_is_refused(guest_with, options, message):
    guest = guest_with(max_ports=4)
    guest.serialport(nr=2, name="agent")
    with pytest.raises(RealizeError, match=message):
        guest.serialport(**options)
    assert len(guest.bus.children) == 1


def test_full_bus_refuses_another_port(guest_with):
    guest = guest_with(max_ports=2)
    guest.serialport()
    with pytest.raises(RealizeError, match=r"all ports of 'virtio-serial-bus\.0' are taken; raise its property 'max_ports'"):
        guest.serialport()


def test_device_that_is_no_port_is_refused(guest):
    class Odd(type(guest.device).__mro__[1]):
        bus_type = "virtio-serial-bus"

    with pytest.raises(RealizeError, match="is no port of"):
        guest.bus.plug(Odd())


def test_chardev_of_another_device_is_refused_and_nothing_stays(guest):
    chardev = guest.chardev()
    guest.console(chardev)
    with pytest.raises(BackendError, match="in use by virtconsole"):
        guest.serialport(chardev)
    assert len(guest.bus.children) == 1


# -- handshake


def test_handshake_adds_every_port_and_tells_what_it_is(guest):
    guest.console(guest.chardev("term"))
    guest.serialport(guest.chardev("agent"), name="org.example.agent")
    guest.start()
    assert guest.control(0, READY) == [(0, ADD, 1), (1, ADD, 1)]
    assert guest.control(0, PORT_READY) == [(0, CONSOLE, 1), (0, OPEN, 1)]
    assert guest.control(1, PORT_READY) == [(1, NAME, 1, b"org.example.agent\0"), (1, OPEN, 1)]


def test_port_without_a_chardev_is_never_open(guest):
    guest.console()
    guest.start()
    guest.control(0, READY)
    assert guest.control(0, PORT_READY) == [(0, CONSOLE, 1)]
    guest.control(0, OPEN)
    assert guest.send(1, b"nobody listens")


def test_messages_wait_for_buffers_of_the_driver(guest):
    for _ in range(5):
        guest.serialport()
    guest.start(control_buffers=2)
    assert guest.control(0, READY) == [(1, ADD, 1), (2, ADD, 1)]
    assert guest.messages() == [(3, ADD, 1), (4, ADD, 1)]
    assert guest.messages() == [(5, ADD, 1)]


def test_message_longer_than_the_drivers_buffer_is_cut(guest, caplog):
    guest.serialport(name="n" * 300)
    guest.start()
    guest.control(1, READY)
    assert guest.control(1, PORT_READY) == [(1, NAME, 1, b"n" * 248)]
    assert "was cut to the driver's buffer of 256" in caplog.text


def test_driver_that_takes_no_messages_costs_a_bounded_amount(guest_with, caplog):
    guest = guest_with(max_ports=2)
    guest.serialport()
    guest.start(control_buffers=0)
    guest.q[2].add = lambda **_: None
    for _ in range(100):
        guest.control(1, READY)
    assert len(guest.device._outbox) == 24
    assert caplog.text.count("takes no control messages") == 1


def test_port_failure_in_the_guest_is_logged(guest, caplog):
    guest.serialport()
    guest.start()
    assert guest.control(1, PORT_READY, 0) == []
    assert "the driver failed to set port 1 up" in caplog.text


def test_device_failure_in_the_guest_is_logged(guest, caplog):
    guest.start()
    assert guest.control(0, READY, 0) == []
    assert "the driver failed to set the device up" in caplog.text


def test_complaints_are_logged_once_a_reset(guest, caplog):
    guest.start()
    with caplog.at_level(logging.WARNING):
        for _ in range(10):
            guest.control(7, OPEN)
        assert len(caplog.records) == 1
        guest.device.reset()
        guest.start()
        guest.control(7, OPEN)
    assert len(caplog.records) == 2


@pytest.mark.parametrize("data", [b"\0", b"\0" * 7, ControlMessage(0, 99, 1).encode(), ControlMessage(1, ADD, 1).encode()])
def test_malformed_message_is_taken_and_ignored(guest, data):
    guest.serialport(guest.chardev())
    guest.start()
    assert guest.raw_control(data) == []
    assert guest.control(1, READY) == [(1, ADD, 1)]


def test_message_in_many_pieces_is_understood(guest):
    guest.serialport()
    guest.start()
    data = ControlMessage(0, READY, 1).encode()
    guest.q[3].add(out=[data[:1], data[1:5], data[5:]])
    guest.kick(3)
    assert guest.messages() == [(1, ADD, 1)]


def test_endless_control_messages_let_others_have_the_lock(guest):
    guest.start()
    for _ in range(40):
        guest.q[3].add(out=[b"\0"])
    guest.kick(3)  # the queue has 32 entries: a driver that offers 40 at once breaks the ring
    assert guest.device.broken is not None
    guest.device.reset()
    guest.start()
    for _ in range(32):
        guest.q[3].add(out=[b"\0"])
    guest.kick(3)
    guest.loop.run_once(0)
    assert guest.q[3].used_idx() == 32


def test_kicks_that_use_up_their_budget_wait_for_one_turn_of_the_main_loop(guest, monkeypatch):
    guest.start()
    posted = []
    monkeypatch.setattr(guest.loop, "call_soon", posted.append)
    for _ in range(5):
        for _ in range(32):
            guest.q[3].add(out=[b"\0"])
        guest.kick(3)
    assert len(posted) == 1
    posted.pop()()
    for _ in range(32):
        guest.q[3].add(out=[b"\0"])
    guest.kick(3)
    assert len(posted) == 1


def test_broken_device_serves_nothing_until_reset(guest, caplog):
    chardev = guest.chardev()
    guest.console(chardev)
    guest.start()
    guest.device.mark_broken("for the test")
    assert not guest.send(1, b"x")
    guest.device.reset()
    guest.start()
    assert guest.send(1, b"y")
    assert chardev.written == b"y"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    messages=st.lists(
        st.one_of(
            st.binary(min_size=1, max_size=20),
            st.builds(
                lambda *m: ControlMessage(*m).encode(), st.integers(0, 5), st.integers(0, 9), st.sampled_from([0, 1, 0xFFFF])
            ),
        ),
        max_size=20,
    )
)
def test_hostile_messages_never_harm(guest_with, messages):
    guest = guest_with(max_ports=4)
    chardev = guest.chardev()
    guest.console(guest.chardev("other"))
    port = guest.serialport(chardev, name="p")
    guest.start()
    for data in messages:
        guest.raw_control(data)
    assert guest.device.broken is None
    guest.control(1, OPEN, 0)
    guest.control(1, OPEN, 1)
    assert port.guest_connected
    assert guest.send(5, b"alive")
    assert chardev.written == b"alive"


# -- emergency write


def test_emergency_write_goes_to_the_first_console_before_the_driver_is_up(guest):
    first, second = guest.chardev("a"), guest.chardev("b")
    guest.console(second, nr=3)
    guest.console(first, nr=0)
    for byte in b"oops":
        guest.device.set_config(8, bytes([byte, 0, 0, 0]))
    assert (first.written, second.written) == (b"oops", b"")


def test_emergency_write_elsewhere_is_ignored(guest):
    chardev = guest.chardev()
    guest.device.set_config(8, b"x")
    guest.console(chardev)
    guest.device.set_config(0, b"ABCD")
    guest.device.set_config(9, b"x")
    guest.device.set_config(8, b"\0\0\0\0")
    assert chardev.written == b""
    guest.device.set_config(4, b"....!")
    assert chardev.written == b"!"


# -- size


def test_resize_is_told_where_it_was_negotiated(guest_with):
    guest = guest_with(console__size="on")
    chardev = guest.chardev()
    chardev.size = (80, 25)
    guest.console(chardev)
    guest.start()
    guest.control(0, READY)
    assert guest.control(0, PORT_READY) == [(0, CONSOLE, 1), (0, RESIZE, 1, struct.pack("<HH", 80, 25)), (0, OPEN, 1)]
    chardev.size = (100, 30)
    chardev.send_event("resized")
    assert guest.messages() == [(0, RESIZE, 1, struct.pack("<HH", 100, 30))]
    assert guest.bindings.config_changes == 1


def test_resize_is_not_told_otherwise(guest):
    chardev = guest.chardev()
    chardev.size = (80, 25)
    guest.console(chardev)
    guest.start()
    guest.control(0, READY)
    guest.control(0, PORT_READY)
    chardev.send_event("resized")
    assert guest.messages() == []
    assert guest.bindings.config_changes == 0


# -- hot plug


def test_port_plugged_while_the_driver_works_is_added(guest):
    guest.start()
    guest.control(0, READY)
    port = guest.serialport(guest.chardev(), name="late")
    assert guest.messages() == [(1, ADD, 1)]
    assert guest.control(1, PORT_READY) == [(1, NAME, 1, b"late\0"), (1, OPEN, 1)]
    guest.bus.unplug(port)
    assert guest.messages() == [(1, REMOVE, 1)]
    assert guest.control(1, PORT_READY) == []


def test_port_plugged_before_the_driver_is_ready_is_added_once(guest):
    guest.start()
    guest.serialport()
    assert guest.messages() == []
    assert guest.control(0, READY) == [(1, ADD, 1)]


def test_unplugged_port_gives_chardev_and_buffers_back(guest):
    chardev = guest.chardev()
    port = guest.serialport(chardev)
    guest.start()
    guest.control(1, OPEN)
    chardev.credit = 2
    assert not guest.send(5, b"abcdef")
    guest.bus.unplug(port)
    assert guest.q[5].take() == [b""]
    assert (chardev.written, chardev.user, chardev.room()) == (b"ab", None, 0)
    assert chardev.guest_open == [True, False]
    chardev.give(100)
    assert guest.send(5, b"to nobody")
    guest.offer(4, 100)
    again = guest.serialport(chardev)
    assert again.nr == 1


def test_console_plugged_into_a_running_driver_without_multiport_is_open(guest_with):
    guest = guest_with(max_ports=1)
    guest.start()
    chardev = guest.chardev()
    assert guest.console(chardev).guest_connected


def test_control_message_round_trip():
    message = ControlMessage(3, control.PORT_NAME, 1, b"name")
    assert ControlMessage.decode(message.encode()) == message
