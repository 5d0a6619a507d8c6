# SPDX-License-Identifier: Apache-2.0
"""A virtio device as the C core sees it: interrupt status, INTx line, events from I/O threads."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qdevpy.native.core import ffi, lib

if TYPE_CHECKING:
    from qdevpy.native.memory import GuestMemory

log = logging.getLogger(__name__)

EVENT_ERROR: int = lib.QD_VDEV_EVENT_ERROR
BROKEN = ffi.new("char[]", b"the device needs a reset")


@ffi.def_extern()  # type: ignore[untyped-decorator]
def qd_py_set_intx(handle: Any, level: int) -> None:
    """The INTx line moves, from C with isr_lock held; any thread."""
    vdev: VDev = ffi.from_handle(handle)
    try:
        vdev.intx(bool(level))
    except Exception:  # a device's failure must not end the machine
        log.exception("while setting INTx to %d", level)


class VDev:
    """``struct qd_vdev`` and what Python adds to it.

    :param memory: what the device's queues may reach
    :ivar pointer: ``struct qd_vdev *``
    """

    def __init__(self, memory: GuestMemory) -> None:
        self.pointer: Any = lib.qd_vdev_new(memory.pointer)
        if self.pointer == ffi.NULL:
            raise MemoryError
        self._handle: Any = ffi.new_handle(self)
        self._memory = memory  # outlives the pointer
        self._label: Any = ffi.NULL
        self.intx: Callable[[bool], None] = lambda level: None

    def name(self, label: str) -> None:
        """What to call the device on standard error, should its C handler end the process; the first name stays."""
        if self._label == ffi.NULL:
            self._label = ffi.new("char[]", label.encode())
            self.pointer.label = self._label
            lib.qd_report_faults()

    @property
    def event_fd(self) -> int:
        """Readable when :meth:`take_events` has something."""
        return int(self.pointer.event_fd)

    def take_events(self) -> int:
        """Bits that native handlers reported since the last call; bit 63: :attr:`error` is set."""
        return int(lib.qd_vdev_take_events(self.pointer))

    @property
    def error(self) -> str | None:
        """Why the device needs a reset, where a native handler found out."""
        error = self.pointer.error
        return None if error == ffi.NULL else ffi.string(error).decode()

    def set_error(self, broken: bool) -> None:
        """True: native queues serve nothing from now on; False: forget the error (reset)."""
        lib.qd_vdev_set_error(self.pointer, BROKEN if broken else ffi.NULL)

    @property
    def features(self) -> int:
        """Negotiated features; changed only while all queues are idle."""
        return int(self.pointer.features)

    @features.setter
    def features(self, features: int) -> None:
        self.pointer.features = features

    @property
    def isr(self) -> int:
        """The ISR status register, as it is."""
        return int(self.pointer.isr)

    def set_isr(self, bits: int) -> None:
        """Set bits of the ISR status register and raise INTx, unless MSI-X is in use (4.1.4.5)."""
        lib.qd_vdev_set_isr(self.pointer, bits)

    def read_isr(self) -> int:
        """Read and clear the ISR status register; lowers INTx."""
        return int(lib.qd_vdev_read_isr(self.pointer))

    def set_use_msix(self, use: bool) -> None:
        """Whether MSI-X is enabled; INTx follows: it is high where ISR is not 0 and MSI-X is off."""
        lib.qd_vdev_set_msix(self.pointer, use)

    def set_intx(self, target: Callable[[bool], None] | tuple[Any, Any] | None) -> None:
        """Who moves the INTx line: a callable, called from any thread with a lock held that orders the levels, or a
        C function ``void (*)(void *opaque, int level)`` with its opaque; None: nobody.
        """
        if callable(target):
            self.intx = target
            lib.qd_vdev_set_intx(self.pointer, lib.qd_py_set_intx, self._handle)
        elif target is not None:
            function, opaque = target
            lib.qd_vdev_set_intx(self.pointer, ffi.cast("void (*)(void *, int)", function), opaque)
        else:
            lib.qd_vdev_set_intx(self.pointer, ffi.NULL, ffi.NULL)

    def add_queue(self) -> Any:
        """The next queue's ``struct qd_vq *``; before the device is realized."""
        pointer = lib.qd_vdev_add_queue(self.pointer)
        assert pointer != ffi.NULL, "more than 1024 queues"
        return pointer

    def close(self) -> None:
        """Free it; all queues are idle."""
        lib.qd_vdev_free(self.pointer)
        self.pointer = ffi.NULL
