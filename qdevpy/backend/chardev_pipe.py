# SPDX-License-Identifier: Apache-2.0
"""``{type: pipe}``: FIFOs. As QEMU's ``chardev/char-pipe.c``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import ClassVar

import attrs

from qdevpy.backend.chardev_stream import StreamChardev, open_file
from qdevpy.errors import BackendError
from qdevpy.qdev import property as prop


class PipeChardev(StreamChardev):
    """``PATH.in`` for input and ``PATH.out`` for output where both are there, else PATH for both.

    They are opened for reading and writing, so that opening waits for nobody and no end ever hangs up.
    """

    type_name: ClassVar[str] = "pipe"
    description: ClassVar[str] = "FIFOs: PATH.in and PATH.out, or PATH"
    required: ClassVar[Sequence[str]] = ("path",)

    path: str | None = prop.path(help="the FIFO, made with mkfifo beforehand; of two, the name without .in and .out")

    _fds: list[int] = attrs.field(factory=list, init=False)

    def open(self) -> None:
        """:raises BackendError: no path, or the host refuses."""
        if self.path is None:
            raise BackendError(f"chardev '{self.name}': property 'path' is missing; give the name of a FIFO")
        names = [f"{self.path}.in", f"{self.path}.out"]
        if not all(map(os.path.exists, names)):
            names = [self.path]
        try:
            for name in names:
                self._fds.append(open_file(self.name, name, os.O_RDWR | os.O_NONBLOCK))
        except BackendError:
            self._close_fds()
            raise
        self.start_stream(self._fds[0], self._fds[-1])

    def close(self) -> None:
        """Write what waits and close."""
        self.drain()
        self.stop_stream()
        self._close_fds()

    def _close_fds(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()

    @property
    def filename(self) -> str:
        """As QEMU's."""
        return "pipe"
