# SPDX-License-Identifier: Apache-2.0
"""``{type: iothread}`` of ``objects:``; the thread itself is :class:`qdevpy.native.iothread.IOThread`."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from qdevpy.backend.base import Backend
from qdevpy.qdev import property as prop

MAXIMUM = (1 << 63) - 1  #: of each option, as QEMU's


class IOThreadOptions(Backend):
    """An I/O thread with its options; all of them may be changed while it runs (qom-set)."""

    type_name: ClassVar[str] = "iothread"
    description: ClassVar[str] = "a thread that serves queues"
    section: ClassVar[str] = "objects"

    poll_max_ns: int = prop.uint64(32768, maximum=MAXIMUM, help="longest time to poll before sleeping, in ns; 0: never")
    poll_grow: int = prop.uint64(0, maximum=MAXIMUM, help="factor by which the time to poll grows; 0: 2")
    poll_shrink: int = prop.uint64(0, maximum=MAXIMUM, help="divisor by which it shrinks; 0: to nothing at once")
    aio_max_batch: int = prop.uint64(
        0, maximum=MAXIMUM, help="requests that go to the host in one piece at most; 0: as the block engine thinks best"
    )
    _is_open: bool = attrs.field(default=False, init=False)

    def open(self) -> None:
        """Start the thread.

        :raises QdevpyError: the host has no thread or descriptor left
        """
        self.machine.iothread(self.name)
        self._is_open = True
        self._apply()

    def set_property(self, name: str, given: Any) -> None:
        """As :meth:`Object.set_property`; a thread that runs follows."""
        super().set_property(name, given)
        if self._is_open:
            self._apply()

    def _apply(self) -> None:
        from qdevpy.native.iothread import Polling

        thread = self.machine.iothread(self.name)
        thread.set_polling(Polling(self.poll_max_ns, self.poll_grow, self.poll_shrink))
        thread.set_max_batch(self.aio_max_batch)

    @property
    def thread_id(self) -> int:
        """The host's number of the thread."""
        return self.machine.iothread(self.name).thread_id

    def close(self) -> None:
        """Forget it."""
        self._is_open = False
        self.machine.end_iothread(self.name)
