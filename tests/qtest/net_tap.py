# SPDX-License-Identifier: Apache-2.0
"""A card on a tap interface, in a network namespace of the test's own."""

import ctypes
import os
import socket
import subprocess
from contextlib import contextmanager

import pytest
from net_rig import MAC, NetRig

from qdevpy.backend.netdev_tap import TapNetDev

CLONE_NEWNET = 0x40000000
ETH_P_ALL = 3


@contextmanager
def network_namespace():
    """A network namespace for this thread, empty and without IPv6's chatter; skips where there can be none."""
    if os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("needs root and /dev/net/tun")
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    if libc.unshare(CLONE_NEWNET):
        os.close(before)
        pytest.skip(f"cannot make a network namespace: {os.strerror(ctypes.get_errno())}")
    ip("link", "set", "lo", "up")
    for which in ("all", "default"):
        with open(f"/proc/sys/net/ipv6/conf/{which}/disable_ipv6", "w") as switch:
            switch.write("1")
    try:
        yield
    finally:
        assert libc.setns(before, CLONE_NEWNET) == 0
        os.close(before)


def ip(*words):
    subprocess.run(["ip", *words], check=True)


class Tap:
    """A card on a tap interface with an address, and a packet socket on the host's side."""

    def __init__(self, *, mq="off", features=None, up=True, ioeventfd=True, card=None, **options):
        netdev = TapNetDev(id="lan")
        for name, value in {"ifname": "t0", **options}.items():
            netdev.set_property(name, value)
        extra = {} if features is None else {"features": features}
        self.rig = NetRig(netdev, mq=mq, ioeventfd=ioeventfd, **extra, **(card or {}))
        self.packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.packets.settimeout(30)
        ip("addr", "add", "10.9.8.1/24", "dev", "t0")
        ip("neigh", "add", "10.9.8.2", "lladdr", MAC.hex(":"), "dev", "t0")
        if up:
            self.up()

    def up(self):
        ip("link", "set", "t0", "up")
        self.packets.bind(("t0", ETH_P_ALL))  # not before: it would report that the interface was down
        self.host_mac = self.packets.getsockname()[4]

    def close(self):
        self.packets.close()
        self.rig.close()
