# SPDX-License-Identifier: Apache-2.0
"""Two vCPUs hammer ports and MMIO at the same time, while the main loop's thread does what it does to a running guest."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterator

import pytest
from kvm_guest import AP_CODE, PROTECTED, RESULT, START_SECOND, Guest

from qdevpy.accel.base import IoEvent, MsiMessage

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.needs_host("kvm"),
]

PORT, KICK_PORT = 0x500, 0x510
MMIO = 0x10_0000  # behind the RAM; real mode reaches it through segment FFFFh
ROUNDS = 60

#: in al, dx; mov [MMIO], al; mov al, [MMIO]; out KICK_PORT, ax; inc dword [RESULT]; for ever
FIRST = (
    START_SECOND
    + (loop := b"\x66\xba" + struct.pack("<H", PORT) + b"\xec")
    + (rest := b"\xa2" + struct.pack("<I", MMIO) + b"\xa0" + struct.pack("<I", MMIO))
    + (kick := b"\x66\xba" + struct.pack("<H", KICK_PORT) + b"\x66\xef" + b"\xff\x05" + struct.pack("<I", RESULT))
    + b"\xeb"
    + bytes([256 - len(loop + rest + kick) - 2])
)
#: the same in real mode, with the counter at RESULT + 4
PROLOGUE = b"\x31\xc0\x8e\xd8\x48\x8e\xc0"  # xor ax, ax; mov ds, ax; dec ax; mov es, ax
SECOND_LOOP = (
    b"\xba" + struct.pack("<H", PORT) + b"\xec" + b"\x26\xa2\x10\x00" + b"\x26\xa0\x10\x00"
    b"\xba" + struct.pack("<H", KICK_PORT) + b"\xef" + b"\x66\xff\x06" + struct.pack("<H", RESULT + 4)
)
SECOND = PROLOGUE + SECOND_LOOP + b"\xeb" + bytes([256 - len(SECOND_LOOP) - 2])


class Register:
    """A register in Python that notices when two vCPUs are in it at once, which the VM lock forbids."""

    def __init__(self) -> None:
        self.inside = 0
        self.overlaps = 0
        self.accesses = 0

    def read(self, offset: int, size: int) -> int:
        self.access()
        return 0x5A

    def write(self, offset: int, value: int, size: int) -> None:
        self.access()

    def access(self) -> None:
        self.inside += 1
        os.sched_yield()  # gives up the GIL too, so that another thread may come in if nothing else keeps it out
        self.overlaps += self.inside != 1
        self.inside -= 1
        self.accesses += 1


class Pair:
    """The guest of this file."""

    def __init__(self) -> None:
        self.guest = Guest(cpus=2)
        self.port, self.mmio = Register(), Register()
        self.guest.space.map("pio", PORT, 1, self.port.read, self.port.write)
        self.guest.memory.write(AP_CODE, SECOND)

    def start(self) -> None:
        self.guest.run(FIRST, PROTECTED)
        self.wait_for_both()

    def counts(self) -> tuple[int, int]:
        return self.guest.result(0), self.guest.result(4)

    def wait_for_both(self) -> None:
        """Until each of the two has gone round its loop."""
        first, second = self.counts()
        self.guest.wait(lambda: self.guest.result(0) != first and self.guest.result(4) != second)


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.guest.close()


def remap(pair: Pair) -> Callable[[], None]:
    """As a BAR that moves away and comes back."""

    def step() -> None:
        mapping = pair.guest.space.map("mmio", MMIO, 4096, pair.mmio.read, pair.mmio.write)
        pair.wait_for_both()
        mapping.unmap()

    return step


def pause(pair: Pair) -> Callable[[], None]:
    """No vCPU runs between pause and resume."""

    def step() -> None:
        pair.guest.accel.pause()
        stopped = pair.counts()
        assert [pair.counts() for _ in range(50)] == [stopped] * 50
        pair.guest.accel.resume()

    return step


def reset(pair: Pair) -> Callable[[], None]:
    """The second vCPU waits for SIPI again, and gets it."""

    def step() -> None:
        pair.guest.accel.pause()
        pair.guest.memory.write(RESULT, bytes(8))
        pair.start()

    return step


def assign(pair: Pair) -> Callable[[], None]:
    """ioeventfds and irqfds come and go under the kicks of both."""
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    os.set_inheritable(fd, False)

    def step() -> None:
        accel, event = pair.guest.accel, IoEvent("pio", KICK_PORT, 2, None, fd)
        with pair.guest.space.lock:
            accel.assign_ioevent(event)
            handle = accel.assign_irqfd(fd, MsiMessage(0xFEE01000, 0x40))
        pair.wait_for_both()
        with pair.guest.space.lock:
            accel.update_irqfd(handle, MsiMessage(0xFEE00000, 0x41))
            accel.deassign_irqfd(handle)
            accel.deassign_ioevent(event)

    return step


@pytest.mark.parametrize("what", [remap, pause, reset, assign], ids=lambda what: what.__name__)
def test_both_vcpus_go_on_whatever_the_main_loop_does(pair: Pair, what: Callable[[Pair], Callable[[], None]]) -> None:
    step = what(pair)
    pair.start()

    for _ in range(ROUNDS):
        step()
        pair.wait_for_both()

    pair.guest.accel.pause()
    assert pair.port.accesses > ROUNDS
    assert pair.port.overlaps == pair.mmio.overlaps == 0
    assert pair.guest.stops == []


def test_vm_lock_comes_round_however_busy_the_vcpus_are(pair: Pair) -> None:
    pair.guest.space.map("mmio", MMIO, 4096, pair.mmio.read, pair.mmio.write)
    pair.start()
    waits = []
    for _ in range(200):
        start = time.perf_counter()
        with pair.guest.space.lock:
            waits.append(time.perf_counter() - start)
        pair.wait_for_both()
    first, second = pair.counts()
    print(f"waited {sorted(waits)[100] * 1e6:.0f} us, {max(waits) * 1e6:.0f} at most; rounds {first}, {second}")
    assert sorted(waits)[100] < 0.05
    assert first < 20 * second
    assert second < 20 * first
