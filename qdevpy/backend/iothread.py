# SPDX-License-Identifier: Apache-2.0
"""``{type: iothread}`` of ``objects:``; the thread itself is :class:`qdevpy.native.iothread.IOThread`."""

from __future__ import annotations

from typing import ClassVar

from qdevpy.backend.base import Backend
from qdevpy.qdev import property as prop


class IOThreadOptions(Backend):
    """An I/O thread with its options. The numbers about polling are kept for who asks; threads here sleep at once."""

    type_name: ClassVar[str] = "iothread"
    description: ClassVar[str] = "a thread that serves queues"
    section: ClassVar[str] = "objects"

    poll_max_ns: int = prop.uint64(32768, help="longest time to poll before sleeping, in ns; accepted, not used yet")
    poll_grow: int = prop.uint64(0, help="by what the time to poll grows; accepted, not used yet")
    poll_shrink: int = prop.uint64(0, help="by what the time to poll shrinks; accepted, not used yet")
    aio_max_batch: int = prop.uint64(0, help="requests that go to the host in one piece; accepted, not used yet")

    def open(self) -> None:
        """Start the thread.

        :raises QdevpyError: the host has no thread or descriptor left
        """
        self.machine.iothread(self.name)

    @property
    def thread_id(self) -> int:
        """The host's number of the thread."""
        return self.machine.iothread(self.name).thread_id

    def close(self) -> None:
        """Forget it."""
        self.machine.end_iothread(self.name)
