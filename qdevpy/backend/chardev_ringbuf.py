# SPDX-License-Identifier: Apache-2.0
"""``{type: ringbuf}``: keeps the last output in memory, for tests and QMP."""

from __future__ import annotations

from typing import ClassVar

import attrs

from qdevpy.backend.chardev import Buffer, Chardev
from qdevpy.errors import BackendError
from qdevpy.qdev import property as prop


class RingbufChardev(Chardev):
    """A ring of ``size`` bytes: new output overwrites the oldest, as QEMU's ``ringbuf`` does."""

    type_name: ClassVar[str] = "ringbuf"
    description: ClassVar[str] = "keeps the last output in memory"

    size: int = prop.size(65536, help="bytes kept; a power of two")

    _kept: bytearray = attrs.field(factory=bytearray, init=False)
    _input: bytearray = attrs.field(factory=bytearray, init=False)

    def open(self) -> None:
        """:raises BackendError: the size is no power of two."""
        if self.size < 1 or self.size & (self.size - 1):
            raise BackendError(f"chardev '{self.name}': size {self.size}: expected a power of two, for example 64K")
        self.is_open = True

    def do_write(self, data: Buffer) -> int:
        """Keep the newest; takes everything."""
        self._kept += data
        del self._kept[: -self.size]
        return len(data)

    def read(self, count: int = -1) -> bytes:
        """Take the oldest COUNT bytes out (QMP ``ringbuf-read``); negative: all that are there."""
        taken = bytes(self._kept if count < 0 else self._kept[:count])
        del self._kept[: len(taken)]
        return taken

    def feed(self, data: bytes) -> None:
        """Input for the device, which gets it as fast as it takes it."""
        self._input += data
        self.resume()

    def resume(self) -> None:
        """Hand over input that waits."""
        while self._input and (room := self.room()) > 0:
            chunk = bytes(self._input[:room])
            del self._input[:room]
            self.deliver(chunk)
