# SPDX-License-Identifier: Apache-2.0
"""Address spaces: who answers, overlaps, splits, notify registers, software eventfds, the VM lock."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdevpy.accel.base import IoEvent
from qdevpy.native.core import ffi, lib
from qdevpy.native.memory import GuestMemory
from qdevpy.native.space import AddressSpace, Mapping
from qdevpy.native.vdev import VDev


@pytest.fixture
def space() -> Iterator[AddressSpace]:
    space = AddressSpace()
    yield space
    space.close()


class Region:
    """Answers reads with TAG in each byte; keeps accesses."""

    def __init__(self, tag: int = 0x11) -> None:
        self.tag = tag
        self.accesses: list[tuple[str, int, int, int]] = []

    def read(self, offset: int, size: int) -> int:
        self.accesses.append(("r", offset, size, 0))
        return int.from_bytes(bytes([self.tag]) * 8, "little")

    def write(self, offset: int, value: int, size: int) -> None:
        self.accesses.append(("w", offset, size, value))


def put(space: AddressSpace, bus: str, base: int, size: int, tag: int, priority: int = 0) -> tuple[Region, Mapping]:
    region = Region(tag)
    return region, space.map(bus, base, size, region.read, region.write, priority=priority)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 8])
def test_read_where_nobody_answers_gives_ones(space: AddressSpace, size: int) -> None:
    assert space.read("pio", 0x10, size) == (1 << 8 * size) - 1


def test_write_where_nobody_answers_is_swallowed(space: AddressSpace) -> None:
    space.write("mmio", 0x1000, 1, 4)
    assert space.read("mmio", 0x1000, 4) == 0xFFFFFFFF


@pytest.mark.parametrize("bus", ["pio", "mmio"])
def test_access_reaches_the_region_with_offset_and_size(space: AddressSpace, bus: str) -> None:
    region, _ = put(space, bus, 0x100, 16, 0x11)
    assert space.read(bus, 0x104, 2) == 0x1111
    space.write(bus, 0x108, 0xABCD, 4)
    assert region.accesses == [("r", 4, 2, 0), ("w", 8, 4, 0xABCD)]


def test_buses_are_separate(space: AddressSpace) -> None:
    put(space, "pio", 0x100, 16, 0x11)
    assert space.read("mmio", 0x100, 1) == 0xFF


def test_higher_priority_answers_and_lower_is_back_after_unmap(space: AddressSpace) -> None:
    put(space, "mmio", 0x0, 0x3000, 1)
    _, above = put(space, "mmio", 0x1000, 0x1000, 2, priority=5)
    put(space, "mmio", 0x1000, 0x1000, 3)
    assert [space.read("mmio", a, 1) for a in (0xFFF, 0x1000, 0x1FFF, 0x2000)] == [1, 2, 2, 1]
    above.unmap()
    above.unmap()
    assert [space.read("mmio", a, 1) for a in (0xFFF, 0x1000, 0x1FFF, 0x2000)] == [1, 3, 3, 1]


def test_access_across_two_regions_is_split(space: AddressSpace) -> None:
    low, _ = put(space, "pio", 0x3FE, 2, 0x22)
    high, _ = put(space, "pio", 0x400, 4, 0x33)
    assert space.read("pio", 0x3FE, 4) == 0x33332222
    space.write("pio", 0x3FF, 0xBBAA, 2)
    assert low.accesses[-1] == ("w", 1, 1, 0xAA)
    assert high.accesses[-1] == ("w", 0, 1, 0xBB)


@pytest.mark.parametrize("size", [3, 5, 6, 7])
def test_piece_of_an_access_across_a_page_is_split_without_loss(space: AddressSpace, size: int) -> None:
    low, _ = put(space, "mmio", 0x1000, 2, 0x11)
    high, _ = put(space, "mmio", 0x1002, 8, 0x22)
    assert space.read("mmio", 0x1000, size) == int.from_bytes(b"\x11\x11".ljust(size, b"\x22"), "little")
    space.write("mmio", 0x1000, 0x7766554433221100, size)
    written: dict[int, int] = {}
    for region, base in ((low, 0), (high, 2)):
        for kind, offset, length, value in region.accesses:
            if kind == "w":
                written |= {base + offset + i: value >> 8 * i & 0xFF for i in range(length)}
    assert written == {i: 0x11 * i for i in range(size)}


def test_access_across_the_end_of_a_region_reads_ones_behind_it(space: AddressSpace) -> None:
    put(space, "pio", 0x100, 3, 0x44)
    assert space.read("pio", 0x100, 4) == 0xFF444444


def test_access_at_the_end_of_the_address_space_wraps_to_nobody(space: AddressSpace) -> None:
    put(space, "mmio", 2**64 - 2, 2, 0x55)
    assert space.read("mmio", 2**64 - 2, 4) == 0xFFFF5555


@pytest.mark.parametrize(
    ("bus", "base", "size"), [("pio", 0, 0), ("pio", 0xFFFF, 2), ("pio", 0x10000, 1), ("mmio", 2**64 - 1, 2)]
)
def test_map_outside_the_bus_raises(space: AddressSpace, bus: str, base: int, size: int) -> None:
    with pytest.raises(ValueError, match="cannot be mapped"):
        put(space, bus, base, size, 0)


def test_map_of_too_many_regions_raises(space: AddressSpace) -> None:
    for port in range(1024):
        lib.qd_space_map_python(space.pointer, lib.QD_PIO, port, 1, 0, ffi.NULL)
    with pytest.raises(ValueError, match="No space left"):
        put(space, "pio", 0x1000, 1, 0)


def test_region_that_raises_reads_ones_and_is_logged(space: AddressSpace, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*args: int) -> NoReturn:
        raise RuntimeError("broken device")

    space.map("pio", 0x70, 2, fail, fail)
    assert space.read("pio", 0x70, 2) == 0xFFFF
    space.write("pio", 0x70, 1, 1)
    assert len(caplog.records) == 2


def test_region_may_unmap_itself_and_map_another_from_its_callback(space: AddressSpace) -> None:
    moved = Region(0x66)

    def write(offset: int, value: int, size: int) -> None:
        mapping.unmap()
        space.map("pio", value, 4, moved.read, moved.write)

    mapping = space.map("pio", 0x100, 4, lambda offset, size: 0, write)
    space.write("pio", 0x100, 0x200, 2)
    assert space.read("pio", 0x100, 1) == 0xFF
    assert space.read("pio", 0x200, 1) == 0x66


def test_callback_may_access_the_space(space: AddressSpace) -> None:
    put(space, "pio", 0x200, 1, 0x77)
    space.map("pio", 0x100, 1, lambda offset, size: space.read("pio", 0x200, 1), lambda offset, value, size: None)
    assert space.read("pio", 0x100, 1) == 0x77


@settings(max_examples=60, deadline=None)
@given(
    regions=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20), st.integers(-1, 1)), max_size=8),
    unmapped=st.lists(st.integers(0, 7), max_size=4),
)
def test_lookup_finds_what_a_plain_search_finds(regions: list[tuple[int, int, int]], unmapped: list[int]) -> None:
    space = AddressSpace()
    mapped = {i: put(space, "mmio", *r[:2], i, r[2])[1] for i, r in enumerate(regions)}
    for i in unmapped:
        if i in mapped:
            mapped.pop(i).unmap()
    for address in [*range(64), *range(63, -1, -1)]:
        covering = [i for i in mapped if regions[i][0] <= address < regions[i][0] + regions[i][1]]
        expected = max(covering, key=lambda i: (regions[i][2], i)) if covering else 0xFF
        assert space.read("mmio", address, 1) == expected
    space.close()


def test_native_region_is_called_without_python(space: AddressSpace) -> None:
    """A device in C would give its own functions; the core's notify region is the one that is there."""
    calls: list[int] = []

    @ffi.callback("uint64_t(void *, uint64_t, unsigned)")  # type: ignore[untyped-decorator]
    def read(opaque: object, offset: int, size: int) -> int:
        calls.append(offset)
        return 0x99

    ops = ffi.new("struct qd_region_ops *", {"read": read})
    mapping = space.map_native("pio", 0x300, 4, ops, ffi.NULL, read=lambda o, s: 0, write=lambda o, v, s: None)
    assert space.read("pio", 0x302, 1) == 0x99
    assert calls == [2]
    mapping.unmap()
    assert space.read("pio", 0x302, 1) == 0xFF


# -- notify registers


class Notified:
    """A device with a started native queue 0 and an idle queue 1."""

    def __init__(self, space: AddressSpace, multiplier: int | None) -> None:
        self.memory = GuestMemory()
        self.memory.add_ram(0, 0x10000)
        self.vdev = VDev(self.memory)
        self.queue = self.vdev.add_queue()
        self.vdev.add_queue()
        self.queue.ops = lib.qd_null_ops
        assert lib.qd_vq_setup(self.queue, 4, 0x1000, 0x2000, 0x3000) == 0
        assert lib.qd_vq_start(self.queue) == 0
        self.region = Region(0x12)
        self.mapping = space.map_notify(
            "mmio", 0x1000, 0x100, self.vdev, multiplier=multiplier, read=self.region.read, write=self.region.write
        )

    def close(self) -> None:
        self.mapping.unmap()
        lib.qd_vq_stop(self.queue)
        self.vdev.close()
        self.memory.close()


def test_notify_by_value_kicks_the_native_queue_and_leaves_the_rest_to_python(space: AddressSpace) -> None:
    device = Notified(space, None)
    space.write("mmio", 0x1000, 0, 2)
    assert device.queue.kicks_sync == 1
    for value in (1, 2, 0xFFFF):
        space.write("mmio", 0x1000, value, 2)
    assert [access[3] for access in device.region.accesses] == [1, 2, 0xFFFF]
    assert space.read("mmio", 0x1000, 2) == 0x1212
    device.close()


def test_notify_by_offset_kicks_the_native_queue_and_leaves_the_rest_to_python(space: AddressSpace) -> None:
    device = Notified(space, 4)
    space.write("mmio", 0x1000, 0xFFFF, 2)
    assert device.queue.kicks_sync == 1
    for address in (0x1002, 0x1004, 0x10FC):
        space.write("mmio", address, 0, 2)
    assert device.queue.kicks_sync == 1
    assert [access[1] for access in device.region.accesses] == [2, 4, 0xFC]
    device.close()


def test_notify_multiplier_below_two_raises(space: AddressSpace) -> None:
    with pytest.raises(ValueError, match="cannot be mapped"):
        Notified(space, 1)


# -- software eventfds


@pytest.fixture
def fd() -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    yield fd
    os.close(fd)


def signals(fd: int) -> int:
    try:
        return os.eventfd_read(fd)
    except BlockingIOError:
        return 0


def test_eventfd_takes_what_matches_and_nothing_else(space: AddressSpace, fd: int) -> None:
    region, _ = put(space, "pio", 0x50, 4, 1)
    event = IoEvent("pio", 0x50, 2, 3, fd)
    space.add_eventfd(event)
    space.write("pio", 0x50, 3, 2)
    space.write("pio", 0x50, 4, 2)
    space.write("pio", 0x50, 3, 4)
    space.write("pio", 0x52, 3, 2)
    assert signals(fd) == 1
    assert len(region.accesses) == 3
    space.del_eventfd(event)
    space.write("pio", 0x50, 3, 2)
    assert signals(fd) == 0
    assert len(region.accesses) == 4


def test_eventfd_of_size_zero_takes_any_size(space: AddressSpace, fd: int) -> None:
    space.add_eventfd(IoEvent("mmio", 0x1000, 0, None, fd))
    for size in (1, 2, 4, 8):
        space.write("mmio", 0x1000, 9, size)
    assert signals(fd) == 4


def test_eventfd_added_twice_or_not_there_raises(space: AddressSpace, fd: int) -> None:
    event = IoEvent("mmio", 0x1000, 2, None, fd)
    space.add_eventfd(event)
    with pytest.raises(FileExistsError):
        space.add_eventfd(event)
    space.del_eventfd(event)
    with pytest.raises(FileNotFoundError):
        space.del_eventfd(event)


def test_eventfd_that_is_full_still_takes_the_write(space: AddressSpace, fd: int) -> None:
    region, _ = put(space, "mmio", 0x1000, 4, 1)
    space.add_eventfd(IoEvent("mmio", 0x1000, 2, None, fd))
    os.eventfd_write(fd, 2**64 - 2)
    space.write("mmio", 0x1000, 0, 2)
    assert region.accesses == []


# -- the VM lock


def test_lock_is_recursive_and_keeps_other_threads_out(space: AddressSpace) -> None:
    order: list[str] = []
    put(space, "pio", 0x10, 1, 0)
    asked = threading.Event()

    def other() -> None:
        asked.set()
        space.write("pio", 0x10, 1, 1)
        order.append("other")

    thread = threading.Thread(target=other)
    with space.lock, space.lock:
        thread.start()
        assert asked.wait(60)
        space.write("pio", 0x10, 2, 1)
        order.append("holder")
    thread.join()
    assert order == ["holder", "other"]


def test_close_twice_is_harmless_and_forgets_mappings() -> None:
    space = AddressSpace()
    _, mapping = put(space, "pio", 0x10, 1, 0)
    assert repr(mapping) == "pio 0x10+0x1"
    space.close()
    space.close()
    mapping.unmap()
    assert not space.mappings
