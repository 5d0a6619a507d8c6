# SPDX-License-Identifier: Apache-2.0
"""Waiting with polling before sleep, for the main loop (``csrc/pywait.c``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qdevpy.native.core import ffi, lib


class PollingWait:
    """As ``select.epoll.poll``, and asks again and again for up to MAX_NS before it sleeps; the time adapts as an I/O thread's.

    :param epoll: descriptor of the epoll instance
    """

    def __init__(self, epoll: int, max_ns: int) -> None:
        self._epoll = epoll
        self._found: Any = ffi.new("uint64_t[]", 2 * lib.QD_WAIT_MAX)
        self._pointer: Any = ffi.gc(lib.qd_wait_new(max_ns), lib.qd_wait_free)
        if self._pointer == ffi.NULL:
            raise MemoryError

    def poll(self, timeout_ms: int) -> Iterator[tuple[int, int]]:
        """Descriptors and events; at most TIMEOUT_MS milliseconds, -1: for ever. Python's lock is free meanwhile."""
        count = lib.qd_wait(self._pointer, self._epoll, timeout_ms, self._found)
        numbers = iter(ffi.unpack(self._found, count))
        return zip(numbers, numbers, strict=True)
