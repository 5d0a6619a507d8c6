# SPDX-License-Identifier: Apache-2.0
"""The chardev contract, and the chardevs without another process at the other end: null, ringbuf, file."""

import os

import pytest

from qdevpy.backend.chardev import Chardev
from qdevpy.backend.chardev_file import FileChardev
from qdevpy.backend.chardev_null import NullChardev
from qdevpy.backend.chardev_ringbuf import RingbufChardev
from qdevpy.errors import BackendError


def test_closed_chardev_takes_and_discards_output():
    assert Chardev(id="c").write(b"lost") == 4


def test_attach_to_an_open_chardev_tells_the_device(host, plug):
    assert plug(host.open(NullChardev)).events == ["opened"]


def test_set_open_tells_each_change_once(host, plug):
    chardev = host.open(NullChardev)
    user = plug(chardev)
    for opened in (True, False, False, True):
        chardev.set_open(opened)
    assert user.events == ["opened", "closed", "opened"]


def test_closing_calls_who_waits_for_room(host, plug):
    chardev = host.open(NullChardev)
    called = []
    chardev.on_writable(lambda: called.append(1))
    chardev.set_open(False)
    chardev.writable()
    assert called == [1]


def test_detached_device_is_told_nothing(host, plug):
    chardev = host.open(NullChardev)
    user = plug(chardev)
    chardev.detach()
    chardev.set_open(False)
    chardev.deliver(b"x")
    assert (user.events, user.received, chardev.room()) == (["opened"], b"", 0)


def test_null_takes_everything(host):
    chardev = host.open(NullChardev)
    assert chardev.write(b"x" * 1000) == 1000
    assert chardev.terminal_size is None
    chardev.set_guest_open(True)


def test_ringbuf_full_overwrites_the_oldest(host):
    chardev = host.open(RingbufChardev, size="8")
    assert chardev.write(b"0123456789") == 10
    assert chardev.read(3) == b"234"
    chardev.write(memoryview(b"ab"))
    assert chardev.read() == b"56789ab"
    assert chardev.read() == b""


@pytest.mark.parametrize("size", ["0", "1000"])
def test_ringbuf_size_that_is_no_power_of_two_is_refused(host, size):
    with pytest.raises(BackendError, match=rf"chardev 'c0': size {size}: expected a power of two"):
        host.open(RingbufChardev, size=size)


def test_ringbuf_input_waits_for_the_device(host, plug):
    chardev = host.open(RingbufChardev)
    chardev.feed(b"early ")
    user = plug(chardev, credit=3)
    assert user.received == b"ear"
    user.credit = 100
    chardev.feed(b"late")
    assert user.received == b"early late"


def test_file_is_overwritten(host, tmp_path):
    path = tmp_path / "log"
    path.write_text("a longer text from before")
    chardev = host.open(FileChardev, path=str(path))
    assert chardev.write(b"x" * 200_000) == 200_000
    assert path.read_bytes() == b"x" * 200_000


def test_file_with_append_keeps_what_is_there(host, tmp_path):
    path = tmp_path / "log"
    path.write_text("one ")
    host.open(FileChardev, path=str(path), append="on").write(b"two")
    assert path.read_text() == "one two"


def test_file_input_is_read_as_the_device_has_room(host, plug, tmp_path):
    (tmp_path / "in").write_bytes(bytes(range(256)) * 64)
    chardev = host.open(FileChardev, path=str(tmp_path / "out"), input_path=str(tmp_path / "in"))
    user = plug(chardev, credit=10)
    host.until(lambda: user.credit == 0)
    host.idle()
    user.credit = 1 << 20
    for _ in range(5):
        chardev.resume()
    host.until(lambda: len(user.received) == 16384)
    host.idle()
    assert user.received == bytes(range(256)) * 64
    assert user.events == ["opened"]
    assert chardev.write(b"still") == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "property 'path' is missing"),
        ({"path": "/nowhere/at/all"}, "cannot open '/nowhere/at/all': No such file or directory"),
        ({"path": "/dev/null", "input_path": "/nowhere"}, "cannot open '/nowhere'"),
        ({"path": "/nowhere/x", "input_path": "/dev/null"}, "cannot open '/nowhere/x'"),
    ],
)
def test_file_that_cannot_be_opened_is_an_error(host, options, message):
    with pytest.raises(BackendError, match=message):
        host.open(FileChardev, **options)


def test_full_disk_is_said_once_and_output_is_discarded(host, caplog):
    chardev = host.open(FileChardev, path="/dev/full")
    assert [chardev.write(b"abc") for _ in range(3)] == [3, 3, 3]
    assert [r.message for r in caplog.records] == ["chardev 'c0': No space left on device; its output is discarded from now on"]


def test_slow_fifo_gets_everything_in_order(host, plug, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    user = plug(host.open(FileChardev, path=str(fifo)))
    sent = bytes(range(251)) * 4000  # a pipe's 64 KiB, the buffer's 64 KiB, and the rest waits in the device
    user.send(sent)
    got = b""
    while len(got) < len(sent):
        host.loop.run_once(0)
        try:
            got += os.read(reader, 10_000)
        except BlockingIOError:
            continue
    os.close(reader)
    assert got == sent
    assert user.writable > 1


def test_close_drains_what_waits(host, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    chardev = host.open(FileChardev, path=str(fifo))
    assert chardev.write(b"y" * 70_000) == 70_000
    assert len(os.read(reader, 10_000)) == 10_000
    host.opened.remove(chardev)
    chardev.close()
    got = b""
    while chunk := os.read(reader, 65536):
        got += chunk
    os.close(reader)
    assert len(got) == 60_000


def test_drain_gives_up_on_who_takes_nothing(host, tmp_path, caplog):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    chardev = host.open(FileChardev, path=str(fifo))
    assert chardev.write(b"y" * 70_000) == 70_000
    chardev.drain(0.01)
    os.close(reader)
    assert "the last 4464 bytes of output were not taken" in caplog.text


def test_reader_of_a_fifo_that_goes_loses_the_rest_and_the_device_goes_on(host, plug, tmp_path, caplog):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    user = plug(host.open(FileChardev, path=str(fifo)))
    user.send(b"z" * 200_000)
    os.close(reader)
    host.until(lambda: user.writable)
    assert "Broken pipe" in caplog.text
