# SPDX-License-Identifier: Apache-2.0
"""virtio-serial through its registers, legacy and modern: what a driver sees."""

import struct
import threading

import pytest
from console_driver import (
    CONSOLE_PORT,
    CONTROL_IN,
    CONTROL_OUT,
    DEVICE_READY,
    F_EMERG_WRITE,
    F_MULTIPORT,
    F_SIZE,
    PORT_ADD,
    PORT_NAME,
    PORT_OPEN,
    PORT_READY,
    PORT_REMOVE,
    SerialDriver,
    SerialMachine,
    SlowChardev,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ring_forms import FORMS, OFFER

from qdevpy.backend.chardev_socket import SocketChardev
from qdevpy.errors import PropertyError
from qdevpy.pci import config
from qdevpy.testing.driver import LegacyDriver, ModernDriver
from qdevpy.virtio import defs, pci_modern
from qdevpy_virtio_console.control import ControlMessage


@pytest.fixture
def machine():
    with SerialMachine(**OFFER) as made:
        yield made


@pytest.fixture(params=[LegacyDriver, ModernDriver, *FORMS], ids=lambda driver: driver.__name__)
def driver(request, machine):
    return SerialDriver(machine, request.param)


@pytest.fixture
def modern(machine):
    return SerialDriver(machine, ModernDriver)


# -- identity and properties


@pytest.mark.parametrize(
    ("variant", "device_id", "revision"),
    [
        ("virtio-serial-pci", 0x1003, 0),
        ("virtio-serial-pci-transitional", 0x1003, 0),
        ("virtio-serial-pci-non-transitional", 0x1043, 1),
    ],
)
def test_function_has_qemus_identity(variant, device_id, revision):
    with SerialMachine(variant) as machine:
        space = machine.proxy.config
        assert space.get(config.VENDOR_ID, 2) == 0x1AF4
        assert space.get(config.DEVICE_ID, 2) == device_id
        assert space.get(config.REVISION, 1) == revision
        assert space.get(config.CLASS, 3) == 0x078000
        assert machine.proxy.msix.vectors == 2


def test_ioeventfd_is_refused_with_a_reason(machine):
    with pytest.raises(PropertyError, match=r"'ioeventfd' is not available: .* kicks are synchronous by design; remove"):
        machine.types["virtio-serial-pci"].create().set_property("ioeventfd", "off")
    assert "ioeventfd" not in machine.types["virtio-serial-pci"].properties


def test_no_ioeventfd_is_ever_assigned(machine, driver):
    machine.console(machine.chardev("c"))
    driver.start()
    driver.open(0)
    assert driver.send(0, b"x")
    assert not machine.accelerator.ioevents
    assert machine.serial.queues[CONTROL_OUT].counters()["kicks_sync"] > 0


def test_ports_find_their_bus_by_type(machine):
    assert machine.console(None).parent_bus.name == "vser0.0"


# -- the kick completes inside the register write


def test_control_message_is_used_when_the_notify_write_returns(machine, driver):
    machine.console(machine.chardev("c"))
    driver.start()
    queue = driver.queue(CONTROL_OUT)
    for event in (DEVICE_READY, PORT_READY, PORT_OPEN):
        queue.add([ControlMessage(0, event, 1).encode()])
        assert queue.collect() == 0
        queue.kick()
        assert queue.collect() == 1  # no main loop has run: this is the guest's next instruction
    assert machine.serial.bus.port(0).guest_connected


def test_output_is_used_and_written_when_the_notify_write_returns(machine, driver):
    chardev = machine.chardev("c")
    machine.console(chardev)
    driver.start()
    assert driver.send(0, b"line\n")
    assert chardev.read() == b"line\n"


def test_kick_completes_on_the_thread_that_makes_it(machine, modern):
    machine.console(machine.chardev("c"))
    modern.start()
    seen = []
    thread = threading.Thread(target=lambda: seen.append(modern.send(0, b"from a vCPU")))
    thread.start()
    thread.join(10)
    assert seen == [True]


# -- handshake and ports


def test_handshake_of_a_console_and_a_named_port(machine, driver):
    machine.console(machine.chardev("c"))
    machine.serialport(machine.chardev("s"), name="org.example.agent")
    driver.start()
    assert driver.control(0, DEVICE_READY) == [(0, PORT_ADD, 1), (1, PORT_ADD, 1)]
    assert driver.control(0, PORT_READY) == [(0, CONSOLE_PORT, 1), (0, PORT_OPEN, 1)]
    assert driver.control(1, PORT_READY) == [(1, PORT_NAME, 1, b"org.example.agent\0"), (1, PORT_OPEN, 1)]


def test_several_ports_echo_without_mixing(machine, driver):
    chardevs = {0: machine.chardev("c0")}
    machine.console(chardevs[0])
    for number in (1, 2, 3):
        chardevs[number] = machine.chardev(f"c{number}")
        machine.serialport(chardevs[number], nr=number)
    driver.start()
    driver.open(0, 1, 2, 3)
    for number, chardev in chardevs.items():
        driver.offer(number, 64, 64)
        chardev.feed(b"hello %d" % number)
        (got,) = driver.received(number)
        assert driver.send(number, got[:3], got[3:])
        assert chardev.read() == b"hello %d" % number


def test_driver_without_multiport_has_port_zero_only(machine, driver):
    chardev = machine.chardev("c")
    machine.console(chardev)
    machine.serialport(machine.chardev("s"))
    driver.start(features=0)
    driver.offer(0, 16)
    chardev.feed(b"typed")
    assert driver.received(0) == [b"typed"]
    assert driver.send(0, b"printed")
    assert chardev.read() == b"printed"


@pytest.mark.parametrize("event_idx", [False, True])
def test_long_transfer_both_ways(machine, driver, event_idx):
    chardev = machine.chardev("s", size="1M")
    machine.serialport(chardev)
    driver.start(F_MULTIPORT | (1 << defs.F_RING_EVENT_IDX if event_idx else 0))
    driver.open(1)
    sent = bytes(range(256)) * 200
    for start in range(0, len(sent), 1000):
        assert driver.send(1, sent[start : start + 1000])
        driver.taken(5)
    assert chardev.read() == sent
    chardev.feed(sent)
    got = b""
    while len(got) < len(sent):
        driver.offer(1, 1000, 7)
        got += b"".join(driver.received(1))
    assert got == sent


def test_interrupts_come_by_the_vector_of_the_queue(machine, modern):
    chardev = machine.chardev("c")
    machine.console(chardev)
    modern.start(msix=True)
    for index in range(4):
        modern.registers.write(pci_modern.QUEUE_SELECT, index, 2)
        modern.registers.write(pci_modern.QUEUE_VECTOR, 1, 2)
    modern.open(0)
    modern.registers.interrupts(1)
    modern.offer(0, 16)
    assert modern.registers.interrupts(1) == 0
    chardev.feed(b"!")
    assert modern.registers.interrupts(1) == 1
    assert modern.registers.interrupts(0) == 0


def test_interrupts_come_by_intx_otherwise(machine, driver):
    machine.console(machine.chardev("c"))
    driver.start()
    driver.registers.read_isr()
    assert not driver.registers.intx_level
    assert driver.send(0, b"x")
    assert driver.registers.intx_level
    assert driver.registers.read_isr() == 1
    assert not driver.registers.intx_level


# -- backpressure


def test_slow_chardev_holds_the_chain_until_it_takes_more(machine, driver):
    chardev = machine.chardev("s", SlowChardev)
    machine.serialport(chardev)
    driver.start()
    driver.open(1)
    chardev.credit = 3
    assert not driver.send(1, b"abc", b"def")
    assert not driver.send(1, b"next")
    chardev.give(1)
    assert driver.taken(5) == []
    chardev.give(100)
    assert len(driver.taken(5)) == 2
    assert chardev.read() == b"abcdefnext"


def test_held_chain_survives_bus_mastering_going_off_and_on(machine, driver):
    chardev = machine.chardev("s", SlowChardev)
    machine.serialport(chardev)
    driver.start()
    driver.open(1)
    assert not driver.send(1, b"held")
    command = driver.registers.config_read(config.COMMAND, 2)
    driver.registers.config_write(config.COMMAND, command & ~4, 2)
    chardev.give(100)
    assert driver.taken(5) == []
    driver.registers.config_write(config.COMMAND, command, 2)
    assert len(driver.taken(5)) == 1
    assert driver.send(1, b" and more")
    assert chardev.read() == b"held and more"


def test_held_chain_survives_a_pause_of_the_machine(machine, driver):
    chardev = machine.chardev("s", SlowChardev)
    machine.serialport(chardev)
    driver.start()
    driver.open(1)
    driver.offer(1, 16)
    assert not driver.send(1, b"held")
    machine.pause()
    chardev.give(100)
    chardev.feed(b"input")
    machine.run_loop_once()
    assert (driver.taken(5), driver.received(1)) == ([], [])
    machine.start()
    machine.run_loop_once()
    assert (len(driver.taken(5)), driver.received(1)) == (1, [b"input"])
    assert driver.send(1, b" and more")
    assert chardev.read() == b"held and more"


def test_reset_forgets_the_held_chain_and_closes_the_port(machine, driver):
    chardev = machine.chardev("s", SlowChardev)
    port = machine.serialport(chardev)
    driver.start()
    driver.open(1)
    assert not driver.send(1, b"never sent")
    driver.registers.set_status(0)
    assert not port.guest_connected
    chardev.give(100)
    assert chardev.read() == b""
    driver.start()
    driver.open(1)
    assert driver.send(1, b"fresh")
    assert chardev.read() == b"fresh"


# -- hot open, close, plug and unplug


def test_socket_client_coming_and_going_opens_and_closes_the_port(machine, driver, tmp_path):
    import socket

    chardev = machine.chardev("s", SocketChardev, path=str(tmp_path / "s"), server="on")
    machine.serialport(chardev)
    driver.start()
    driver.control(0, DEVICE_READY)
    assert driver.control(1, PORT_READY) == []
    driver.control(1, PORT_OPEN)
    driver.offer(1, 64)
    for _ in range(2):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(chardev.path)
            machine.wait_for(lambda: chardev.is_open, "open")
            assert driver.messages() == [(1, PORT_OPEN, 1)]
            client.sendall(b"ping")
            machine.wait_for(lambda: driver.received(1) == [b"ping"], "ping")
            driver.offer(1, 64)
            assert driver.send(1, b"pong")
            assert client.recv(64) == b"pong"
        machine.wait_for(lambda: not chardev.is_open, "closed")
        assert driver.messages() == [(1, PORT_OPEN, 0)]
        assert driver.send(1, b"to nobody")


def test_port_plugged_and_unplugged_while_the_driver_works(machine, driver):
    driver.start()
    driver.control(0, DEVICE_READY)
    chardev = machine.chardev("s")
    for text in (b"first", b"second"):
        port = machine.serialport(chardev, name="hot")
        assert driver.messages() == [(1, PORT_ADD, 1)]
        driver.control(1, PORT_READY)
        driver.control(1, PORT_OPEN)
        driver.offer(1, 64)
        assert driver.send(1, text)
        assert chardev.read() == text
        chardev.feed(text)
        assert driver.received(1) == [text]
        with machine.lock:
            machine.bus.unplug(port)
        assert driver.messages() == [(1, PORT_REMOVE, 1)]


def test_unplug_gives_a_held_chain_back_before_the_driver_is_told(machine, driver):
    chardev = machine.chardev("s", SlowChardev)
    port = machine.serialport(chardev)
    driver.start()
    driver.open(1)
    driver.messages()
    assert not driver.send(1, b"held")
    machine.bus.unplug(port)
    assert len(driver.taken(5)) == 1
    assert driver.messages() == [(1, PORT_REMOVE, 1)]


def test_buffers_that_the_driver_takes_back_after_removal_are_not_touched(machine, modern):
    """Linux lowers the available index by the buffers that it detaches from a removed port."""
    chardev = machine.chardev("s")
    port = machine.serialport(chardev)
    modern.start()
    modern.open(1)
    modern.offer(1, 8, 8, 8)
    chardev.feed(b"a")
    machine.bus.unplug(port)
    queue, _ = modern.port_queues(1)
    assert modern.received(1) == [b"a"]
    queue.avail_idx -= 2
    queue._store(queue.avail + 2, queue.avail_idx)
    queue.kick()
    again = machine.serialport(chardev)
    modern.control(1, PORT_READY)
    modern.control(1, PORT_OPEN)
    assert again.guest_connected
    modern.offer(1, 8)
    chardev.feed(b"b")
    assert modern.received(1) == [b"b"]
    assert machine.serial.broken is None


# -- config space


def test_config_has_the_number_of_ports(machine, driver):
    assert driver.registers.offered & 7 == F_MULTIPORT | F_EMERG_WRITE
    driver.start()
    assert [driver.registers.read_config(offset, size) for offset, size in ((0, 2), (2, 2), (4, 4), (8, 4))] == [0, 0, 4, 0]


def test_emergency_write_works_before_anything_else(machine, driver):
    chardev = machine.chardev("c")
    machine.console(chardev)
    for byte in b"Oops":
        driver.registers.write_config(8, byte, 4)
    driver.registers.write_config(8, ord("!"), 1)
    assert chardev.read() == b"Oops!"


def test_terminal_size_is_in_the_config_space_and_its_change_is_told(tmp_path):
    class Sized(SlowChardev):
        terminal_size = (120, 50)

    with SerialMachine(console_size="on") as machine:
        driver = SerialDriver(machine, ModernDriver)
        chardev = machine.chardev("c", Sized)
        machine.console(chardev)
        assert driver.registers.offered & F_SIZE
        driver.start(F_MULTIPORT | F_SIZE)
        driver.control(0, DEVICE_READY)
        driver.control(0, PORT_READY)
        Sized.terminal_size = (100, 40)
        driver.registers.read_isr()
        chardev.send_event("resized")
        assert driver.registers.read_isr() & 2
        assert [driver.registers.read_config(offset, 2) for offset in (0, 2)] == [100, 40]
        assert driver.messages() == [(0, 5, 1, struct.pack("<HH", 100, 40))]


# -- hostile drivers


def test_broken_ring_needs_a_reset_and_the_machine_goes_on(machine, driver):
    machine.console(machine.chardev("c"))
    driver.start()
    driver.queue(1).add_raw([(0xFFFF_FFFF_0000, 16, 0)])
    driver.queue(1).kick()
    assert machine.serial.broken is not None
    assert driver.registers.status & defs.STATUS_NEEDS_RESET
    driver.start()
    assert driver.send(0, b"works again")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("control"), st.binary(min_size=1, max_size=16)),
            st.tuples(st.just("message"), st.integers(0, 5), st.integers(0, 9), st.integers(0, 2)),
            st.tuples(st.just("kick"), st.integers(0, 70000)),
            st.tuples(st.just("raw"), st.integers(0, 9), st.integers(0, 1 << 25), st.integers(0, 1 << 25), st.integers(0, 7)),
            st.tuples(st.just("config"), st.integers(0, 16), st.integers(0, 255)),
            st.tuples(st.just("status"), st.sampled_from([0, 1, 3, 7, 11, 15, 255])),
            st.tuples(st.just("feed"), st.binary(max_size=50)),
        ),
        max_size=30,
    )
)
def test_hostile_driver_harms_only_itself(steps):
    with SerialMachine() as machine:
        chardev = machine.chardev("s")
        machine.console(machine.chardev("c", size="4K"))
        machine.serialport(chardev)
        driver = SerialDriver(machine, ModernDriver)
        driver.start()
        for step, *values in steps:
            if step == "control" and driver.queue(CONTROL_OUT).free:
                driver.queue(CONTROL_OUT).add([values[0]])
                driver.queue(CONTROL_OUT).kick()
            elif step == "message" and driver.queue(CONTROL_OUT).free:
                driver.queue(CONTROL_OUT).add([ControlMessage(*values).encode()])
                driver.queue(CONTROL_OUT).kick()
            elif step == "kick":
                driver.registers.write(values[0] % 0x1000, values[0] & 0xFFFF, 2, pci_modern.CAP_NOTIFY)
            elif step == "raw" and driver.queue(values[0]).free:
                driver.queue(values[0]).add_raw([tuple(values[1:])])
                driver.queue(values[0]).kick()
            elif step == "config":
                driver.registers.write_config(values[0], values[1], 1)
            elif step == "status":
                driver.registers.set_status(values[0])
            elif step == "feed":
                chardev.feed(values[0])
            machine.run_loop_once()
        chardev.set_open(False)
        chardev.set_open(True)
        chardev._input.clear()
        chardev.read()
        driver.start()
        driver.open(1)
        driver.offer(1, 64)
        assert driver.send(1, b"alive")
        assert chardev.read() == b"alive"
        chardev.feed(b"still")
        assert driver.received(1) == [b"still"]


def test_control_buffers_too_small_for_a_message_do_no_harm(machine, driver):
    machine.serialport(None)
    driver.registers.start(F_MULTIPORT)
    driver.queue(CONTROL_IN).add(writable=[1])
    driver.queue(CONTROL_IN).add(writable=[3])
    driver.queue(CONTROL_OUT).add([ControlMessage(0, DEVICE_READY, 1).encode()])
    driver.queue(CONTROL_OUT).kick()
    assert driver.taken(CONTROL_IN) == [struct.pack("<I", 1)[:1]]
