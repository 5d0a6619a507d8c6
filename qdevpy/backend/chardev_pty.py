# SPDX-License-Identifier: Apache-2.0
"""``{type: pty}``: a pseudo-terminal of its own; open while somebody has its other side open."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from typing import TYPE_CHECKING, ClassVar

import attrs

from qdevpy.backend.chardev import Buffer
from qdevpy.backend.chardev_stream import StreamChardev
from qdevpy.errors import BackendError
from qdevpy.qdev import property as prop

if TYPE_CHECKING:
    from qdevpy.vm.loop import Timer

#: how often to look whether somebody came, in seconds: the kernel tells of a pty's hang-up, not of its opening
POLL_INTERVAL = 0.2


class PtyChardev(StreamChardev):
    """A pseudo-terminal. As QEMU's ``chardev/char-pty.c``."""

    type_name: ClassVar[str] = "pty"
    description: ClassVar[str] = "a pseudo-terminal; its name is printed on stderr"
    watches_hangup: ClassVar[bool] = True

    path: str | None = prop.path(help="symbolic link to the pseudo-terminal, removed at the end")

    _master: int | None = attrs.field(default=None, init=False)
    _slave_name: str = attrs.field(default="", init=False)
    _link: str | None = attrs.field(default=None, init=False)
    _timer: Timer | None = attrs.field(default=None, init=False)

    @property
    def filename(self) -> str:
        """As QEMU's."""
        return f"pty:{self.device}"

    @property
    def device(self) -> str:
        """The pseudo-terminal's name: ``/dev/pts/N``."""
        return self._slave_name

    def open(self) -> None:
        """:raises BackendError: no pseudo-terminal, or the link cannot be made."""
        try:
            self._master, slave = os.openpty()
        except OSError as error:
            raise BackendError(f"chardev '{self.name}': no pseudo-terminal: {error.strerror}") from error
        os.set_blocking(self._master, False)
        self._slave_name = os.ttyname(slave)
        tty.setraw(slave, termios.TCSANOW)
        os.close(slave)  # which also makes the kernel report it as hung up
        if self.path is not None:
            self._make_link(self.path)
        print(f"char device redirected to {self.device} (label {self.name})", file=sys.stderr, flush=True)
        self._look()

    def close(self) -> None:
        """Write what waits, remove the link."""
        if self._timer is not None:
            self._timer.cancel()
        self.drain()
        self.stop_stream()
        if self._link is not None and os.path.islink(self._link) and os.readlink(self._link) == self.device:
            os.unlink(self._link)
        if self._master is not None:
            os.close(self._master)
            self._master = None

    def _make_link(self, path: str) -> None:
        assert self._master is not None
        try:
            if os.path.islink(path) and os.readlink(path).startswith("/dev/pts/"):
                os.unlink(path)  # an earlier run's
            os.symlink(self.device, path)
        except OSError as error:
            os.close(self._master)
            self._master = None
            raise BackendError(f"chardev '{self.name}': cannot make the link '{path}': {error.strerror}") from error
        self._link = path

    def _look(self) -> None:
        """Open when somebody is there, else look again later."""
        if self._master is None or self.is_open:
            return
        if self._is_slave_open():
            self.start_stream(self._master, self._master)
        else:
            self._timer = self.machine.loop.call_later(POLL_INTERVAL, self._look)

    def _is_slave_open(self) -> bool:
        if self._master is None:
            return False
        poll = select.poll()
        poll.register(self._master, 0)  # POLLHUP is always reported
        return not poll.poll(0)

    def write(self, data: Buffer) -> int:
        """As any chardev's; who opened it a moment ago misses nothing."""
        if not self.is_open and self._is_slave_open():
            self.start_stream(self._master, self._master)
        return StreamChardev.write(self, data)

    def input_ended(self) -> None:
        """The last one has closed it: wait for the next."""
        if self.is_open:
            self.stop_stream()
            self.set_open(False)
            self._look()

    def output_failed(self, error: OSError) -> None:
        """Hung up; the event comes from the main loop, the device is in the middle of writing."""
        StreamChardev.output_failed(self, error)
        self.machine.loop.call_soon(self.input_ended)
