# SPDX-License-Identifier: Apache-2.0
"""Socket back ends by themselves: options, addresses, connections."""

import os
import socket
import stat
import threading
from types import SimpleNamespace

import pytest

from qdevpy.backend import netdev_unix
from qdevpy.backend.netdev import PortKind
from qdevpy.backend.netdev_dgram import DgramNetDev
from qdevpy.backend.netdev_null import NullNetDev
from qdevpy.backend.netdev_stream import StreamNetDev
from qdevpy.errors import BackendError
from qdevpy.vm.loop import MainLoop


@pytest.fixture
def loop():
    made = MainLoop(threading.RLock())
    yield made
    made.close()


@pytest.fixture
def build(loop):
    made = []

    def build(cls, **options):
        netdev = cls(id="lan")
        for name, value in options.items():
            netdev.set_property(name.replace("_", "."), str(value))
        netdev.machine = SimpleNamespace(loop=loop)
        made.append(netdev)
        return netdev

    yield build
    for netdev in made:
        netdev.close()


@pytest.fixture
def opened(build):
    def opened(cls, **options):
        netdev = build(cls, **options)
        netdev.open()
        return netdev

    return opened


def test_null_has_no_port_and_its_link_is_up(opened):
    netdev = opened(NullNetDev)
    assert netdev.port(0) is None
    assert netdev.link_up
    assert (netdev.ports, netdev.vnet_header, netdev.offloads) == (1, False, 0)
    netdev.configure(12, netdev.offloads)
    netdev.enable_port(0, True)


def test_peer_gone_without_further_ado_takes_link_down(opened):
    netdev, changes = opened(NullNetDev), []
    netdev.attach(lambda: changes.append(netdev.link_up))
    netdev.peer_gone()
    netdev.detach()
    netdev.set_link(True)
    assert changes == [False]


# -- dgram


def test_dgram_binds_privately_and_cleans_up(opened, tmp_path):
    local = tmp_path / "a"
    netdev = opened(DgramNetDev, local_path=local, remote_path=tmp_path / "b")
    assert stat.S_IMODE(local.stat().st_mode) == 0o600
    port = netdev.port(0)
    assert (port.kind, port.dest) == (PortKind.DGRAM, str(tmp_path / "b"))
    netdev.close()
    assert not local.exists()
    assert netdev.port(0) is None


def test_dgram_replaces_socket_that_nobody_uses(opened, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as crashed:
        crashed.bind(str(tmp_path / "a"))
    assert opened(DgramNetDev, local_path=tmp_path / "a", remote_path=tmp_path / "b").port(0)


def test_dgram_leaves_socket_in_use_alone(opened, tmp_path):
    opened(DgramNetDev, local_path=tmp_path / "a", remote_path=tmp_path / "b")
    with pytest.raises(BackendError, match=r"netdev 'lan': local.path .*somebody else uses it"):
        opened(DgramNetDev, local_path=tmp_path / "a", remote_path=tmp_path / "b")
    assert (tmp_path / "a").exists()


def test_dgram_leaves_other_files_alone(opened, tmp_path):
    (tmp_path / "a").write_text("precious")
    with pytest.raises(BackendError, match="is no socket"):
        opened(DgramNetDev, local_path=tmp_path / "a", remote_path=tmp_path / "b")
    assert (tmp_path / "a").read_text() == "precious"


def test_close_leaves_successor_alone(opened, tmp_path):
    netdev = opened(DgramNetDev, local_path=tmp_path / "a", remote_path=tmp_path / "b")
    os.unlink(tmp_path / "a")
    (tmp_path / "a").write_text("another's")
    netdev.close()
    assert (tmp_path / "a").read_text() == "another's"


def test_close_of_socket_already_removed_is_quiet(opened, tmp_path):
    netdev = opened(DgramNetDev, local_path=tmp_path / "a", remote_path=tmp_path / "b")
    os.unlink(tmp_path / "a")
    netdev.close()
    assert not (tmp_path / "a").exists()


def test_dgram_adopts_descriptor(opened):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours:
        netdev = opened(DgramNetDev, local_type="fd", local_str=theirs.detach())
        fd = netdev.port(0).fd
        assert netdev.port(0).dest is None
        assert not os.get_blocking(fd)
        assert not os.get_inheritable(fd)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give 'local.path' and 'remote.path'"),
        ({"local_path": "/a"}, "give 'local.path' and 'remote.path'"),
        ({"local_path": "/nowhere/at/all", "remote_path": "/b"}, "No such file"),
        ({"local_path": "/a", "remote_path": "/" + "x" * 200}, "longer than the 107 bytes"),
        ({"local_type": "fd"}, "goes with 'local.str'"),
        ({"local_type": "fd", "local_str": "1", "remote_path": "/b"}, "and nothing else"),
        ({"local_type": "fd", "local_str": "many"}, "expected the number"),
        ({"local_type": "fd", "local_str": "99999"}, "expected the number"),
    ],
)
def test_dgram_options_without_sense_are_refused(opened, options, message):
    with pytest.raises(BackendError, match=message):
        opened(DgramNetDev, **options)


# -- stream


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give 'addr.path'"),
        ({"addr_path": "/nowhere/at/all"}, "cannot connect to /nowhere/at/all: No such file"),
        ({"addr_path": "/nowhere/at/all", "server": "on"}, "cannot listen at /nowhere/at/all: No such file"),
        ({"addr_path": "/a", "server": "on", "reconnect": "1"}, "'reconnect' is a client's"),
        ({"addr_type": "fd"}, "goes with 'addr.str'"),
        ({"addr_type": "fd", "addr_str": "1", "server": "on"}, "and nothing else"),
        ({"addr_type": "fd", "addr_str": "x"}, "cannot connect to addr.str x"),
    ],
)
def test_stream_options_without_sense_are_refused(opened, options, message):
    with pytest.raises(BackendError, match=message):
        opened(StreamNetDev, **options)


def test_stream_server_links_up_with_its_client(opened, loop, tmp_path):
    netdev = opened(StreamNetDev, addr_path=tmp_path / "s", server="on")
    assert netdev.port(0) is None
    assert not netdev.link_up
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s"))
        loop.run_once(10)
        assert netdev.link_up
        assert netdev.port(0).kind is PortKind.STREAM
    netdev.peer_gone()
    netdev.peer_gone()
    assert not netdev.link_up
    assert netdev.port(0) is None


def test_stream_server_refuses_address_in_use(opened, tmp_path):
    opened(StreamNetDev, addr_path=tmp_path / "s", server="on")
    with pytest.raises(BackendError, match="somebody else uses it"):
        opened(StreamNetDev, addr_path=tmp_path / "s", server="on")


def test_stream_client_with_reconnect_waits_for_its_server(opened, loop, tmp_path):
    loop.call_later = lambda seconds, callback: loop.call_soon(callback) or SimpleNamespace(cancel=lambda: None)
    netdev = opened(StreamNetDev, addr_path=tmp_path / "s", reconnect=1)
    loop.run_once(0)
    assert not netdev.link_up
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen(1)
        loop.run_once(0)
    assert netdev.link_up


def test_stream_client_without_reconnect_stays_alone(opened, tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen(1)
        netdev = opened(StreamNetDev, addr_path=tmp_path / "s")
        netdev.peer_gone()
    assert not netdev.link_up


def test_stream_accept_of_vanished_client_goes_on_listening(opened, tmp_path):
    netdev = opened(StreamNetDev, addr_path=tmp_path / "s", server="on")
    netdev._accept()
    assert not netdev.link_up


def test_bind_that_fails_closes_its_socket(tmp_path):
    with pytest.raises(OSError, match="AF_UNIX path too long"):
        netdev_unix.bind(socket.SOCK_DGRAM, str(tmp_path / ("x" * 200)))
