# SPDX-License-Identifier: Apache-2.0
"""Guest memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qdevpy.errors import GuestAddressError, QdevpyError
from qdevpy.native.memory import GuestMemory

HIGH = 1 << 32


@pytest.fixture
def memory() -> Iterator[GuestMemory]:
    memory = GuestMemory()
    memory.add_ram(0, 0x10000, "low")
    memory.add_ram(HIGH, 0x2000, "high")
    yield memory
    memory.close()


def test_write_and_read_back_in_each_region(memory: GuestMemory) -> None:
    memory.write(0xFFFC, b"last")
    memory.write(HIGH + 1, b"more")
    assert memory.read(0xFFFC, 4) == b"last"
    assert memory.read(HIGH, 6) == b"\0more\0"
    assert memory.size == 0x12000


@pytest.mark.parametrize(
    ("gpa", "n"), [(0xFFFD, 4), (0x10000, 1), (HIGH - 1, 2), (HIGH + 0x2000, 0), (0, -1), (-1, 1), (2**64 - 1, 2)]
)
def test_range_outside_ram_raises(memory: GuestMemory, gpa: int, n: int) -> None:
    with pytest.raises(GuestAddressError, match="not inside guest memory"):
        memory.view(gpa, n)


def test_view_is_the_memory_itself(memory: GuestMemory) -> None:
    view = memory.view(0x1000, 4)
    view[:] = b"abcd"
    assert os.pread(memory.regions[0].fd, 4, 0x1000) == b"abcd"
    assert bytes(memory.host_view(memory.regions[0].hva + 0x1000, 4)) == b"abcd"
    with pytest.raises(GuestAddressError):
        memory.host_view(16, 4)


def test_core_sees_the_same_regions(memory: GuestMemory) -> None:
    assert memory.pointer.n == 2
    assert [(r.gpa, r.size) for r in memory.pointer.ram[0:2]] == [(0, 0x10000), (HIGH, 0x2000)]


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").is_dir(), reason="this kernel has no huge pages to ask for")
def test_huge_pages_are_asked_for_and_ram_is_not_dumped(memory: GuestMemory) -> None:
    _, _, mapping = Path("/proc/self/smaps").read_text().partition(f"\n{memory.regions[0].hva:x}-")
    flags = mapping.partition("VmFlags:")[2].splitlines()[0].split()
    assert {"hg", "dd"} <= set(flags)


def test_clear_gives_zeros(memory: GuestMemory) -> None:
    memory.write(0x1000, b"x")
    memory.clear()
    assert memory.read(0x1000, 1) == b"\0"


def test_view_outlives_close(memory: GuestMemory) -> None:
    view = memory.view(0, 4)
    memory.close()
    view[:] = b"late"
    assert bytes(view) == b"late"


@pytest.mark.parametrize(("gpa", "size"), [(0x800, 0x1000), (0x20000, 0), (0x20000, 100), (0xF000, 0x2000)])
def test_add_ram_of_a_wrong_shape_is_a_bug(memory: GuestMemory, gpa: int, size: int) -> None:
    with pytest.raises(AssertionError):
        memory.add_ram(gpa, size)


def test_add_ram_beyond_what_the_host_has_says_what_to_do(memory: GuestMemory) -> None:
    with pytest.raises(QdevpyError, match="set a smaller 'memory:'"):
        memory.add_ram(1 << 33, 1 << 62)


def test_add_ram_of_too_many_pieces_raises(memory: GuestMemory) -> None:
    for i in range(14):
        memory.add_ram((i + 1) << 20, 4096)
    with pytest.raises(QdevpyError, match="more than 16"):
        memory.add_ram(64 << 20, 4096)


CHANGING = """
import mmap, sys
number = memoryview(mmap.mmap(int(sys.argv[1]), 4096))[2:4].cast("H")
print(flush=True)
while True:
    for _ in range(1000):
        number[0] = 0x00FF
        number[0] = 0x0100
"""


def test_index_that_changes_meanwhile_is_read_whole(memory: GuestMemory) -> None:
    """Between 0x00ff and 0x0100 there is no 0x01ff, which halves of both would make."""
    fd = memory.regions[0].fd
    command = [sys.executable, "-c", CHANGING, str(fd)]
    with subprocess.Popen(command, pass_fds=[fd], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        try:
            seen = {memory.read(2, 2) for _ in range(1_000_000)}
        finally:
            writer.kill()
    assert seen <= {b"\xff\x00", b"\x00\x01", b"\0\0"}


def test_words_are_written_as_they_are_read(memory: GuestMemory) -> None:
    for n in (1, 2, 3, 4, 8):
        data = bytes(range(1, n + 1))
        memory.write(0x101, data)
        assert memory.read(0x101, n) == data
        assert memory.read(0x100, n + 2) == b"\0" + data + b"\0"
        memory.write(0x101, bytes(8))
