# SPDX-License-Identifier: Apache-2.0
"""I/O threads: epoll and polling in C, no Python on them (``csrc/loop.c``, ``csrc/poller.c``)."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from qdevpy.errors import QdevpyError
from qdevpy.native.core import ffi, lib


class Polling(NamedTuple):
    """How long an I/O thread polls before it sleeps, as QEMU's: the time adapts between 0 and ``max_ns``.

    :ivar max_ns: longest time in ns; 0: never
    :ivar grow: factor when an event came a little later than that; 0: 2
    :ivar shrink: divisor when none came for longer than ``max_ns``; 0: to nothing at once
    """

    max_ns: int = 0
    grow: int = 0
    shrink: int = 0


class IOThread:
    """A running I/O thread.

    :param name: what ``ps -L`` shows
    :param polling: how long it polls; :meth:`set_polling` changes that
    :ivar pointer: ``struct qd_loop *``
    :raises QdevpyError: the host has no thread or descriptor left
    """

    def __init__(self, name: str, polling: Polling | None = None) -> None:
        self.name = name
        self.pointer: Any = lib.qd_loop_new(f"io-{name}".encode())
        if self.pointer == ffi.NULL:
            raise QdevpyError(f"iothread '{name}': {os.strerror(ffi.errno)}; raise 'ulimit -n' or 'ulimit -u'")
        if polling is not None:
            self.set_polling(polling)

    @property
    def thread_id(self) -> int:
        """The host's number of the thread, as ``ps -L`` shows it."""
        return lib.qd_loop_tid(self.pointer)

    def set_polling(self, polling: Polling) -> None:
        """Poll like this from now on. Where the process has one CPU it never polls: whom it waits for could not run."""
        lib.qd_loop_set_polling(self.pointer, tuple(polling))

    def set_max_batch(self, requests: int) -> None:
        """What block engines ask for: requests that go to the host in one piece at most; 0: as they think best."""
        lib.qd_loop_set_max_batch(self.pointer, requests)

    def statistics(self) -> dict[str, int]:
        """Polls that found work and those that did not, ns spent on both, how often the thread slept; how long it would poll."""
        stats = ffi.new("struct qd_loop_stats *")
        lib.qd_loop_get_stats(self.pointer, stats)
        return {name: getattr(stats, name) for name in ("polls_hit", "polls_missed", "polled_ns", "sleeps", "window_ns")}

    def close(self) -> None:
        """Stop and join the thread; nothing is attached to it any more. May be called twice."""
        if self.pointer != ffi.NULL:
            lib.qd_loop_free(self.pointer)
            self.pointer = ffi.NULL
