# SPDX-License-Identifier: Apache-2.0
"""Several users of one chardev, a serial port and a monitor on one terminal for instance.

::

    terminal <--> chardev <--> Mux --+-- port of isa-serial    output of all goes out;
                                     +-- port of a monitor     input goes to one, Ctrl-A c to the next

As QEMU's ``chardev/char-mux.c``. A monitor's client is there from the first time on that input goes to it.
"""

from __future__ import annotations

from typing import ClassVar

import attrs

from qdevpy.backend.chardev import Buffer, Chardev
from qdevpy.backend.chardev_escape import HELP, EscapeFilter

#: bytes of input that wait for who has it
TYPE_AHEAD = 4096


class Mux:
    """Who uses a chardev, and who of them has its input.

    :param below: the chardev
    """

    def __init__(self, below: Chardev) -> None:
        self.below = below
        self.ports: list[MuxPort] = []
        self._attached = False
        self._keys = None if below.filters_keys else EscapeFilter()
        self._typed = bytearray()
        self._focus: MuxPort | None = None

    def add(self, *, waits: bool) -> MuxPort:
        """One more user.

        :param waits: for the other end, the other end comes with the first input
        """
        port = MuxPort(id=self.below.id)
        port.machine, port.hub, port.waits = self.below.machine, self, waits
        self.ports.append(port)
        return port

    def remove(self, port: MuxPort) -> None:
        """A user goes; where it had the input, the next one gets it."""
        if self._focus is port:
            self.turn()
        self.ports.remove(port)
        if self._focus is port:
            self._focus = None

    def ready(self, port: MuxPort) -> None:
        """A user takes input from now on; the first one has it."""
        if not self._attached:
            self._attached = True
            self.below.attach(self._room, self._receive, self._event)
        if self._focus is None:
            self._focus = port
        self._follow(port)

    def turn(self) -> None:
        """Input goes to the next user that takes any."""
        users = [port for port in self.ports if port.frontend_open or port is self._focus]
        if self._focus is not None and len(users) > 1:
            self._focus = users[(users.index(self._focus) + 1) % len(users)]
            self._focus.waits = False
            self._follow(self._focus)
            self.resume()

    def has_input(self, port: MuxPort) -> bool:
        """Whether input goes to PORT."""
        return self._focus is port

    def _follow(self, port: MuxPort) -> None:
        port.set_open(self.below.is_open and not port.waits)

    # -- what the chardev asks and tells

    def _room(self) -> int:
        if self._keys is not None:  # Ctrl-A c must work, whether the guest has room or not
            return TYPE_AHEAD - len(self._typed)
        return self._focus.room() if self._focus is not None else 0

    def _receive(self, data: bytes) -> None:
        if self._keys is None:
            if self._focus is not None:
                self._focus.deliver(data)
            return
        for part in self._keys.split(data):
            if isinstance(part, str):
                self._command(part)
            else:
                self._typed += part
        self._deliver()

    def _deliver(self) -> None:
        """Input that waits, as far as there is room."""
        while self._typed and self._focus is not None and (room := self._focus.room()) > 0:
            chunk = bytes(self._typed[:room])
            del self._typed[:room]
            self._focus.deliver(chunk)

    def _command(self, key: str) -> None:
        match key:
            case "x":
                machine = self.below.machine
                machine.request_shutdown(f"Ctrl-A x on chardev '{self.below.name}'", cause="host-ui")
            case "b":
                self._event("break")
            case "h" | "?":
                self.below.write(HELP.encode())
            case "c":
                self._deliver()  # what was typed before is the one's that has the input now
                self._typed.clear()
                self.turn()

    def resume(self) -> None:
        """Who has the input can take some."""
        self._deliver()
        self.below.resume()

    def _event(self, event: str) -> None:
        for port in list(self.ports):
            if event in ("opened", "closed"):
                self._follow(port)
            elif event != "break" or port is self._focus:
                port.send_event(event)

    def writable(self) -> None:
        """The chardev takes output again."""
        for port in list(self.ports):
            port.writable()


class MuxPort(Chardev):
    """A chardev to one of its users. Made by :meth:`Mux.add`, named as the chardev, never an entry of its own."""

    type_name: ClassVar[str] = "mux"
    description: ClassVar[str] = "one user's side of a chardev that several use"

    hub: Mux = attrs.field(default=None, init=False)
    waits: bool = attrs.field(default=False, init=False)

    def resume(self) -> None:
        """Input goes on, where it is this user's."""
        if self.frontend_open:
            self.hub.ready(self)
            if self.hub.has_input(self):
                self.hub.resume()

    def detach(self) -> None:
        """The user goes for good."""
        super().detach()
        if self in self.hub.ports:
            self.hub.remove(self)

    def do_write(self, data: Buffer) -> int:
        """Output of all users goes out as it comes."""
        taken = self.hub.below.write(data)
        if taken < len(data):
            self.hub.below.on_writable(self.hub.writable)
        return taken

    @property
    def filename(self) -> str:
        """The chardev's."""
        return self.hub.below.filename

    @property
    def terminal_size(self) -> tuple[int, int] | None:
        """The chardev's."""
        return self.hub.below.terminal_size
