# SPDX-License-Identifier: Apache-2.0
"""pvpanic: what the guest reads and what its writes do."""

import pytest

from qdevpy.vm.event_types import GuestCrashloaded
from qdevpy_machine.pvpanic import PVPanic


@pytest.fixture
def panics(isa):
    found = []
    isa.request_panic = lambda: found.append("panic")
    isa.events.subscribe(found.append)
    return found


def test_pvpanic_offers_its_events(isa, panics):
    isa.plug(PVPanic())
    assert isa.inb(0x505) == 3


@pytest.mark.parametrize(
    ("value", "expected"), [(1, ["panic"]), (2, [GuestCrashloaded(action="run")]), (3, ["panic"]), (4, []), (0, [])]
)
def test_pvpanic_write_says_what_happened(isa, panics, value, expected):
    isa.plug(PVPanic())
    isa.outb(0x505, value)
    assert panics == expected


def test_pvpanic_port_and_events_are_properties(isa, panics):
    device = PVPanic()
    device.set_property("ioport", "0x506")
    device.set_property("events", "1")
    isa.plug(device)
    assert isa.inb(0x506) == 1
