# SPDX-License-Identifier: Apache-2.0
"""I/O threads: epoll in C, no Python on them (``csrc/loop.c``)."""

from __future__ import annotations

import os
from typing import Any

from qdevpy.errors import QdevpyError
from qdevpy.native.core import ffi, lib


class IOThread:
    """A running I/O thread.

    :param name: what ``ps -L`` shows
    :ivar pointer: ``struct qd_loop *``
    :raises QdevpyError: the host has no thread or descriptor left
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.pointer: Any = lib.qd_loop_new(f"io-{name}".encode())
        if self.pointer == ffi.NULL:
            raise QdevpyError(f"iothread '{name}': {os.strerror(ffi.errno)}; raise 'ulimit -n' or 'ulimit -u'")

    @property
    def thread_id(self) -> int:
        """The host's number of the thread, as ``ps -L`` shows it."""
        return lib.qd_loop_tid(self.pointer)

    def close(self) -> None:
        """Stop and join the thread; nothing is attached to it any more. May be called twice."""
        if self.pointer != ffi.NULL:
            lib.qd_loop_free(self.pointer)
            self.pointer = ffi.NULL
