# SPDX-License-Identifier: Apache-2.0
"""The accelerator without a CPU."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from qdevpy.accel.base import IoEvent, MsiMessage
from qdevpy.accel.none import NoneAccelerator
from qdevpy.native.core import ffi
from qdevpy.native.memory import GuestMemory
from qdevpy.native.space import AddressSpace


@pytest.fixture
def space() -> Iterator[AddressSpace]:
    space = AddressSpace()
    yield space
    space.close()


@pytest.fixture
def accel(space: AddressSpace) -> NoneAccelerator:
    accel = NoneAccelerator()
    accel.open(GuestMemory(), space)
    return accel


def test_ioevent_signals_on_a_matching_write(accel: NoneAccelerator, space: AddressSpace) -> None:
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    event = IoEvent("pio", 0x10, 2, 1, fd)
    accel.assign_ioevent(event)
    assert accel.ioevents == [event]
    with pytest.raises(FileExistsError):
        accel.assign_ioevent(event)
    space.write("pio", 0x10, 1, 2)
    assert os.eventfd_read(fd) == 1
    accel.deassign_ioevent(event)
    assert accel.ioevents == []
    os.close(fd)


def test_irqfds_are_kept_by_handle(accel: NoneAccelerator) -> None:
    first, second = (accel.assign_irqfd(fd, MsiMessage(0xFEE00000, fd)) for fd in (5, 6))
    accel.update_irqfd(first, MsiMessage(0xFEE01000, 7))
    accel.deassign_irqfd(second)
    assert accel.irqfds == {first: (5, MsiMessage(0xFEE01000, 7))}
    accel.close()
    assert not accel.irqfds


def test_gsi_levels_are_kept_from_python_and_from_c(accel: NoneAccelerator) -> None:
    accel.set_gsi(10, True)
    function, opaque = accel.set_gsi_pointer
    assert accel.set_gsi_pointer[0] is function
    ffi.cast("void (*)(void *, int, int)", function)(opaque, 11, 1)
    accel.set_gsi(10, False)
    assert accel.gsi_levels == {10: False, 11: True}
