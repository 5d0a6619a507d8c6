# SPDX-License-Identifier: Apache-2.0
"""A virtqueue as transports and devices in Python see it. The ring and its states are in C (``qd_queue.h``).

A queue with a :class:`NativeHandler` is served by C on an I/O thread; for any other one the device's
``handle_output`` is called, on the main loop where a host notifier is attached, else on the vCPU's thread.
"""

from __future__ import annotations

import enum
import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from qdevpy.native.core import ffi, lib
from qdevpy.virtio import defs

if TYPE_CHECKING:
    from qdevpy.native.iothread import IOThread
    from qdevpy.virtio.device import VirtIODevice

log = logging.getLogger(__name__)


#: of a packed ring's position: the wrap counter
WRAP_BIT = 15
#: calls of a handler in Python for one kick, before the main loop's other work has its turn
ROUNDS = 4


class NativeHandler(NamedTuple):
    """The C side of a queue.

    :ivar ops: ``struct qd_queue_ops *``, a cffi pointer of any module, or its address
    :ivar opaque: ``void *`` for the handler, likewise
    :ivar iothread: who serves the queue; None: the machine's default I/O thread
    """

    ops: Any
    opaque: Any = None
    iothread: IOThread | None = None


class QueueState(enum.Enum):
    """See the diagram in ``qd_queue.h``."""

    IDLE = "idle"
    STARTED = "started"
    ATTACHED = "attached"


IDLE: int = lib.QD_VQ_IDLE
STATES = {
    lib.QD_VQ_IDLE: QueueState.IDLE,
    lib.QD_VQ_STARTED: QueueState.STARTED,
    lib.QD_VQ_ATTACHED: QueueState.ATTACHED,
}


def pointer_of(given: Any) -> Any:
    """``void *`` for a pointer of this or another cffi module, an address, or None."""
    return ffi.NULL if given is None else ffi.cast("void *", given)


@attrs.define(eq=False)
class Element:
    """A popped descriptor chain: what the device reads, then what it writes (virtio 1.2, 2.7.4).

    The views are guest memory: the driver may change them at any moment, so copy before checking.

    :ivar head: what :meth:`VirtQueue.push` gives back
    :ivar out_len: bytes in ``readable``
    :ivar in_len: bytes in ``writable``
    """

    head: int
    readable: list[memoryview]
    writable: list[memoryview]
    out_len: int
    in_len: int

    def read(self, offset: int = 0, n: int | None = None) -> bytes:
        """Copy N bytes (None: all) from OFFSET of the readable part; fewer where it is shorter."""
        end = self.out_len if n is None else min(self.out_len, offset + n)
        return b"".join(cut(self.readable, offset, end))

    def write(self, data: bytes, offset: int = 0) -> int:
        """Copy DATA to OFFSET of the writable part; returns the bytes that had room."""
        done = 0
        for part in cut(self.writable, offset, offset + len(data)):
            part[:] = data[done : done + len(part)]
            done += len(part)
        return done


def cut(parts: Sequence[memoryview], start: int, end: int) -> list[memoryview]:
    """Views of bytes START to END of PARTS laid end to end."""
    found = []
    for part in parts:
        if start < len(part) and end > 0:
            found.append(part[max(start, 0) : end])
        start -= len(part)
        end -= len(part)
    return found


class VirtQueue:
    """A virtqueue. The transport sets ``size``, the addresses, ``enabled`` and ``vector``; all with the VM lock held.

    :ivar size: entries, as the driver chose
    :ivar desc: guest-physical address of the descriptor table, or of the packed ring
    :ivar avail: that of the available ring, or the packed ring's driver event suppression structure
    :ivar used: that of the used ring, or the packed ring's device event suppression structure
    :ivar enabled: the driver has set it up
    :ivar vector: MSI-X vector, or ``NO_VECTOR``
    :ivar pointer: ``struct qd_vq *``
    """

    def __init__(
        self, device: VirtIODevice, index: int, size_max: int, *, native: NativeHandler | None = None, name: str = ""
    ) -> None:
        assert 1 <= size_max <= lib.QD_VRING_MAX, f"queue {index}: {size_max} entries"
        assert size_max & (size_max - 1) == 0, f"queue {index}: {size_max} entries, not a power of two"
        self.device = device
        self.index = index
        self.name = name
        self.size_max = size_max
        self.pointer: Any = device.vdev.add_queue()
        self._native = native
        self._fd: int | None = None
        self._kicks = True
        self._batching = False
        self._elem: Any = None
        if native is not None:
            device.vdev.name(f"{device.label}, of {type(device).__module__}")
            thread = native.iothread or device.machine.iothread(None)
            self._native = native._replace(iothread=thread)
            self.pointer.ops = ffi.cast("struct qd_queue_ops *", pointer_of(native.ops))
            self.pointer.opaque = pointer_of(native.opaque)
            self.pointer.loop = thread.pointer
        self._forget()

    def _forget(self) -> None:
        self.size = self.size_max
        self.desc = self.avail = self.used = 0
        self.enabled = False
        self.vector = defs.NO_VECTOR
        self._kicks = True
        lib.qd_vq_forget(self.pointer)

    @property
    def is_native(self) -> bool:
        """Whether C serves it."""
        return bool(self.pointer) and bool(self.pointer.ops != ffi.NULL)

    def use_native(self, native: bool) -> None:
        """Let the native handler serve the queue, or ``handle_output`` in its stead; while the queue is idle.

        For queues whose role follows from the negotiated features (virtio-net's queue 2, 5.1.2).
        """
        assert self._native is not None, f"{self.label} was made without a native handler"
        assert self.state is QueueState.IDLE, f"{self.label} is in use"
        self.pointer.ops = ffi.cast("struct qd_queue_ops *", pointer_of(self._native.ops if native else None))

    @property
    def state(self) -> QueueState:
        """Idle, started (kicks are served synchronously) or attached (a host notifier, too)."""
        return STATES[self.pointer.state] if self.pointer else QueueState.IDLE

    @property
    def is_closed(self) -> bool:
        """Whether its device is gone, and the C side with it."""
        return not self.pointer

    @property
    def label(self) -> str:
        """For messages."""
        return f"queue {self.index}{f' ({self.name})' if self.name else ''}"

    @property
    def positions(self) -> tuple[int, int]:
        """The next avail entry to take and the next used entry to fill; may be set while the queue is idle.

        In a packed ring they are descriptors, with their wrap counters in bit 15 (2.8.1), as QEMU has them.
        """
        ring = self.pointer.ring
        if not self.device.has_feature(defs.F_RING_PACKED):
            return ring.last_avail, ring.used_idx
        return ring.last_avail | ring.avail_wrap << WRAP_BIT, ring.used_idx | ring.used_wrap << WRAP_BIT

    @positions.setter
    def positions(self, positions: tuple[int, int]) -> None:
        assert self.state is QueueState.IDLE, f"{self.label} is in use"
        ring = self.pointer.ring
        ring.last_avail, ring.used_idx = positions
        if self.device.has_feature(defs.F_RING_PACKED):
            (ring.avail_wrap, ring.last_avail), (ring.used_wrap, ring.used_idx) = (
                divmod(position, 1 << WRAP_BIT) for position in positions
            )

    @property
    def inflight(self) -> int:
        """Chains taken that will be given back: not those of a broken ring."""
        ring = self.pointer.ring if self.state is not QueueState.IDLE else None
        return int(ring.inflight) if ring is not None and ring.error == ffi.NULL else 0

    # -- life

    def start(self) -> None:
        """Set the ring up and let kicks be served; a no-op where the driver did not set the queue up.

        A ring that cannot be marks the device broken.
        """
        if self.state is not QueueState.IDLE or not self.enabled or self.size == 0:
            return
        vdev = self.device.vdev
        vdev.features = self.device.features
        if lib.qd_vq_setup(self.pointer, self.size, self.desc, self.avail, self.used):
            self.device.mark_broken(f"{self.label}: {self._ring_error()}")
            return
        error = lib.qd_vq_start(self.pointer)
        if error:
            self.device.mark_broken(f"{self.label}: cannot be started: {os.strerror(-error)}")

    def stop(self) -> None:
        """Detach, drain what is in flight, and leave the ring alone; positions are kept for the next start."""
        self.detach()
        lib.qd_vq_stop(self.pointer)

    @property
    def iothread(self) -> IOThread | None:
        """Who serves it, or would, where C does; None: Python does, on the main loop."""
        return self._native.iothread if self._native is not None else None

    def move_to(self, iothread: IOThread) -> None:
        """Let another I/O thread serve the queue, also while the driver uses it. What is in flight is drained, no kick is lost.

        :raises OSError: the host refuses what the queue needs on its new thread; it stays where it was. Where it
            cannot go on there either, the device is marked broken
        """
        assert self._native is not None, f"{self.label} is served by Python"
        error = lib.qd_vq_move(self.pointer, iothread.pointer)
        if not error:
            self._native = self._native._replace(iothread=iothread)
            return
        why = f"{self.label}: cannot be moved to I/O thread '{iothread.name}': {os.strerror(-error)}"
        if self.state is QueueState.IDLE:
            self.device.mark_broken(why)
        raise OSError(-error, why)

    def reset(self) -> None:
        """Stop, and forget what the driver set up."""
        self.stop()
        self._forget()

    def close(self) -> None:
        """Stop for good, before the C side is freed; who still has the queue (a call posted to the loop) finds it idle."""
        self.stop()
        self.pointer = ffi.NULL

    def attach(self, fd: int) -> None:
        """Serve kicks that arrive through eventfd FD, too.

        :raises OSError: the descriptor cannot be waited for
        """
        if self.state is not QueueState.STARTED:
            return
        if self.is_native:
            error = lib.qd_vq_attach(self.pointer, fd)
            if error:
                raise OSError(-error, f"{self.label}: {os.strerror(-error)}")
        else:
            os.set_blocking(fd, False)
            machine = self.device.machine
            machine.loop.add_reader(fd, self._notified)
            machine.loop.poll_before_sleeping(True)
            self._fd = fd
            self.pointer.state = lib.QD_VQ_ATTACHED

    def detach(self) -> None:
        """Undo :meth:`attach`; a kick that was signalled is served before this returns."""
        if self.state is not QueueState.ATTACHED:
            return
        if self.is_native:
            lib.qd_vq_detach(self.pointer)
            return
        assert self._fd is not None
        machine = self.device.machine
        machine.loop.remove_reader(self._fd)
        machine.loop.poll_before_sleeping(False)
        self._notified()
        self._fd = None
        self.pointer.state = lib.QD_VQ_STARTED

    def _notified(self) -> None:
        """The host notifier was signalled, or is looked at for the last time."""
        assert self._fd is not None
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            return
        lib.qd_vq_count_kick(self.pointer, lib.QD_KICK_IOEVENTFD)
        if self._kicks:
            self._serve_batch()
        else:
            self._handle_output()

    def _serve_batch(self) -> None:
        """Call the handler with kicks off, so that what the driver offers meanwhile costs it none, and again for that."""
        for _ in range(ROUNDS):
            popped = self.pointer.ring.popped
            self._batching = True
            lib.qd_vq_set_kicks(self.pointer, False)
            try:
                self._handle_output()
            finally:
                self._batching = False
            # a handler may stop the queue, ask for no kicks, or leave chains where they are, to wait for something else
            if self.state is QueueState.IDLE or not self._kicks:
                return
            if not lib.qd_vq_set_kicks(self.pointer, True) or self.pointer.ring.popped == popped:
                return
        assert self._fd is not None
        os.eventfd_write(self._fd, 1)

    def kick(self) -> None:
        """Serve now, on this thread; nothing where the queue is not started."""
        if self.is_native:
            lib.qd_vq_kick(self.pointer)
        elif self.state is not QueueState.IDLE:
            lib.qd_vq_count_kick(self.pointer, lib.QD_KICK_SYNC)
            self._handle_output()

    def _handle_output(self) -> None:
        if self.device.broken is not None:
            return
        watchdog = self.device.machine.watchdog
        before = watchdog.enter((self.device, self._handling, ()))
        try:
            self.device.handle_output(self)
        except Exception as error:  # somebody's device: it fails alone (ARCHITECTURE.md), and says so
            log.exception("%s: %s: in handle_output", self.device.label, self.label)
            self.device.mark_broken(f"{self.label}: {type(error).__name__}: {error}")
        finally:
            watchdog.leave(before)

    def _handling(self) -> str:
        return f"handle_output of {self.label}"

    # -- chains, for handlers in Python

    def pop(self) -> Element | None:
        """The next chain, or None where the driver has offered none; a broken ring marks the device broken."""
        pointer = self.pointer
        if not pointer or pointer.state == IDLE:
            return None
        if self._elem is None:
            self._elem = ffi.new("struct qd_elem *"), ffi.new("uint64_t[]", lib.QD_ELEM_WORDS + 2 * lib.QD_VRING_MAX)
        elem, words = self._elem
        found = lib.qd_vq_pop(pointer, elem, self._kicks and not self._batching)
        if found < 0:
            self.device.mark_broken(f"{self.label}: {self._ring_error()}")
        if found <= 0:
            return None
        # one call for all numbers: an attribute of C's costs as much as a call does
        head, out_num, out_len, in_len, *places = ffi.unpack(words, lib.qd_elem_words(elem, words))
        view = self.device.machine.memory.host_view
        buffers = [view(places[i], places[i + 1]) for i in range(0, len(places), 2)]
        return Element(head, buffers[:out_num], buffers[out_num:], out_len, in_len)

    def push(self, element: Element, written: int) -> None:
        """Give a chain back with WRITTEN bytes in its writable part; the driver sees it after :meth:`flush`."""
        pointer = self.pointer
        if pointer and pointer.state != IDLE:
            lib.qd_vq_push(pointer, element.head, written)

    def flush(self) -> None:
        """Show the driver what was pushed, and interrupt it if it wants that."""
        pointer = self.pointer
        if pointer and pointer.state != IDLE and lib.qd_vq_publish(pointer):
            self.device.bindings.notify_queue(self)

    def set_kicks_enabled(self, enabled: bool) -> bool:
        """Whether the driver should kick (2.7.7); best effort. True: chains are there already."""
        self._kicks = enabled
        if self.state is QueueState.IDLE:
            return False
        return bool(lib.qd_vq_set_kicks(self.pointer, enabled))

    # -- interrupts

    def set_irq_fd(self, fd: int) -> None:
        """Eventfd of the queue's MSI-X vector, or -1; on return nobody writes the old one any more."""
        lib.qd_vq_set_irq_fd(self.pointer, fd)

    def signal(self) -> None:
        """Interrupt the guest: the MSI-X vector's eventfd, or ISR bit 0 with INTx. For transports."""
        lib.qd_vq_signal(self.pointer)

    def counters(self) -> dict[str, int]:
        """Kicks by way (``kicks_polled``: polling found chains before, or without, a kick), interrupts, requests."""
        vq = self.pointer
        return {
            "kicks_ioeventfd": vq.kicks_ioeventfd,
            "kicks_sync": vq.kicks_sync,
            "kicks_polled": vq.kicks_polled,
            "interrupts": vq.interrupts,
            "requests": vq.ring.popped,
        }

    def _ring_error(self) -> str:
        error = self.pointer.ring.error
        return "broken" if error == ffi.NULL else ffi.string(error).decode()
