# SPDX-License-Identifier: Apache-2.0
"""Telnet: what of it reaches a device, and what a client sees."""

import socket

import pytest

from qdevpy.backend.chardev_socket import SocketChardev
from qdevpy.backend.telnet import GREETING, TelnetInput
from qdevpy.errors import BackendError

#: what a client says, and what of it is data; None: a break
CONVERSATIONS = {
    "plain": (b"hello", [b"hello"]),
    "answers to an offer": (bytes([255, 253, 1, 255, 254, 0]) + b"a", [b"a"]),
    "an option that is called as a command is": (bytes([255, 251, 250]) + b"a", [b"a"]),
    "size of the window": (bytes([255, 250, 31, 0, 255, 255, 0, 24, 255, 240]) + b"a", [b"a"]),
    "doubled byte": (b"a\xff\xffb", [b"a\xffb"]),
    "break between data": (b"a\xff\xf3b", [b"a", None, b"b"]),
    "commands without meaning here": (b"a\xff\xf1\xff\xf6b", [b"ab"]),
    "return": (b"a\r\0b\r\nc\rd\0", [b"a\rb\r\nc\rd\0"]),
}


def joined(pieces):
    """PIECES with neighbours put together."""
    found = []
    for piece in pieces:
        if piece is not None and found and found[-1] is not None:
            found[-1] += piece
        else:
            found.append(piece)
    return found


@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("size", [1, 2, 100])
def test_protocol_is_taken_out_of_the_input_however_it_is_cut(name, size):
    said, expected = CONVERSATIONS[name]
    telnet = TelnetInput()

    pieces = [piece for at in range(0, len(said), size) for piece in telnet.feed(said[at : at + size])]

    assert joined(pieces) == expected


@pytest.fixture
def server(host):
    return host.open(SocketChardev, host="127.0.0.1", port="0", server="on", telnet="on")


@pytest.fixture
def client(server):
    with socket.create_connection(("127.0.0.1", server.bound_port), timeout=10) as made:
        yield made


def receive(client, count):
    found = b""
    while len(found) < count and (piece := client.recv(count - len(found))):
        found += piece
    return found


def test_client_is_greeted_and_its_answers_do_not_reach_the_device(host, plug, server, client):
    user = plug(server)
    host.until(lambda: server.is_open)
    assert receive(client, len(GREETING)) == GREETING
    client.sendall(bytes([255, 253, 1, 255, 253, 3]) + b"ls\r\0")
    host.until(lambda: user.received == b"ls\r")
    client.sendall(b"\xff\xf3")
    host.until(lambda: user.events == ["opened", "break"])
    assert server.filename == f"telnet:127.0.0.1:{server.bound_port},server=on"


def test_byte_255_is_sent_twice(host, plug, server, client):
    user = plug(server)
    host.until(lambda: server.is_open)
    user.send(b"\xffa\xff\xffb")
    assert receive(client, len(GREETING) + 8) == GREETING + b"\xff\xffa\xff\xff\xff\xffb"


def test_much_output_arrives_whole(host, plug, server, client):
    user = plug(server)
    host.until(lambda: server.is_open)
    client.setblocking(False)
    sent, found = b"\xff\xfe" * 300_000, bytearray()
    user.send(sent)

    def all_there():
        try:
            found.extend(client.recv(1 << 20))
        except BlockingIOError:
            return False
        return len(found) >= len(GREETING) + 3 * len(sent) // 2

    host.until(all_there)
    assert bytes(found[len(GREETING) :]) == b"\xff\xff\xfe" * 300_000


def test_each_connection_begins_anew(host, plug, server):
    user = plug(server)
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", server.bound_port), timeout=10) as client:
            host.until(lambda: server.is_open)
            assert receive(client, len(GREETING)) == GREETING
            client.sendall(b"a\xff")
            host.until(lambda: user.received[-1:] == b"a")
        host.until(lambda: not server.is_open)
    assert user.received == b"aa"


def test_client_side_says_nothing_of_itself(host, plug, server):
    theirs = host.open(SocketChardev, "c1", host="127.0.0.1", port=str(server.bound_port), telnet="on")
    user, other = plug(server), plug(theirs)
    host.until(lambda: server.is_open)
    user.send(b"\xff ")
    other.send(b"\xff!")
    host.until(lambda: other.received == b"\xff " and user.received == b"\xff!")


def test_telnet_of_a_unix_socket_is_refused(host, tmp_path):
    with pytest.raises(BackendError, match="'host', 'nodelay' and 'telnet' are of TCP"):
        host.open(SocketChardev, path=str(tmp_path / "s"), server="on", telnet="on")
