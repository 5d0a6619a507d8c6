# SPDX-License-Identifier: Apache-2.0
"""Taps in Python: see what goes through a virtqueue, and change it (``qd_tap.h``). For tests and for what is rare;
what watches every request of a fast device is written in C.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from qdevpy.native.core import ffi, lib

log = logging.getLogger(__name__)


class Chain:
    """A descriptor chain that a tap looks at.

    :param elem: ``struct qd_elem *``; in a callback the chain is valid as long as that runs
    :ivar head: by which it is completed
    :ivar out_len: bytes for the device to read
    :ivar in_len: bytes for the device to write
    """

    def __init__(self, elem: Any) -> None:
        self._elem = elem
        self.head: int = elem.head
        self.out_len: int = elem.out_len
        self.in_len: int = elem.in_len

    def read(self, offset: int = 0, n: int | None = None) -> bytes:
        """Copy N bytes (None: all) from OFFSET of the readable part; fewer where it is shorter."""
        size = max(0, self.out_len - offset)
        size = size if n is None else min(n, size)
        data = ffi.new("char[]", max(size, 1))
        return bytes(ffi.buffer(data, lib.qd_iov_read(self._elem.iov, self._elem.out_num, offset, data, size)))

    def read_writable(self, offset: int, n: int) -> bytes:
        """Copy N bytes from OFFSET of the writable part, as they are now; fewer where it is shorter."""
        data = ffi.new("char[]", max(n, 1))
        writable = self._elem.iov + self._elem.out_num
        return bytes(ffi.buffer(data, lib.qd_iov_read(writable, self._elem.in_num, offset, data, n)))

    def write(self, data: bytes, offset: int = 0) -> int:
        """Copy DATA to OFFSET of the writable part, from its end where that is below 0; returns the bytes that had room."""
        offset = max(0, self.in_len + offset) if offset < 0 else offset
        writable = self._elem.iov + self._elem.out_num
        return lib.qd_iov_write(writable, self._elem.in_num, offset, ffi.from_buffer(data), len(data))


class QueueTap:
    """A tap of one queue; override the callbacks that are wanted, others cost nothing.

    Callbacks run on the thread that serves the queue, with its lock held: they do not wait, take no VM lock, and call
    nothing of this class but :meth:`complete_now` and :meth:`chain`. An exception in one is logged, and nothing is changed.

    :param vq: ``struct qd_vq *``, e.g. ``queue.pointer``; outlives the tap, or is closed after :meth:`remove`
    """

    def __init__(self, vq: Any) -> None:
        self.vq = vq
        self._handle = ffi.new_handle(self)
        self._tap = ffi.new("struct qd_tap *", {"opaque": self._handle})
        for name in ("kicked", "popped", "pushed", "decided", "marked", "forgotten"):
            if getattr(type(self), name) is not getattr(QueueTap, name):
                setattr(self._tap, name, getattr(lib, f"qd_py_{name}"))

    def add(self) -> None:
        """Begin; also while the queue is in use. Of a queue that Python serves with the VM lock held."""
        if lib.qd_vq_add_tap(self.vq, self._tap):
            raise MemoryError

    def remove(self) -> None:
        """End: on return no callback runs. Chains that are kept are for the caller to complete or hand over before."""
        lib.qd_vq_remove_tap(self.vq, self._tap)

    # -- callbacks

    def kicked(self, way: int) -> None:
        """The driver's kick is about to be served; ``lib.QD_KICK_IOEVENTFD``, ``_SYNC`` or ``_POLLED``."""

    def popped(self, chain: Chain) -> bool:
        """A chain on its way to the device. False: the tap keeps it, see :meth:`hand_over` and :meth:`complete`."""
        return True

    def pushed(self, head: int, length: int) -> int | None:
        """The device completes a chain with LENGTH bytes written; returns the length that the driver is told. None: swallowed,
        see :meth:`complete`.
        """
        return length

    def decided(self, interrupt: bool) -> bool:
        """Completions were shown to the driver; returns whether it is interrupted. INTERRUPT is what it asked for."""
        return interrupt

    def marked(self, head: int, stage: int) -> None:
        """The device has come to ``lib.QD_MARK_SUBMITTED`` or ``_COMPLETED`` with a chain."""

    def forgotten(self) -> None:
        """The queue was reset: what was kept or swallowed is gone."""

    # -- what a tap does

    def chain(self, head: int) -> Chain | None:
        """A chain's buffers: of the one being pushed, or one kept or swallowed. None: it was popped before there was a tap."""
        elem = ffi.new("struct qd_elem *")
        return Chain(elem) if lib.qd_tap_chain(self.vq, head, elem) else None

    def complete(self, head: int, length: int) -> bool:
        """Show the driver a chain that was kept or swallowed, and interrupt it if it wants that; one that it has back already
        it gets a second time. Not in a callback. False: the device has the chain, or the queue is no more.
        """
        return bool(lib.qd_vq_complete(self.vq, head, length))

    def complete_now(self, head: int, length: int) -> bool:
        """As :meth:`complete`, in a callback; seen when the callback keeps the chain, or with what the device shows next."""
        return bool(lib.qd_tap_complete(self.vq, head, length))

    def hand_over(self, head: int) -> bool:
        """Give a kept chain to the device; a queue that Python serves is to be kicked then. Not in a callback.

        False: it is not kept.
        """
        return bool(lib.qd_vq_hand_over(self.vq, head))


def guarded(tap: Any, what: str, call: Callable[[QueueTap], Any], otherwise: Any = None) -> Any:
    """The result of CALL; OTHERWISE where it raises: a broken tap must not end the machine."""
    try:
        return call(ffi.from_handle(tap.opaque))
    except Exception:
        log.exception("in a tap's %s", what)
        return otherwise


@ffi.def_extern()  # type: ignore[untyped-decorator]
def qd_py_kicked(tap: Any, vq: Any, way: int) -> None:
    """C: the driver's kick is about to be served."""
    guarded(tap, "kicked", lambda it: it.kicked(way))


@ffi.def_extern()  # type: ignore[untyped-decorator]
def qd_py_popped(tap: Any, vq: Any, elem: Any) -> bool:
    """C: a chain was popped."""
    return bool(guarded(tap, "popped", lambda it: it.popped(Chain(elem)), otherwise=True))


@ffi.def_extern()  # type: ignore[untyped-decorator]
def qd_py_pushed(tap: Any, vq: Any, head: int, length: Any) -> bool:
    """C: the device completes a chain."""
    answer = guarded(tap, "pushed", lambda it: it.pushed(head, length[0]), otherwise=length[0])
    if answer is not None:
        length[0] = answer & 0xFFFFFFFF
    return answer is not None


@ffi.def_extern()  # type: ignore[untyped-decorator]
def qd_py_decided(tap: Any, vq: Any, interrupt: Any) -> None:
    """C: completions were shown to the driver."""
    interrupt[0] = bool(guarded(tap, "decided", lambda it: it.decided(bool(interrupt[0])), otherwise=interrupt[0]))


@ffi.def_extern()  # type: ignore[untyped-decorator]
def qd_py_marked(tap: Any, vq: Any, head: int, stage: int) -> None:
    """C: the device has come to a stage."""
    guarded(tap, "marked", lambda it: it.marked(head, stage))


@ffi.def_extern()  # type: ignore[untyped-decorator]
def qd_py_forgotten(tap: Any, vq: Any) -> None:
    """C: the queue was reset."""
    guarded(tap, "forgotten", lambda it: it.forgotten())
