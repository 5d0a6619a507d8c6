# SPDX-License-Identifier: Apache-2.0
"""tap's options, and what it says where the host refuses; with an interface: tests/qtest/test_net_tap.py."""

import errno
import fcntl
import os

import pytest

from qdevpy.backend import netdev_tap
from qdevpy.backend.netdev import Offload
from qdevpy.backend.netdev_tap import TapNetDev
from qdevpy.errors import BackendError


def tap(**options):
    netdev = TapNetDev(id="lan")
    for name, value in options.items():
        netdev.set_property(name, value)
    return netdev


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vhostfd": "3", "vhostfds": "3:4"}, "either 'vhostfd' or 'vhostfds'"),
        ({"fd": "3", "fds": "3:4"}, "either 'fd' or 'fds'"),
        ({"fd": "3", "ifname": "t0"}, "do not go with"),
        ({"ifname": "x" * 16}, "1 to 15 bytes"),
        ({"ifname": "../x"}, "1 to 15 bytes"),
        ({"fd": "x"}, "expected the number of an open tap"),
        ({"fds": "0:1"}, "expected the number of an open tap"),
    ],
)
def test_options_without_sense_are_refused(options, message, monkeypatch):
    with open(os.devnull) as null:
        monkeypatch.setattr(netdev_tap, "TUN", null.name)
        with pytest.raises(BackendError, match=f"netdev 'lan': .*{message}"):
            tap(**options).open()


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (errno.ENOENT, "modprobe tun"),
        (errno.EPERM, "CAP_NET_ADMIN.*ip tuntap add"),
        (errno.EACCES, "/dev/net/tun"),
        (errno.EBUSY, "another program"),
        (errno.EINVAL, "multi_queue"),
    ],
)
def test_open_that_fails_says_what_to_do(monkeypatch, code, hint):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(netdev_tap.os, "open", refuse)
    with pytest.raises(BackendError, match=f"cannot open /dev/net/tun: .*; .*{hint}"):
        tap(ifname="t0").open()


def test_probe_takes_what_the_kernel_knows(monkeypatch):
    def old_kernel(fd, request, value):
        if int(value) & Offload.UFO or int(value) & Offload.TSO6:
            raise OSError(errno.EINVAL, "Invalid argument")
        return 0

    monkeypatch.setattr(fcntl, "ioctl", old_kernel)
    netdev = tap()
    netdev._fds, netdev._flags = [-1], netdev_tap.IFF_VNET_HDR
    assert netdev._probe_offloads() == Offload.CSUM
    netdev._fds = []


def test_ioctls_that_fail_name_the_interface(monkeypatch):
    def refuse(*_):
        raise OSError(errno.EINVAL, "Invalid argument")

    netdev = tap(ifname="t0")
    netdev._fds, netdev._enabled, netdev._flags = [-1, -1], [True, True], netdev_tap.IFF_VNET_HDR
    monkeypatch.setattr(fcntl, "ioctl", refuse)
    with pytest.raises(BackendError, match="t0: cannot set header or offloads"):
        netdev.configure(12, Offload(0))
    with pytest.raises(BackendError, match="t0: cannot detach queue 1"):
        netdev.enable_port(1, False)
    assert netdev._probe_offloads() == 0
    netdev._fds = []
