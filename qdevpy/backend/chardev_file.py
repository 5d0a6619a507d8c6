# SPDX-License-Identifier: Apache-2.0
"""``{type: file}``: output to a file, input, where wanted, from another."""

from __future__ import annotations

import os
from typing import ClassVar

import attrs

from qdevpy.backend.chardev_stream import StreamChardev, open_file
from qdevpy.errors import BackendError
from qdevpy.qdev import property as prop


class FileChardev(StreamChardev):
    """Files. A FIFO or character device serves as well."""

    type_name: ClassVar[str] = "file"
    description: ClassVar[str] = "output to a file"

    path: str | None = prop.path(help="file for output; created where it does not exist")
    append: bool = prop.boolean(help="add to the file instead of overwriting it")
    input_path: str | None = prop.path(help="file that input is read from, once")

    _source: int | None = attrs.field(default=None, init=False)
    _sink: int | None = attrs.field(default=None, init=False)

    def open(self) -> None:
        """:raises BackendError: no path, or the host refuses."""
        if self.path is None:
            raise BackendError(f"chardev '{self.name}': property 'path' is missing; give the file for output")
        source = open_file(self.name, self.input_path, os.O_RDONLY | os.O_NONBLOCK) if self.input_path is not None else None
        mode = os.O_APPEND if self.append else os.O_TRUNC
        try:
            sink = open_file(self.name, self.path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | mode)
        except BackendError:
            if source is not None:
                os.close(source)
            raise
        self._source, self._sink = source, sink
        self.start_stream(source, sink)

    def close(self) -> None:
        """Write what waits (a FIFO's) and close."""
        self.drain()
        self.stop_stream()
        for fd in (self._source, self._sink):
            if fd is not None:
                os.close(fd)
