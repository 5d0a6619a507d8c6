# SPDX-License-Identifier: Apache-2.0
"""What QMP and the human monitor have in common: one client on a chardev, its input in turn, its output bounded.

Everything runs with the VM lock held. Commands are carried out on the main loop's thread, one in a round of the
loop, so that what one of them requests of the machine (stop, reset) is done before the next begins, and no client
keeps others waiting.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qdevpy.monitor.command import Closeable, K

if TYPE_CHECKING:
    from qdevpy.backend.chardev import Chardev
    from qdevpy.vm.machine import Machine

log = logging.getLogger(__name__)

#: bytes read at a time
INPUT_SIZE = 4096
#: bytes of output that wait for the client before its next command waits, too
OUTPUT_HIGH = 64 << 10
#: bytes of output that wait before events are no longer kept, and a client that can be hung up is
OUTPUT_LIMIT = 4 << 20


class MonitorSession(ABC):
    """One client of a monitor.

    :param machine: the machine
    :param chardev: where the client is; taken, and attached to by :meth:`open`
    :param hang_up: breaks the connection off; None: the chardev has none
    :ivar closed: the client has gone
    """

    def __init__(self, machine: Machine, chardev: Chardev, hang_up: Callable[[], None] | None = None) -> None:
        self.machine = machine
        self.chardev = chardev
        self.closed = True
        self._hang_up = hang_up
        self._output = bytearray()
        self._scheduled = False
        self._kept: dict[type[Any], Closeable] = {}

    # -- for commands

    def keep(self, kind: type[K], make: Callable[[], K]) -> K:
        """See :class:`qdevpy.monitor.command.Monitor`."""
        if kind not in self._kept:
            self._kept[kind] = make()
        kept = self._kept[kind]
        assert isinstance(kept, kind)
        return kept

    # -- for subclasses

    @abstractmethod
    def opened(self) -> None:
        """A client is there: begin from the beginning."""

    @abstractmethod
    def gone(self) -> None:
        """The client has gone: forget what it wanted."""

    @abstractmethod
    def received(self, data: bytes) -> None:
        """Input. Keep what it asks for; :meth:`work` is called for it."""

    @abstractmethod
    def has_work(self) -> bool:
        """Whether there is something that :meth:`work` could do now."""

    @abstractmethod
    def work(self) -> None:
        """Carry out one command."""

    def wants_input(self) -> bool:
        """Whether to read more; by default only when all is done."""
        return not self.has_work()

    # -- life

    def open(self) -> None:
        """Begin to serve the chardev."""
        self.chardev.attach(self._can_receive, self._receive, self._event)

    def close(self) -> None:
        """Send what waits, as far as the client takes it, and let go of the chardev."""
        self.flush()
        self.chardev.detach()
        if not self.closed:
            self._end()

    def flush(self) -> None:
        """Send what waits; a client that takes nothing for a second loses it."""
        drain = getattr(self.chardev, "drain", None)
        while self._output and not self.closed:
            taken = self.chardev.write(self._output)
            del self._output[:taken]
            if not taken:
                if drain is None:
                    return
                drain()
                taken = self.chardev.write(self._output)
                del self._output[:taken]
                if not taken:
                    return

    def _event(self, event: str) -> None:
        if event == "opened":
            self.closed = False
            self.opened()
        elif event == "closed" and not self.closed:
            self._end()

    def _end(self) -> None:
        self.closed = True
        self._output.clear()
        while self._kept:
            self._kept.popitem()[1].close()
        self.gone()

    # -- input

    def _can_receive(self) -> int:
        return INPUT_SIZE if not self.closed and len(self._output) < OUTPUT_HIGH and self.wants_input() else 0

    def _receive(self, data: bytes) -> None:
        self.received(data)
        self.schedule()

    def schedule(self) -> None:
        """Have :meth:`work` called, where there is work; where there is none, read on."""
        if self.closed or self._scheduled or len(self._output) >= OUTPUT_HIGH:
            return
        if self.has_work():
            self._scheduled = True
            self.machine.loop.call_soon(self._work)
        if self._can_receive():
            self.chardev.resume()

    def _work(self) -> None:
        self._scheduled = False
        if not self.closed and len(self._output) < OUTPUT_HIGH and self.has_work():
            self.work()
        self.schedule()

    # -- output

    def write(self, data: bytes, *, optional: bool = False) -> None:
        """Send DATA, or keep it until the client takes it.

        :param optional: an event: not sent to a client that has long taken nothing, who is hung up instead
        """
        if self.closed:
            return
        if optional and len(self._output) + len(data) > OUTPUT_LIMIT:
            self._overflow()
            return
        idle = not self._output
        self._output += data
        if idle:
            self._send()

    def _send(self) -> None:
        if self._output and not self.closed:
            taken = self.chardev.write(self._output)
            del self._output[:taken]
            if self._output:
                self.chardev.on_writable(self._writable)

    def _writable(self) -> None:
        self._send()
        self.schedule()

    def _overflow(self) -> None:
        if self._hang_up is None:
            return
        log.warning("chardev '%s': a monitor's client does not read: hung up", self.chardev.name)
        self._output.clear()
        hang_up, self._hang_up = self._hang_up, None
        self.machine.loop.call_soon(hang_up)
