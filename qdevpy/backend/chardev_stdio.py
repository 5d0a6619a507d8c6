# SPDX-License-Identifier: Apache-2.0
"""``{type: stdio}``: the terminal, or whatever standard input and output are.

Standard input and output belong to whoever started us too: the flags of an open file description, like
O_NONBLOCK, would be theirs as well. So none is changed: reads follow the main loop's word that there is
something, and output goes through a description of our own where the host gives us one.
"""

from __future__ import annotations

import os
import select
import signal
import stat
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from qdevpy.backend.chardev import Buffer
from qdevpy.backend.chardev_escape import HELP, EscapeFilter
from qdevpy.backend.chardev_stream import StreamChardev
from qdevpy.errors import BackendError
from qdevpy.qdev import property as prop

if TYPE_CHECKING:
    from qdevpy.backend.terminal import RawTerminal

#: bytes typed that wait for the guest; what is more is lost, as on a terminal that nobody reads
TYPE_AHEAD = 4096
#: bytes that a descriptor surely takes once it has said that it takes any (Linux's tty layer)
SMALL = 128


class StdioChardev(StreamChardev):
    """Standard input and output; a terminal is raw from open to close."""

    type_name: ClassVar[str] = "stdio"
    description: ClassVar[str] = "standard input and output; Ctrl-A x ends the machine"

    signals: bool = prop.boolean(name="signal", help="Ctrl-C and its like end the machine instead of going to the guest")

    _terminal: RawTerminal | None = attrs.field(default=None, init=False)
    _keys: EscapeFilter | None = attrs.field(default=None, init=False)
    _typed: bytearray = attrs.field(factory=bytearray, init=False)
    _sink: int | None = attrs.field(default=None, init=False)
    _send: Callable[[Buffer], int] | None = attrs.field(default=None, init=False)
    _handlers: dict[int, Any] = attrs.field(factory=dict, init=False)

    @property
    def filters_keys(self) -> bool:
        """On a terminal, and wherever it is shared."""
        return self._keys is not None

    def open(self) -> None:
        """:raises BackendError: another chardev has it, or it is closed."""
        others = (b for b in self.machine.backends.values() if isinstance(b, StdioChardev) and b is not self)
        for other in others:
            raise BackendError(f"chardev '{self.name}': standard input and output are in use by chardev '{other.name}'")
        try:
            os.fstat(0)
            self._open_output()
        except OSError as error:
            raise BackendError(f"chardev '{self.name}': standard input or output: {error.strerror}") from error
        if os.isatty(0):
            self._open_terminal()
        if self.mux == "on" or (self.mux == "auto" and self._terminal is not None):
            self._keys = EscapeFilter()
        self.start_stream(0, self._sink)

    def close(self) -> None:
        """Write what waits, and give the terminal back as it was."""
        try:
            self.drain()
            self.stop_stream()
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler or signal.SIG_DFL)
            self._handlers.clear()
            if self._terminal is not None:
                self._terminal.restore()
            if self._sink is not None:
                os.close(self._sink)
                self._sink = None

    # -- terminal

    def _open_terminal(self) -> None:
        from qdevpy.backend.terminal import RawTerminal

        self._terminal = RawTerminal(0, signals=self.signals)
        if threading.current_thread() is threading.main_thread():
            loop = self.machine.loop  # handlers run between any two instructions: only post
            for number, action in ((signal.SIGCONT, self._continued), (signal.SIGWINCH, self._resized)):
                self._handlers[number] = signal.signal(number, lambda *_, action=action: loop.call_soon(action))

    def _continued(self) -> None:
        if self._terminal is not None:
            self._terminal.enter()

    def _resized(self) -> None:
        self.send_event("resized")

    @property
    def terminal_size(self) -> tuple[int, int] | None:
        """Columns and rows, where output is a terminal."""
        try:
            size = os.get_terminal_size(1)
        except OSError:
            return None
        return (size.columns, size.lines) if size.columns and size.lines else None

    # -- output

    def _open_output(self) -> None:
        """Find the way to write to standard output without ever blocking, and without changing its flags."""
        sys.stdout.flush()
        mode = os.fstat(1).st_mode
        self._sink = os.dup(1)
        if stat.S_ISREG(mode):
            self._send = self._write_direct
        elif stat.S_ISSOCK(mode):
            self._send = self._write_socket
        else:
            try:
                again = os.open("/proc/self/fd/1", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            except OSError:  # another user's terminal, a pipe without a reader
                self._send = self._write_small
            else:
                os.close(self._sink)
                self._sink, self._send = again, self._write_direct

    def send(self, data: Buffer) -> int:
        """:raises BlockingIOError: nothing more goes now."""
        assert self._send is not None
        return self._send(data)

    def _write_direct(self, data: Buffer) -> int:
        assert self._sink is not None
        return os.write(self._sink, data)

    def _write_socket(self, data: Buffer) -> int:
        import socket

        assert self._sink is not None
        peer = socket.socket(fileno=self._sink)
        try:
            return peer.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        finally:
            peer.detach()

    def _write_small(self, data: Buffer) -> int:
        assert self._sink is not None
        if not select.select([], [self._sink], [], 0)[1]:
            raise BlockingIOError
        return os.write(self._sink, memoryview(data)[:SMALL])

    # -- input

    def read_size(self) -> int:
        """Where Ctrl-A x must work, everything is read, whether the guest has room or not."""
        return TYPE_AHEAD if self._keys is not None else self.room()

    def resume(self) -> None:
        """What was typed ahead comes first."""
        while self._typed and (room := self.room()) > 0:
            chunk = bytes(self._typed[:room])
            del self._typed[:room]
            self.deliver(chunk)
        super().resume()

    def received(self, data: bytes) -> None:
        """Commands to us, everything else to the guest."""
        if self._keys is None:
            self.deliver(data)
            return
        for part in self._keys.split(data):
            if isinstance(part, str):
                self._command(part)
            else:
                self._typed += part[: TYPE_AHEAD - len(self._typed)]
        self.resume()

    def _command(self, key: str) -> None:
        if key == "x":
            self.machine.request_shutdown(f"Ctrl-A x on chardev '{self.name}'", cause="host-ui")
        elif key == "b":
            self.send_event("break")
        elif key in "h?":
            self.write(HELP.encode())
        elif key == "c":
            self._turn()

    def _turn(self) -> None:
        """Input goes to the next user."""
        if self._mux is None:
            self.write(b"\r\nqdevpy: there is no monitor here; mux: on and an entry of monitors: make one\r\n")
            return
        self.resume()  # what was typed before is the one's that has the input now
        self._mux.turn()
