# SPDX-License-Identifier: Apache-2.0
"""``{type: memory-backend-ram}`` of ``objects:``: memory of the host's, set aside under a name."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from typing import ClassVar

import attrs

from qdevpy.backend.base import Backend
from qdevpy.errors import BackendError
from qdevpy.qdev import property as prop


class MemoryBackendRam(Backend):
    """Anonymous memory, as QEMU's ``backends/hostmem-ram.c``. No device takes it: there are no DIMMs."""

    type_name: ClassVar[str] = "memory-backend-ram"
    description: ClassVar[str] = "memory under a name"
    section: ClassVar[str] = "objects"
    required: ClassVar[Sequence[str]] = ("size",)

    size: int = prop.size(0, help="bytes")
    share: bool = prop.boolean(help="seen by child processes, too")
    prealloc: bool = prop.boolean(help="take it from the host at once instead of when it is used")

    _memory: mmap.mmap | None = attrs.field(default=None, init=False)

    def open(self) -> None:
        """:raises BackendError: no size, or the host has not so much."""
        if self.size == 0:
            raise BackendError("can't create backend with size 0")
        flags = mmap.MAP_ANONYMOUS | (mmap.MAP_SHARED if self.share else mmap.MAP_PRIVATE)
        if self.prealloc:
            flags |= mmap.MAP_POPULATE
        try:
            self._memory = mmap.mmap(-1, self.size, flags=flags)
        except (OSError, OverflowError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise BackendError(f"cannot set up guest memory '{self.name}': {why}") from error

    def close(self) -> None:
        """Give it back."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None
