# SPDX-License-Identifier: Apache-2.0
"""A card on the real passt: DHCP answers, and the end of the program is noticed."""

import shutil
import struct
import subprocess

import pytest
from net_rig import BROADCAST, MAC, NetRig

from qdevpy.backend.netdev_user import UserNetDev

ADDRESS = bytes([10, 0, 2, 15])


@pytest.fixture
def rig():
    if shutil.which("passt") is None:
        pytest.skip("passt is not installed")
    if not subprocess.run(["ip", "route", "show", "default"], capture_output=True, check=True).stdout:
        pytest.skip("the host has no default route, and passt needs one")
    made = NetRig(UserNetDev(id="net"))
    yield made
    made.close()


def arp_request(target):
    body = struct.pack(">HHBBH", 1, 0x800, 6, 4, 1) + MAC + ADDRESS + bytes(6) + target
    return BROADCAST + MAC + b"\x08\x06" + body


def test_passt_answers_arp(rig):
    rig.fill()
    rig.transmit(arp_request(bytes([10, 0, 2, 2])))
    while (answer := rig.rx.take_frame()[0])[12:14] != b"\x08\x06":
        rig.fill(1)
    assert answer[:6] == MAC
    assert answer[20:22] == b"\0\2"


def test_passt_that_ends_takes_link_down(rig):
    rig.fill()
    rig.netdev._process.terminate()
    rig.until(lambda: not rig.device.link_up)
    assert rig.config_changes == 1
