# SPDX-License-Identifier: Apache-2.0
import os
import termios

import pytest

from qdevpy.backend.chardev_pty import PtyChardev
from qdevpy.errors import BackendError


@pytest.fixture
def chardev(host):
    return host.open(PtyChardev, "term")


@pytest.fixture
def client(chardev):
    """The other side, as a terminal program opens it."""
    fd = os.open(chardev.device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    yield fd
    try:
        os.close(fd)
    except OSError:
        return  # the test has closed it


def test_name_is_printed_as_qemu_prints_it(host, capsys):
    chardev = host.open(PtyChardev, "term")
    assert capsys.readouterr().err == f"char device redirected to {chardev.device} (label term)\n"


def test_closed_until_somebody_opens_it(host, plug, chardev):
    user = plug(chardev)
    assert chardev.write(b"nobody there") == 12
    assert user.events == []
    fd = os.open(chardev.device, os.O_RDWR | os.O_NOCTTY)
    host.until(lambda: user.events == ["opened"])
    os.close(fd)
    host.until(lambda: user.events == ["opened", "closed"])


def test_open_close_and_open_again_carries_bytes_both_ways(host, plug, chardev):
    user = plug(chardev)
    for number in (1, 2):
        fd = os.open(chardev.device, os.O_RDWR | os.O_NOCTTY)
        host.until(lambda: chardev.is_open)
        os.write(fd, b"in%d" % number)
        host.until(lambda number=number: user.received.endswith(b"in%d" % number))
        user.send(b"out%d\n" % number)
        assert os.read(fd, 100) == b"out%d\n" % number
        os.close(fd)
        host.until(lambda: not chardev.is_open)
    assert user.received == b"in1in2"


def test_output_right_after_opening_is_not_lost(chardev, plug, client):
    user = plug(chardev)
    user.send(b"first line")
    assert os.read(client, 100) == b"first line"
    assert user.events == ["opened"]


def test_hangup_is_noticed_while_the_device_takes_nothing(host, plug, chardev, client):
    user = plug(chardev, credit=0)
    host.until(lambda: chardev.is_open)
    os.close(client)
    host.until(lambda: user.events == ["opened", "closed"])


def test_input_before_the_hangup_is_delivered_first(host, plug, chardev, client):
    user = plug(chardev, credit=0)
    host.until(lambda: chardev.is_open)
    os.write(client, b"last words")
    os.close(client)
    host.idle()
    assert user.events == ["opened"]
    user.credit = 4
    chardev.resume()
    host.until(lambda: user.received == b"last")
    user.credit = 100
    chardev.resume()
    host.until(lambda: user.events == ["opened", "closed"])
    assert user.received == b"last words"


def test_slow_client_gets_everything_in_order(host, plug, chardev, client):
    user = plug(chardev)
    host.until(lambda: chardev.is_open)
    sent = bytes(range(1, 251)) * 2000
    user.send(sent)
    got = b""
    while len(got) < len(sent):
        host.loop.run_once(0)
        try:
            got += os.read(client, 3000)
        except BlockingIOError:
            continue
    assert got == sent
    assert user.writable > 1


def test_terminal_is_raw(chardev, client):
    mode = termios.tcgetattr(client)
    assert not mode[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
    assert not mode[1] & termios.OPOST


def test_link_is_made_and_removed(host, tmp_path):
    link = tmp_path / "console"
    link.symlink_to("/dev/pts/99999")  # an earlier run that was killed
    chardev = host.open(PtyChardev, path=str(link))
    assert os.readlink(link) == chardev.device
    host.opened.remove(chardev)
    chardev.close()
    assert not os.path.lexists(link)


def test_link_in_the_way_of_a_file_is_refused(host, tmp_path):
    link = tmp_path / "console"
    link.write_text("precious")
    with pytest.raises(BackendError, match=r"cannot make the link .*console': File exists"):
        host.open(PtyChardev, path=str(link))
    assert link.read_text() == "precious"
