# SPDX-License-Identifier: Apache-2.0
"""Chardevs that take keys for switching from their input; logs, FIFOs and datagrams."""

import os
import socket

import pytest

from qdevpy.backend.chardev_null import NullChardev
from qdevpy.backend.chardev_pipe import PipeChardev
from qdevpy.backend.chardev_ringbuf import RingbufChardev
from qdevpy.backend.chardev_udp import UdpChardev
from qdevpy.errors import BackendError


@pytest.fixture
def shared(host):
    return host.open(RingbufChardev, mux="on")


def test_chardev_that_is_not_shared_is_one_for_all(host):
    chardev = host.open(RingbufChardev)
    assert chardev.share() is chardev


def test_ctrl_a_c_gives_the_input_to_the_next(shared, plug):
    serial = plug(shared.share())
    monitor = plug(shared.share(waits=True))
    assert monitor.events == []

    shared.feed(b"a\x01cb\x01cc\x01\x01")
    serial.send(b"out")

    assert (serial.received, monitor.received) == (b"ac\x01", b"b")
    assert monitor.events == ["opened"]
    assert shared.read() == b"out"


def test_input_waits_for_room_and_keys_work_meanwhile(shared, plug):
    serial = plug(shared.share(), 2)
    monitor = plug(shared.share(waits=True))

    shared.feed(b"abcd\x01ce")

    assert (serial.received, monitor.received) == (b"ab", b"e")


def test_room_that_comes_back_lets_input_go_on(shared, plug):
    serial = plug(shared.share(), 1)
    shared.feed(b"ab")
    serial.credit = 5
    serial.chardev.resume()
    assert serial.received == b"ab"


def test_keys_for_break_help_and_the_end(shared, plug, host):
    serial = plug(shared.share())
    shared.feed(b"\x01b\x01h\x01x")
    assert serial.events[-1] == "break"
    assert b"Ctrl-A c" in shared.read()
    assert host.shutdowns == ["Ctrl-A x on chardev 'c0'"]


# -- logs


def logged(host, path, **options):
    chardev = NullChardev(id="c0")
    chardev.set_property("logfile", str(path))
    for name, value in options.items():
        chardev.set_property(name, value)
    chardev.machine = host
    chardev.before_open()
    chardev.open()
    chardev.write(b"hello")
    chardev.close()
    chardev.after_close()
    chardev.after_close()


def test_log_gets_a_copy_of_all_output(host, tmp_path):
    logged(host, tmp_path / "log")
    logged(host, tmp_path / "log")
    assert (tmp_path / "log").read_bytes() == b"hello"
    logged(host, tmp_path / "log", logappend="on")
    assert (tmp_path / "log").read_bytes() == b"hellohello"


def test_log_that_cannot_be_opened_is_an_error(host):
    with pytest.raises(BackendError, match="chardev 'c0': Unable to open logfile /nonexistent/x: No such file"):
        logged(host, "/nonexistent/x")


# -- FIFOs and datagrams


@pytest.mark.parametrize("two", [True, False])
def test_pipe_carries_bytes_both_ways(host, plug, tmp_path, two):
    path = tmp_path / "fifo"
    names = [tmp_path / "fifo.in", tmp_path / "fifo.out"] if two else [path]
    for name in names:
        os.mkfifo(name)
    user = plug(host.open(PipeChardev, path=str(path)))
    to, out = os.open(names[0], os.O_WRONLY | os.O_NONBLOCK), os.open(names[-1], os.O_RDONLY | os.O_NONBLOCK)
    try:
        os.write(to, b"in")
        if two:
            host.until(lambda: user.received == b"in")
            user.send(b"out")
            assert os.read(out, 10) == b"out"
        else:
            assert os.read(out, 10) == b"in"  # its two ends are one
    finally:
        os.close(to)
        os.close(out)
    assert user.chardev.filename == "pipe"


@pytest.mark.parametrize("path", [None, "/nonexistent/fifo"])
def test_pipe_that_is_not_there_is_an_error(host, path):
    with pytest.raises(BackendError, match=r"property 'path' is missing|cannot open '/nonexistent/fifo'"):
        host.open(PipeChardev, **({} if path is None else {"path": path}))


def test_udp_sends_and_receives_datagrams(host, plug):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(10)
        user = plug(host.open(UdpChardev, host="127.0.0.1", port=str(peer.getsockname()[1]), localaddr="127.0.0.1"))
        user.send(b"out")
        data, address = peer.recvfrom(10)
        peer.sendto(b"", address)
        peer.sendto(b"in", address)
        host.until(lambda: user.received == b"in")
    assert data == b"out"
    assert user.chardev.filename == "udp"


def test_udp_peer_that_is_not_there_loses_output_only(host, plug):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        port = peer.getsockname()[1]
    user = plug(host.open(UdpChardev, host="127.0.0.1", port=str(port)))
    for _ in range(4):
        user.send(b"x")
        host.idle()
    assert user.chardev.is_open


@pytest.mark.parametrize(
    ("options", "message"), [({}, "property 'port' is missing"), ({"host": "no.invalid", "port": "1"}, "udp")]
)
def test_udp_that_cannot_be_is_an_error(host, options, message):
    with pytest.raises(BackendError, match=message):
        host.open(UdpChardev, **options)
