# SPDX-License-Identifier: Apache-2.0
"""netdev type hubport: a wire between two cards."""

import os
from types import SimpleNamespace

import pytest

from qdevpy.backend.netdev import PortKind
from qdevpy.backend.netdev_hub import HubPortNetDev
from qdevpy.errors import BackendError


@pytest.fixture
def open_port():
    """Open a port as the machine does: back ends know their machine, and the machine knows those that are open."""
    machine = SimpleNamespace(backends={})
    opened = []

    def make(name, hubid):
        port = HubPortNetDev(id=name)
        port.set_property("hubid", str(hubid))
        port.machine = machine
        port.open()
        machine.backends["netdevs", name] = port
        opened.append(port)
        return port

    yield make
    for port in opened:
        port.close()


def test_two_ports_of_one_hub_carry_frames_both_ways(open_port):
    a, b = open_port("a", 0), open_port("b", 0)
    ends = [port.port(0) for port in (a, b)]
    assert [end.kind for end in ends] == [PortKind.DGRAM] * 2
    for source, sink in (ends, ends[::-1]):
        os.write(source.fd, b"frame one")
        os.write(source.fd, b"two")
        assert [os.read(sink.fd, 100), os.read(sink.fd, 100)] == [b"frame one", b"two"]


def test_port_alone_has_nobody_to_send_to(open_port):
    assert open_port("a", 0).port(0) is None


def test_ports_of_other_hubs_are_not_wired(open_port):
    a, b = open_port("a", 0), open_port("b", 1)
    assert (a.port(0), b.port(0)) == (None, None)


def test_third_port_of_a_hub_is_an_error_that_names_the_two(open_port):
    open_port("a", 7)
    open_port("b", 7)
    with pytest.raises(BackendError, match=r"netdev 'c': hub 7 wires a and b, and a hub here has two ports"):
        open_port("c", 7)


def test_close_leaves_no_descriptor_open(open_port):
    before = len(os.listdir("/proc/self/fd"))
    a, b = open_port("a", 0), open_port("b", 0)
    a.close()
    b.close()
    assert len(os.listdir("/proc/self/fd")) == before
