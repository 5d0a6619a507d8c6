# SPDX-License-Identifier: Apache-2.0
"""INTx: a function's share of a level-triggered line. The counting is in C (``csrc/intx.c``), for I/O threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qdevpy.native._core import ffi, lib

if TYPE_CHECKING:
    from qdevpy.accel.base import Accelerator


class IntxLines:
    """All lines of a machine's interrupt controllers that PCI functions share."""

    def __init__(self, accel: Accelerator) -> None:
        function, opaque = accel.set_gsi_pointer
        self._keep = (function, opaque)
        self.pointer: Any = ffi.new("struct qd_lines *")
        lib.qd_lines_init(self.pointer, ffi.cast("void (*)(void *, int, int)", function), ffi.cast("void *", opaque))


class Intx:
    """One function's interrupt pin.

    :ivar native: what :meth:`VDev.set_intx` takes, so that C raises it
    """

    def __init__(self, lines: IntxLines) -> None:
        self._lines = lines
        self.pointer: Any = ffi.new("struct qd_intx *", {"lines": lines.pointer, "gsi": -1})
        self.native = (ffi.addressof(lib, "qd_intx_set"), self.pointer)

    @property
    def level(self) -> bool:
        """Whether the function asserts it."""
        return bool(self.pointer.level)

    def set(self, level: bool) -> None:
        """Assert or release it. Any thread."""
        lib.qd_intx_set(self.pointer, level)

    def disable(self, disabled: bool) -> None:
        """The command register's INTx disable bit."""
        lib.qd_intx_disable(self.pointer, disabled)

    def route(self, gsi: int) -> None:
        """Connect it to another line."""
        lib.qd_intx_route(self.pointer, gsi)
