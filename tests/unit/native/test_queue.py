# SPDX-License-Identifier: Apache-2.0
"""Queues: states, who serves a kick, what is never lost."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from qdevpy.native.core import lib
from qdevpy.native.iothread import IOThread
from qdevpy.native.memory import GuestMemory
from qdevpy.native.space import AddressSpace
from qdevpy.virtio import defs
from qdevpy.virtio.device import VirtIODevice
from qdevpy.virtio.queue import ROUNDS, NativeHandler, QueueState, VirtQueue
from qdevpy.vm.loop import MainLoop
from qdevpy.vm.watchdog import Watchdog

DESC, AVAIL, USED, DATA, SIZE = 0x1000, 0x2000, 0x3000, 0x8000, 8
NO_NOTIFY = 1  # VIRTQ_USED_F_NO_NOTIFY


class NullDevice(VirtIODevice):
    """One native queue that completes everything, one in Python that keeps chains."""

    type_name: ClassVar[str] = "null-device"
    device_id: ClassVar[int] = 42

    def do_realize(self) -> None:
        self.native = self.add_queue(SIZE, native=NativeHandler(lib.qd_null_ops), name="native")
        self.python = self.add_queue(SIZE, name="python")
        self.served: list[bytes] = []
        self.bits = 0

    def handle_output(self, queue: VirtQueue) -> None:
        while (element := queue.pop()) is not None:
            self.served.append(element.read())
            queue.push(element, element.write(b"pong"))
        queue.flush()

    def native_event(self, bits: int) -> None:
        self.bits |= bits


class Rig:
    """A device, a machine as far as it needs one, and the driver's side of a ring."""

    def __init__(self) -> None:
        self.memory = GuestMemory()
        self.memory.add_ram(0, 1 << 20)
        self.space = AddressSpace()
        self.loop = MainLoop(self.space.lock)
        self.iothread = IOThread("test")
        self.notified: list[VirtQueue] = []
        self.device = NullDevice()
        self.device.machine = SimpleNamespace(  # type: ignore[assignment]
            memory=self.memory, loop=self.loop, iothread=lambda name: self.iothread, watchdog=Watchdog()
        )
        self.device.bindings = SimpleNamespace(  # type: ignore[assignment]
            notify_queue=self.notify_queue, notify_config=lambda: None, status_changed=lambda old, new: None
        )
        self.device.realize()
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def notify_queue(self, queue: VirtQueue) -> None:
        self.notified.append(queue)
        queue.signal()

    def start(self, queue: VirtQueue) -> VirtQueue:
        queue.desc, queue.avail, queue.used, queue.enabled = DESC, AVAIL, USED, True
        queue.start()
        return queue

    def offer(self, data: bytes = b"ping", *, address: int = DATA) -> None:
        idx = self.avail_idx
        self.memory.write(DATA, data)
        self.memory.write(DESC, struct.pack("<QIHH", address, len(data), 1, 1) + struct.pack("<QIHH", DATA + 64, 8, 2, 0))
        self.memory.write(AVAIL + 4 + 2 * (idx % SIZE), struct.pack("<H", 0))
        self.memory.write(AVAIL + 2, struct.pack("<H", (idx + 1) & 0xFFFF))

    @property
    def avail_idx(self) -> int:
        return int.from_bytes(self.memory.read(AVAIL + 2, 2), "little")

    @property
    def used_idx(self) -> int:
        return int.from_bytes(self.memory.read(USED + 2, 2), "little")

    def wait(self, condition: Callable[[], bool]) -> None:
        """Until CONDITION holds; pytest's timeout ends a wait that is in vain."""
        while not condition():
            os.sched_yield()

    def close(self) -> None:
        self.device.unrealize()
        self.iothread.close()
        self.loop.close()
        self.space.close()
        self.memory.close()
        os.close(self.fd)


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()


def test_start_without_driver_setup_stays_idle(rig: Rig) -> None:
    rig.device.native.start()
    assert rig.device.native.state is QueueState.IDLE


def test_start_with_ring_outside_memory_marks_device_broken(rig: Rig) -> None:
    queue = rig.device.native
    queue.desc, queue.avail, queue.used, queue.enabled = 1 << 40, AVAIL, USED, True
    queue.start()
    assert queue.state is QueueState.IDLE
    assert rig.device.broken == "queue 0 (native): a ring lies outside guest memory"
    assert rig.device.status & defs.STATUS_NEEDS_RESET


def test_kick_of_native_queue_completes_before_it_returns(rig: Rig) -> None:
    queue = rig.start(rig.device.native)
    rig.offer()
    queue.kick()
    assert rig.used_idx == 1
    assert queue.counters() == {"kicks_ioeventfd": 0, "kicks_sync": 1, "kicks_polled": 0, "interrupts": 1, "requests": 1}


def test_kick_of_python_queue_calls_handle_output(rig: Rig) -> None:
    queue = rig.start(rig.device.python)
    rig.offer(b"hello")
    queue.kick()
    assert rig.device.served == [b"hello"]
    assert rig.memory.read(DATA + 64, 4) == b"pong"
    assert rig.used_idx == 1
    assert rig.notified == [queue]


def test_kick_of_idle_queue_does_nothing(rig: Rig) -> None:
    rig.offer()
    rig.device.native.kick()
    rig.device.python.kick()
    assert rig.used_idx == 0
    assert not rig.device.served


def test_attached_native_queue_is_served_by_the_io_thread(rig: Rig) -> None:
    queue = rig.start(rig.device.native)
    queue.attach(rig.fd)
    assert queue.state is QueueState.ATTACHED
    rig.offer()
    os.eventfd_write(rig.fd, 1)
    rig.wait(lambda: rig.used_idx == 1)
    queue.detach()
    assert queue.counters()["kicks_ioeventfd"] == 1


def test_attached_python_queue_is_served_by_the_main_loop(rig: Rig) -> None:
    queue = rig.start(rig.device.python)
    queue.attach(rig.fd)
    rig.offer()
    os.eventfd_write(rig.fd, 1)
    while not rig.device.served:
        rig.loop.run_once(1)
    assert queue.counters()["kicks_ioeventfd"] == 1
    queue.detach()


def test_attached_python_queue_asks_for_no_kicks_while_it_is_served_and_serves_what_came_meanwhile(rig: Rig) -> None:
    queue = rig.start(rig.device.python)
    queue.attach(rig.fd)
    flags = []

    def handle_output(queue: VirtQueue) -> None:
        NullDevice.handle_output(rig.device, queue)
        flags.append(int.from_bytes(rig.memory.read(USED, 2), "little"))
        if len(flags) == 1:
            rig.offer(b"late")

    rig.device.handle_output = handle_output  # type: ignore[method-assign]
    rig.offer()
    os.eventfd_write(rig.fd, 1)
    rig.loop.run_once(1)
    assert rig.device.served == [b"ping", b"late"]
    assert flags == [NO_NOTIFY, NO_NOTIFY]
    assert rig.memory.read(USED, 2) == bytes(2)
    assert queue.counters()["kicks_ioeventfd"] == 1
    queue.detach()


def test_attached_python_queue_that_is_refilled_for_ever_lets_the_loop_go_on(rig: Rig) -> None:
    queue = rig.start(rig.device.python)
    queue.attach(rig.fd)

    def handle_output(queue: VirtQueue) -> None:
        NullDevice.handle_output(rig.device, queue)
        rig.offer()

    rig.device.handle_output = handle_output  # type: ignore[method-assign]
    rig.offer()
    os.eventfd_write(rig.fd, 1)
    rig.loop.run_once(1)
    assert len(rig.device.served) == ROUNDS
    rig.loop.run_once(1)
    assert len(rig.device.served) == 2 * ROUNDS
    queue.detach()


def test_attached_python_handler_that_leaves_chains_is_not_called_for_them_again(rig: Rig) -> None:
    queue = rig.start(rig.device.python)
    queue.attach(rig.fd)
    calls = []
    rig.device.handle_output = calls.append  # type: ignore[method-assign]
    rig.offer()
    os.eventfd_write(rig.fd, 1)
    rig.loop.run_once(1)
    assert calls == [queue]
    assert rig.memory.read(USED, 2) == bytes(2)
    queue.detach()


@pytest.mark.parametrize("name", ["native", "python"])
def test_detach_serves_a_kick_that_was_signalled(rig: Rig, name: str) -> None:
    queue = rig.start(getattr(rig.device, name))
    for round_ in range(1, 200 if name == "native" else 3):
        queue.attach(rig.fd)
        rig.offer()
        os.eventfd_write(rig.fd, 1)
        queue.detach()
        assert rig.used_idx == round_
    assert queue.state is QueueState.STARTED


def test_detach_without_a_kick_serves_nothing(rig: Rig) -> None:
    queue = rig.start(rig.device.python)
    queue.attach(rig.fd)
    rig.offer()
    queue.detach()
    assert rig.device.served == []


def test_stop_and_start_again_continue_at_the_same_place(rig: Rig) -> None:
    queue = rig.start(rig.device.native)
    for _ in range(3):
        rig.offer()
        queue.kick()
    queue.stop()
    assert queue.state is QueueState.IDLE
    rig.start(queue)
    rig.offer()
    queue.kick()
    assert rig.used_idx == 4


def test_reset_forgets_addresses_and_positions(rig: Rig) -> None:
    queue = rig.start(rig.device.native)
    rig.offer()
    queue.kick()
    rig.device.reset()
    assert (queue.enabled, queue.size, queue.desc, queue.vector) == (False, SIZE, 0, defs.NO_VECTOR)
    assert queue.pointer.ring.last_avail == 0


def test_attach_of_bad_descriptor_raises(rig: Rig) -> None:
    queue = rig.start(rig.device.native)
    with pytest.raises(OSError, match="queue 0"):
        queue.attach(9999)
    assert queue.state is QueueState.STARTED


@pytest.mark.parametrize("name", ["native", "python"])
def test_broken_ring_marks_device_broken_and_is_not_served_until_reset(rig: Rig, name: str) -> None:
    queue = rig.start(getattr(rig.device, name))
    rig.offer(address=1 << 40)
    queue.kick()
    while rig.device.broken is None:
        rig.loop.run_once(1)
    assert "outside guest memory" in rig.device.broken
    rig.offer()
    queue.kick()
    assert rig.used_idx == 0
    rig.device.reset()
    assert rig.device.broken is None
    rig.memory.write(AVAIL, bytes(4))
    rig.start(queue)
    rig.offer()
    queue.kick()
    assert rig.used_idx == 1


def test_kicks_from_two_sides_are_all_served(rig: Rig) -> None:
    queue = rig.start(rig.device.native)
    queue.attach(rig.fd)
    for n in range(1, 2000):
        rig.offer()
        os.eventfd_write(rig.fd, 1)
        if n % 3 == 0:
            queue.kick()
        rig.wait(lambda n=n: rig.used_idx == n)  # type: ignore[misc]
    queue.stop()
    assert queue.counters()["requests"] == 1999


def test_event_idx_python_handler_is_kicked_again_without_knowing_of_it(rig: Rig) -> None:
    rig.device.features = 1 << defs.F_RING_EVENT_IDX
    queue = rig.start(rig.device.python)
    rig.offer()
    queue.kick()
    avail_event = struct.unpack("<H", rig.memory.read(USED + 4 + 8 * SIZE, 2))[0]
    assert avail_event == 1


def test_kicks_disabled_sets_the_flag_and_enabled_sees_what_came_meanwhile(rig: Rig) -> None:
    queue = rig.start(rig.device.python)
    assert not queue.set_kicks_enabled(False)
    assert rig.memory.read(USED, 2) == b"\1\0"
    rig.offer()
    assert queue.set_kicks_enabled(True)
    assert rig.memory.read(USED, 2) == b"\0\0"


# -- interrupts


def test_signal_without_msix_sets_isr_and_raises_intx(rig: Rig) -> None:
    levels: list[bool] = []
    rig.device.vdev.set_intx(levels.append)
    rig.device.native.signal()
    assert rig.device.vdev.read_isr() == 1
    assert rig.device.vdev.read_isr() == 0
    assert levels == [True, False, False]


def test_signal_with_msix_writes_the_vectors_eventfd(rig: Rig) -> None:
    rig.device.vdev.set_use_msix(True)
    rig.device.native.signal()
    with pytest.raises(BlockingIOError):
        os.eventfd_read(rig.fd)
    rig.device.native.set_irq_fd(rig.fd)
    rig.device.native.signal()
    assert os.eventfd_read(rig.fd) == 1
    rig.device.native.set_irq_fd(-1)


def test_intx_falls_while_msix_is_in_use_and_comes_back(rig: Rig) -> None:
    levels: list[bool] = []
    vdev = rig.device.vdev
    vdev.set_intx(levels.append)
    vdev.set_isr(2)
    vdev.set_use_msix(True)
    vdev.set_use_msix(False)
    assert levels == [True, False, True]
    vdev.set_intx(None)
    assert vdev.read_isr() == 2


def test_intx_callback_that_raises_is_logged(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    def fail(level: bool) -> None:
        raise RuntimeError("no line")

    rig.device.vdev.set_intx(fail)
    rig.device.vdev.set_isr(1)
    assert "no line" in caplog.text


def test_intx_from_the_io_thread_reaches_python(rig: Rig) -> None:
    threads: list[int] = []
    rig.device.vdev.set_intx(lambda level: threads.append(threading.get_ident()))
    queue = rig.start(rig.device.native)
    queue.attach(rig.fd)
    rig.offer()
    os.eventfd_write(rig.fd, 1)
    rig.wait(lambda: bool(threads))
    queue.stop()
    assert threads[0] != threading.get_ident()


def test_native_event_arrives_on_the_main_loop(rig: Rig) -> None:
    lib.qd_vdev_event(rig.device.vdev.pointer, 5)
    while not rig.device.bits:
        rig.loop.run_once(1)
    assert rig.device.bits == 5


def test_state_summary_counts_by_queue(rig: Rig) -> None:
    summary: dict[str, Any] = rig.device.state_summary()
    assert set(summary) == {"native", "python"}
    assert summary["native"]["requests"] == 0


def test_failed_realize_frees_the_core_side(rig: Rig) -> None:
    class Failing(NullDevice):
        def do_realize(self) -> None:
            super().do_realize()
            raise RuntimeError("no")

    device = Failing()
    device.machine = rig.device.machine
    with pytest.raises(RuntimeError):
        device.realize()
    assert device.queues == []
