# SPDX-License-Identifier: Apache-2.0
"""No CPU: Python reads and writes registers; kicks and interrupts stay in this process. For unit tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from qdevpy.accel.base import Accelerator, IoEvent, MsiMessage

if TYPE_CHECKING:
    from qdevpy.native.memory import GuestMemory
    from qdevpy.native.space import AddressSpace


class NoneAccelerator(Accelerator):
    """Ioeventfds in software; interrupts are kept for tests to look at.

    :ivar ioevents: what is assigned now
    :ivar irqfds: by handle, the eventfd and its message; nobody reads the eventfds, so tests may
    :ivar gsi_levels: the level of every GSI that was ever driven
    """

    name: ClassVar[str] = "none"

    def __init__(self) -> None:
        self.ioevents: list[IoEvent] = []
        self.irqfds: dict[int, tuple[int, MsiMessage]] = {}
        self.gsi_levels: dict[int, bool] = {}
        self._next_handle = 1
        self._pointer: tuple[Any, Any] | None = None

    def open(self, memory: GuestMemory, space: AddressSpace) -> None:
        """Nothing to make."""
        self._space = space

    def close(self) -> None:
        """Nothing to give back."""
        self.ioevents.clear()
        self.irqfds.clear()

    def assign_ioevent(self, event: IoEvent) -> None:
        """:raises OSError: EEXIST, ENOSPC"""
        self._space.add_eventfd(event)
        self.ioevents.append(event)

    def deassign_ioevent(self, event: IoEvent) -> None:
        """Undo :meth:`assign_ioevent`."""
        self._space.del_eventfd(event)
        self.ioevents.remove(event)

    def assign_irqfd(self, fd: int, message: MsiMessage) -> int:
        """Remember it."""
        handle = self._next_handle
        self._next_handle += 1
        self.irqfds[handle] = (fd, message)
        return handle

    def update_irqfd(self, handle: int, message: MsiMessage) -> None:
        """Remember the new message."""
        self.irqfds[handle] = (self.irqfds[handle][0], message)

    def deassign_irqfd(self, handle: int) -> None:
        """Forget it."""
        del self.irqfds[handle]

    def set_gsi(self, gsi: int, level: bool) -> None:
        """Remember the level."""
        self.gsi_levels[gsi] = level

    @property
    def set_gsi_pointer(self) -> tuple[Any, Any]:
        """A callback into :meth:`set_gsi`."""
        from qdevpy.native.core import ffi

        if self._pointer is None:
            callback = ffi.callback("void(void *, int, int)", lambda opaque, gsi, level: self.set_gsi(gsi, bool(level)))
            self._pointer = (callback, ffi.NULL)
        return self._pointer
