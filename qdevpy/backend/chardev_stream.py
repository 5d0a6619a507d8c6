# SPDX-License-Identifier: Apache-2.0
"""What chardevs on file descriptors have in common: reading as far as the device has room, a bounded
output buffer, and noticing that the other end hung up while nothing is read.
"""

from __future__ import annotations

import array
import fcntl
import logging
import os
import select
import termios
from typing import ClassVar

import attrs

from qdevpy.backend.chardev import Buffer, Chardev
from qdevpy.errors import BackendError

log = logging.getLogger(__name__)

#: bytes that wait for a slow descriptor before the device is told to keep its own
OUTPUT_LIMIT = 65536
#: bytes of one read
READ_LIMIT = 4096
#: how long closing waits for a descriptor that takes nothing at all, in seconds
DRAIN_PATIENCE = 1.0


class StreamChardev(Chardev):
    """A chardev on one descriptor for input and one for output (often the same).

    :cvar watches_hangup: the descriptor reports EPOLLHUP when the other end goes, and that closes the chardev
    """

    watches_hangup: ClassVar[bool] = False

    _in: int | None = attrs.field(default=None, init=False)
    _out: int | None = attrs.field(default=None, init=False)
    _waiting: bytearray = attrs.field(factory=bytearray, init=False)
    _reading: bool = attrs.field(default=False, init=False)
    _watch: select.epoll | None = attrs.field(default=None, init=False)

    # -- life of the descriptors

    def start_stream(self, source: int | None, sink: int | None) -> None:
        """Use these descriptors from now on. They stay the caller's to close, after :meth:`stop_stream`."""
        self._in, self._out = source, sink
        self.set_open(True)
        self.resume()

    def stop_stream(self) -> None:
        """Let go of the descriptors; output that waits is forgotten."""
        self._stop_input()
        if self._out is not None and self._waiting:
            self.machine.loop.remove_writer(self._out)
        self._waiting.clear()
        self._out = None

    def _stop_input(self) -> None:
        self._drop_watch()
        if self._in is not None and self._reading:
            self.machine.loop.remove_reader(self._in)
        self._reading = False
        self._in = None

    def input_ended(self) -> None:
        """Override: end of file, or the other end hung up. Default: there is no more input, output goes on."""
        self._stop_input()

    def output_failed(self, error: OSError) -> None:
        """Override: the descriptor takes no more, ever. Default: say so once; output is discarded from now on."""
        log.warning("chardev '%s': %s; its output is discarded from now on", self.name, error.strerror)
        if self._out is not None and self._waiting:
            self.machine.loop.remove_writer(self._out)
        self._waiting.clear()
        self._out = None

    # -- input

    def resume(self) -> None:
        """Read again, where there is room."""
        if self._in is None or self._reading or self.read_size() <= 0:
            self._watch_hangup()
            return
        self._drop_watch()
        self._reading = True
        try:
            self.machine.loop.add_reader(self._in, self._readable)
        except PermissionError:  # epoll's answer to regular files and /dev/null, which are always readable
            self.machine.loop.call_soon(self._readable_file)

    def read_size(self) -> int:
        """How many bytes to read at most: what the device has room for."""
        return self.room()

    def received(self, data: bytes) -> None:
        """Override: input arrived. Default: it is the device's."""
        self.deliver(data)

    def _readable(self) -> None:
        size = min(self.read_size(), READ_LIMIT)
        if self._in is None or size <= 0:
            self._pause()
            return
        try:
            data = os.read(self._in, size)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:  # EIO: the pty's other side is closed; ECONNRESET
            log.debug("chardev '%s': read: %s", self.name, error.strerror)
            data = b""
        if data:
            self.received(data)
        else:
            self.input_ended()

    def _readable_file(self) -> None:
        self._reading = False
        if self._in is not None and self.read_size() > 0:
            self._readable()
            self.resume()

    def _pause(self) -> None:
        """The device has no room: the descriptor would be reported readable again and again."""
        if self._in is not None and self._reading:
            self.machine.loop.remove_reader(self._in)
        self._reading = False
        self._watch_hangup()

    # -- hang-up while nothing is read

    def _watch_hangup(self) -> None:
        if not self.watches_hangup or self._in is None or self._reading or self._watch is not None:
            return
        # an epoll of its own: the main loop's has no way to ask for hang-ups only
        self._watch = select.epoll()
        self._watch.register(self._in, select.EPOLLRDHUP | select.EPOLLONESHOT)
        self.machine.loop.add_reader(self._watch.fileno(), self._hung_up)

    def _drop_watch(self) -> None:
        if self._watch is not None:
            self.machine.loop.remove_reader(self._watch.fileno())
            self._watch.close()
            self._watch = None

    def _hung_up(self) -> None:
        assert self._watch is not None
        if not self._watch.poll(0):
            return
        if self._in is not None and self._unread() == 0:
            self.input_ended()
        else:  # what was sent before the end is read first; the watch stays, disarmed by EPOLLONESHOT
            log.debug("chardev '%s': hung up with unread input", self.name)

    def _unread(self) -> int:
        assert self._in is not None
        count = array.array("i", [0])
        try:
            fcntl.ioctl(self._in, termios.FIONREAD, count)
        except OSError:
            return 0
        return count[0]

    # -- output

    def do_write(self, data: Buffer) -> int:
        """Send what goes, keep the next :data:`OUTPUT_LIMIT` bytes, leave the rest to the caller."""
        taken = 0 if self._waiting else self._send_all(data)
        rest = memoryview(data)[taken : taken + OUTPUT_LIMIT - len(self._waiting)]
        if self._out is None:  # failed, now or before
            return len(data)
        if len(rest):
            if not self._waiting:
                self.machine.loop.add_writer(self._out, self._flush)
            self._waiting += rest
        return taken + len(rest)

    def send(self, data: Buffer) -> int:
        """Override: write to the descriptor without ever blocking.

        :raises BlockingIOError: it takes nothing now
        """
        assert self._out is not None
        return os.write(self._out, data)

    def _send_all(self, data: Buffer) -> int:
        """Send until the descriptor takes no more; how many bytes."""
        view = memoryview(data)
        sent = 0
        while self._out is not None and sent < len(view):
            try:
                sent += self.send(view[sent:])
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self.output_failed(error)
        return sent

    def _flush(self) -> None:
        sent = self._send_all(bytes(self._waiting))
        del self._waiting[:sent]
        if not self._waiting:
            if self._out is not None:
                self.machine.loop.remove_writer(self._out)
            self.writable()

    def drain(self, patience: float = DRAIN_PATIENCE) -> None:
        """Send what waits, as long as the descriptor takes something every PATIENCE seconds; for closing."""
        poll = select.poll()
        if self._waiting and self._out is not None:
            poll.register(self._out, select.POLLOUT)
            self.machine.loop.remove_writer(self._out)
        while self._waiting and self._out is not None and poll.poll(patience * 1000):
            sent = self._send_all(bytes(self._waiting))
            del self._waiting[:sent]
        if self._waiting:
            log.warning("chardev '%s': the last %d bytes of output were not taken", self.name, len(self._waiting))
            self._waiting.clear()


def open_file(name: str, path: str, flags: int) -> int:
    """Open a chardev's file, mode 0666 less the umask.

    :raises BackendError: names the chardev, the path and what the host said
    """
    try:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOCTTY, 0o666)
    except OSError as error:
        raise BackendError(f"chardev '{name}': cannot open '{path}': {error.strerror}") from error
