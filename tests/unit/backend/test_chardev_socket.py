# SPDX-License-Identifier: Apache-2.0
import os
import socket
import stat
import threading

import pytest

from qdevpy.backend.chardev_socket import SocketChardev
from qdevpy.errors import BackendError


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "sock")


@pytest.fixture
def connect(path):
    """Makes clients of the UNIX server at PATH."""
    made = []

    def client():
        made.append(socket.socket(socket.AF_UNIX))
        made[-1].settimeout(10)
        made[-1].connect(path)
        return made[-1]

    yield client
    for each in made:
        each.close()


@pytest.fixture
def listener(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.settimeout(10)
        made.bind(path)
        made.listen(1)
        yield made


# -- server


def test_server_socket_is_ours_alone_and_goes_at_the_end(host, path):
    chardev = host.open(SocketChardev, path=path, server="on")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    host.opened.remove(chardev)
    chardev.close()
    assert not os.path.exists(path)


def test_server_does_not_remove_what_somebody_put_in_its_place(host, path):
    chardev = host.open(SocketChardev, path=path, server="on")
    os.unlink(path)
    with open(path, "w"):
        pass
    host.opened.remove(chardev)
    chardev.close()
    assert os.path.exists(path)


def test_server_whose_socket_is_gone_closes_quietly(host, path):
    chardev = host.open(SocketChardev, path=path, server="on")
    os.unlink(path)
    host.opened.remove(chardev)
    chardev.close()


def test_client_comes_talks_and_goes_and_the_next_comes(host, plug, path, connect):
    chardev = host.open(SocketChardev, path=path, server="on")
    user = plug(chardev)
    assert user.events == []
    for _ in range(2):
        client = connect()
        host.until(lambda: chardev.is_open)
        client.sendall(b"ping ")
        host.until(lambda: user.received.endswith(b"ping "))
        user.received = b""
        user.send(b"pong")
        assert client.recv(100) == b"pong"
        client.close()
        host.until(lambda: not chardev.is_open)
    assert user.events == ["opened", "closed"] * 2


def test_second_client_waits_for_the_first_to_go(host, plug, path, connect):
    chardev = host.open(SocketChardev, path=path, server="on")
    user = plug(chardev)
    first, second = connect(), connect()
    second.sendall(b"second")
    host.until(lambda: chardev.is_open)
    host.idle()
    assert user.received == b""
    first.close()
    host.until(lambda: user.received == b"second")


def test_client_that_goes_while_the_device_takes_nothing_is_noticed(host, plug, path, connect):
    user = plug(host.open(SocketChardev, path=path, server="on"), credit=0)
    client = connect()
    host.until(lambda: user.events == ["opened"])
    client.close()
    host.until(lambda: user.events == ["opened", "closed"])


def test_client_that_leaves_words_behind_is_heard_to_the_end(host, plug, path, connect):
    chardev = host.open(SocketChardev, path=path, server="on")
    user = plug(chardev, credit=0)
    client = connect()
    client.sendall(b"x" * 10_000)
    client.close()
    host.until(lambda: chardev.is_open)
    host.idle()
    assert user.events == ["opened"]
    user.credit = 20_000
    chardev.resume()
    host.until(lambda: user.events == ["opened", "closed"])
    assert user.received == b"x" * 10_000


def test_slow_client_gets_everything_in_order(host, plug, path, connect):
    user = plug(host.open(SocketChardev, path=path, server="on"))
    client = connect()
    host.until(lambda: user.events)
    sent = bytes(range(251)) * 8000
    user.send(sent)
    client.setblocking(False)
    got = b""
    while len(got) < len(sent):
        host.loop.run_once(0)
        try:
            got += client.recv(50_000)
        except BlockingIOError:
            continue
    assert got == sent
    assert user.writable > 1


def test_client_that_is_reset_in_the_middle_frees_the_device(host, plug, path, connect):
    chardev = host.open(SocketChardev, path=path, server="on")
    user = plug(chardev, credit=0)
    client = connect()
    client.sendall(b"unread")
    host.until(lambda: user.events)
    user.send(b"x" * 2_000_000)
    assert user.writable == 0
    client.close()
    host.until(lambda: user.writable)
    host.until(lambda: not chardev.is_open)
    assert chardev.write(b"nobody") == 6
    assert user.events == ["opened", "closed"]


def test_write_to_a_client_that_is_gone_never_raises(host, plug, path, connect):
    chardev = host.open(SocketChardev, path=path, server="on")
    user = plug(chardev)
    client = connect()
    host.until(lambda: chardev.is_open)
    client.close()
    assert chardev.write(b"too late") == 8
    assert chardev.write(b"again") == 5
    host.until(lambda: user.events == ["opened", "closed"])


def test_server_that_waits_starts_with_a_client(host, plug, path, capsys):
    clients = []

    def come():
        while not clients:
            client = socket.socket(socket.AF_UNIX)
            try:
                client.connect(path)
            except OSError:
                client.close()
                continue
            clients.append(client)

    thread = threading.Thread(target=come)
    thread.start()
    chardev = host.open(SocketChardev, path=path, server="on", wait="on")
    thread.join()
    assert chardev.is_open
    assert f"waiting for a connection to {path}" in capsys.readouterr().err
    clients[0].close()
    host.until(lambda: not chardev.is_open)


def test_stale_socket_is_replaced(host, path):
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(path)
    host.open(SocketChardev, path=path, server="on")


def test_socket_that_somebody_listens_at_is_refused(host, path, listener):
    with pytest.raises(BackendError, match=r"cannot listen at .*: somebody else listens there"):
        host.open(SocketChardev, path=path, server="on")
    assert os.path.exists(path)


def test_socket_with_a_full_backlog_counts_as_listened_at(host, path, listener, connect):
    listener.listen(0)
    connect()
    with pytest.raises(BackendError, match="somebody else listens there"):
        host.open(SocketChardev, path=path, server="on")


def test_file_in_the_way_is_refused(host, path):
    with open(path, "w"):
        pass
    with pytest.raises(BackendError, match="the file exists and is no socket"):
        host.open(SocketChardev, path=path, server="on")


# -- client


def test_client_connects_at_open_and_stays_closed_after_the_end(host, plug, path, listener):
    chardev = host.open(SocketChardev, path=path)
    user = plug(chardev)
    peer, _ = listener.accept()
    user.send(b"hello")
    assert peer.recv(100) == b"hello"
    peer.close()
    host.until(lambda: user.events == ["opened", "closed"])
    host.idle()
    assert not chardev.is_open


def test_client_without_a_server_is_an_error(host, path):
    with pytest.raises(BackendError, match=f"chardev 'c0': cannot connect to {path}: No such file or directory"):
        host.open(SocketChardev, path=path)


def test_client_with_reconnect_waits_for_the_server_and_comes_back(host, plug, path):
    chardev = host.open(SocketChardev, path=path, reconnect="1")
    user = plug(chardev)
    host.idle()
    assert user.events == []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        host.until(lambda: user.events == ["opened"])
        listener.accept()[0].close()
        host.until(lambda: user.events == ["opened", "closed"])
        host.until(lambda: user.events == ["opened", "closed", "opened"])


def test_client_does_not_take_a_full_backlog_for_a_connection(host, plug, path, listener, connect):
    listener.listen(0)
    connect()
    chardev = host.open(SocketChardev, path=path, reconnect="1")
    user = plug(chardev)
    host.until(lambda: chardev._peer is None and chardev._timer.callback is not None)
    host.idle()
    assert user.events == []


# -- TCP


def test_tcp_server_takes_a_free_port(host, plug):
    chardev = host.open(SocketChardev, host="127.0.0.1", port="0", server="on", nodelay="on")
    user = plug(chardev)
    with socket.create_connection(("127.0.0.1", chardev.bound_port), timeout=10) as client:
        client.sendall(b"over tcp")
        host.until(lambda: user.received == b"over tcp")
        assert chardev._peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_tcp_client_with_reconnect_connects_without_waiting(host, plug):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        user = plug(host.open(SocketChardev, host="127.0.0.1", port=str(listener.getsockname()[1]), reconnect="5"))
        host.until(lambda: user.events == ["opened"])


def test_tcp_client_that_is_refused_tries_again(host, plug):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    user = plug(host.open(SocketChardev, host="127.0.0.1", port=str(port), reconnect="1"))
    host.idle()
    with socket.create_server(("127.0.0.1", port)):
        host.until(lambda: user.events == ["opened"])


def test_close_while_connecting_leaves_nothing(host):
    # 192.0.2.0/24 is for documentation: nobody answers, or the host says at once that there is no way
    chardev = host.open(SocketChardev, host="192.0.2.1", port="9", reconnect="1")
    host.loop.run_once(0)
    host.opened.remove(chardev)
    chardev.close()
    host.idle()


# -- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give either 'path' .UNIX. or 'port' .TCP."),
        ({"path": "x", "port": "1"}, "give either"),
        ({"path": "x", "host": "y"}, "do not go with 'path'"),
        ({"path": "x", "server": "on", "reconnect": "1"}, "'reconnect' is a client's"),
        ({"path": "x", "wait": "on"}, "'wait' is a server's"),
    ],
)
def test_options_that_do_not_fit_are_refused(host, options, message):
    with pytest.raises(BackendError, match=message):
        host.open(SocketChardev, **options)


def test_host_that_does_not_exist_is_an_error(host):
    with pytest.raises(BackendError, match=r"cannot connect to no\.such\.host\.invalid:1: "):
        host.open(SocketChardev, host="no.such.host.invalid", port="1")
