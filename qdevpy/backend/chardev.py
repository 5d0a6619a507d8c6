# SPDX-License-Identifier: Apache-2.0
"""Character devices: where the bytes of a serial port or console go, and come from.

::

    device --write()--> chardev --> terminal, socket, file     backpressure: write() takes less than it was given,
                                                               on_writable() says when to go on
    device <--receive-- chardev <-- terminal, socket, file     backpressure: can_receive() says 0,
                                                               resume() says when to go on

A chardev is *open* while somebody is at its other end. What a device writes to a closed one is taken and
thrown away, as QEMU does: a guest must not hang because nobody listens. All callbacks run with the VM
lock held, and so must all calls be.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

import attrs

from qdevpy.backend.base import Backend
from qdevpy.errors import BackendError
from qdevpy.qdev import property as prop

if TYPE_CHECKING:
    from qdevpy.backend.chardev_mux import Mux

#: what a device hands over; views of guest memory are copied before write() returns
Buffer = bytes | bytearray | memoryview

CanReceive = Callable[[], int]
Receive = Callable[[bytes], None]
Event = Callable[[str], None]


class Chardev(Backend):
    """Base class of chardevs. A subclass overrides :meth:`do_write` and calls :meth:`deliver` and :meth:`set_open`.

    :ivar is_open: whether somebody is at the other end
    :ivar frontend_open: whether the device listens: one is plugged in, and where the guest opens and closes it, it has
    """

    section: ClassVar[str] = "chardevs"

    mux: str = prop.on_off_auto(help="on: several may use it, and Ctrl-A c gives the input to the next")
    logfile: str | None = prop.path(help="file that gets a copy of all output")
    logappend: bool = prop.boolean(help="add to the log file instead of overwriting it")

    is_open: bool = attrs.field(default=False, init=False)
    frontend_open: bool = attrs.field(default=False, init=False)
    _can_receive: CanReceive | None = attrs.field(default=None, init=False)
    _receive: Receive | None = attrs.field(default=None, init=False)
    _event: Event | None = attrs.field(default=None, init=False)
    _on_writable: Callable[[], None] | None = attrs.field(default=None, init=False)
    _mux: Mux | None = attrs.field(default=None, init=False)
    _log: int = attrs.field(default=-1, init=False)

    # -- for devices

    def share(self, *, waits: bool = False) -> Chardev:
        """The chardev as one user sees it; with ``mux: on`` each has a side of its own.

        :param waits: a user who is to be told that somebody is at the other end only once input goes to it (a monitor)
        """
        if self.mux != "on":
            return self
        if self._mux is None:
            from qdevpy.backend.chardev_mux import Mux

            self._mux = Mux(self)
        return self._mux.add(waits=waits)

    @property
    def filters_keys(self) -> bool:
        """Override: whether it takes keys after Ctrl-A out of its input itself."""
        return False

    def attach(self, can_receive: CanReceive, receive: Receive, event: Event) -> None:
        """Plug a device in; where the chardev is open, ``event("opened")`` is called at once.

        :param can_receive: bytes that the device can take now
        :param receive: called with at most that many
        :param event: called with ``"opened"``, ``"closed"``, ``"break"`` (the line's, to be sent to the guest) or
            ``"resized"`` (see :attr:`terminal_size`); more may come, ignore what you do not know
        """
        self._can_receive, self._receive, self._event = can_receive, receive, event
        self.frontend_open = True
        if self.is_open:
            event("opened")
        self.resume()

    def detach(self) -> None:
        """The device goes; input waits for the next one."""
        self._can_receive = self._receive = self._event = self._on_writable = None
        self.frontend_open = False

    def write(self, data: Buffer) -> int:
        """Send DATA; never blocks.

        :returns: how many bytes were taken; where it is less than all, keep the rest until :meth:`on_writable`
        """
        taken = self.do_write(data) if self.is_open and len(data) else len(data)
        if self._log >= 0 and taken:
            self._write_log(memoryview(data)[:taken])
        return taken

    def on_writable(self, callback: Callable[[], None] | None) -> None:
        """Call once when :meth:`write` takes bytes again, also where it does because the other end went away.

        :param callback: replaces an earlier one; None: do not call
        """
        self._on_writable = callback

    def resume(self) -> None:
        """The device can take input again, after ``can_receive`` has said 0."""

    def set_guest_open(self, opened: bool) -> None:
        """The guest opened or closed its side. Override where the other end is to know."""
        self.frontend_open = opened

    @property
    def filename(self) -> str:
        """What QMP's query-chardev calls the other end."""
        return self.type_name

    @property
    def terminal_size(self) -> tuple[int, int] | None:
        """Columns and rows of the terminal at the other end; None where that is not known."""
        return None

    # -- log

    def before_open(self) -> None:
        """Open the log file.

        :raises BackendError: it cannot be
        """
        if self.logfile is None:
            return
        mode = os.O_APPEND if self.logappend else os.O_TRUNC
        try:
            self._log = os.open(self.logfile, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | mode, 0o666)
        except OSError as error:
            raise BackendError(f"chardev '{self.name}': Unable to open logfile {self.logfile}: {error.strerror}") from None

    def after_close(self) -> None:
        """Close the log file."""
        if self._log >= 0:
            os.close(self._log)
            self._log = -1

    def _write_log(self, data: memoryview) -> None:
        """What does not go into the log, for the host's disk is full, is lost; the guest's output is not."""
        with suppress(OSError):
            os.write(self._log, data)

    # -- for chardevs

    def do_write(self, data: Buffer) -> int:
        """Override: as :meth:`write`; only called while open, and not for nothing."""
        return len(data)

    def room(self) -> int:
        """How many bytes the device can take; 0 where there is no device."""
        return self._can_receive() if self._can_receive is not None else 0

    def deliver(self, data: bytes) -> None:
        """Hand input to the device: at most :meth:`room` bytes."""
        if self._receive is not None:
            self._receive(data)

    def send_event(self, event: str) -> None:
        """Tell the device, where there is one."""
        if self._event is not None:
            self._event(event)

    def set_open(self, opened: bool) -> None:
        """The other end came or went; the device is told once for each change."""
        if opened == self.is_open:
            return
        self.is_open = opened
        self.send_event("opened" if opened else "closed")
        if not opened:
            self.writable()

    def writable(self) -> None:
        """There is room for output again."""
        callback, self._on_writable = self._on_writable, None
        if callback is not None:
            callback()
