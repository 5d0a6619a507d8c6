# SPDX-License-Identifier: Apache-2.0
"""``{type: iothread}`` of ``objects:``; the thread itself is :class:`qdevpy.native.iothread.IOThread`."""

from __future__ import annotations

from typing import ClassVar

from qdevpy.backend.base import Backend
from qdevpy.qdev import property as prop


class IOThreadOptions(Backend):
    """Options of an I/O thread, checked like any back end's; the machine makes the thread."""

    type_name: ClassVar[str] = "iothread"
    description: ClassVar[str] = "a thread that serves queues"
    section: ClassVar[str] = "objects"

    poll_max_ns: int = prop.uint64(32768, help="longest time to poll before sleeping, in ns; accepted, not used yet")
