# SPDX-License-Identifier: Apache-2.0
"""The qtest protocol on a chardev: lines in, an answer for each, and interrupts in between.

An interrupt that a command caused is told before the command's answer: QEMU's clients rely on that order. While the
other end takes no output, no further command is read.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from contextlib import ExitStack
from typing import TYPE_CHECKING, TextIO

from qdevpy.accel.qtest.accelerator import QtestAccelerator
from qdevpy.accel.qtest.commands import MOST_BYTES, Commands
from qdevpy.errors import QdevpyError

if TYPE_CHECKING:
    from qdevpy.backend.chardev import Chardev
    from qdevpy.definition.model import QtestDefinition
    from qdevpy.vm.machine import Machine

log = logging.getLogger(__name__)

#: bytes of a command: the longest write, in hexadecimal, and its words
LONGEST_LINE = 2 * MOST_BYTES + 256
#: bytes taken from the chardev at a time
INPUT = 1 << 16
#: changes of interrupt lines that wait for a client; of one that does not read, the oldest are forgotten
MOST_CHANGES = 1 << 16


class QtestServer:
    """One client at a time, for as long as the machine lives.

    :param log_file: gets a line for everything that is said; None: nobody wants to know
    """

    def __init__(self, machine: Machine, chardev: Chardev, log_file: TextIO | None = None) -> None:
        self._machine = machine
        self._chardev = chardev
        self._log_file = log_file
        self._opened = time.monotonic()
        self._input = bytearray()
        self._searched = 0  # bytes of the input that are known to have no newline
        self._skipping = False  # what comes is the rest of a line that was too long
        self._output = bytearray()
        self._changes: deque[tuple[int, bool]] = deque(maxlen=MOST_CHANGES)
        self._told: dict[int, bool] = {}
        self._commands = Commands(machine, self._listen)
        chardev.attach(self._room, self._receive, self._event)

    def close(self) -> None:
        """Nobody listens any more."""
        if isinstance(self._machine.accel, QtestAccelerator):
            self._machine.accel.on_gsi = None
        self._chardev.on_writable(None)
        self._chardev.detach()

    # -- input

    def _room(self) -> int:
        return 0 if self._output else INPUT

    def _receive(self, data: bytes) -> None:
        self._input += data
        self._serve()

    def _serve(self) -> None:
        """Carry out the complete lines, as far as the answers are taken."""
        while not self._output:
            end = self._input.find(b"\n", self._searched)
            if end < 0:
                self._searched = len(self._input)
                if self._searched > LONGEST_LINE:
                    self._skipping = True
                if self._skipping:
                    self._input.clear()
                    self._searched = 0
                return
            line = self._input[:end].decode("ascii", "replace")
            del self._input[: end + 1]
            self._searched = 0
            if self._skipping:
                self._skipping = False
                self._answer(f"FAIL Line too long: expected at most {LONGEST_LINE} bytes")
            else:
                self._command(line)

    def _command(self, line: str) -> None:
        self._note("R", line)
        try:
            answer = self._commands.execute(line)
        except Exception:  # a device's failure, or ours: the client must not wait for ever
            log.exception("qtest: %s", line[:80])
            answer = "FAIL Internal error"
        self._tell_changes()
        self._answer(answer)

    def _event(self, event: str) -> None:
        if event == "opened":
            self._opened = time.monotonic()
            self._told.clear()
            self._note("I", "OPENED")
        elif event == "closed":
            self._note("I", "CLOSED")
            self._input.clear()
            self._searched = 0
            self._skipping = False
            self._output.clear()

    # -- output

    def _answer(self, text: str) -> None:
        self._note("S", text)
        self._output += text.encode() + b"\n"
        self._flush()

    def _flush(self) -> None:
        taken = self._chardev.write(self._output)
        del self._output[:taken]
        if self._output:
            self._chardev.on_writable(self._go_on)

    def _go_on(self) -> None:
        self._flush()
        self._serve()
        if not self._output:
            self._chardev.resume()

    def _note(self, sort: str, text: str) -> None:
        if self._log_file is not None:
            print(f"[{sort} +{time.monotonic() - self._opened:.6f}] {text}", file=self._log_file, flush=True)

    # -- interrupts

    def _listen(self) -> None:
        accel = self._machine.accel
        assert isinstance(accel, QtestAccelerator)
        accel.on_gsi = self._line_changed

    def _line_changed(self, gsi: int, level: bool) -> None:
        """On any thread; told in the order in which they came."""
        self._changes.append((gsi, level))
        self._machine.loop.call_soon(self._tell_changes)

    def _tell_changes(self) -> None:
        while self._changes and not self._output:
            gsi, level = self._changes.popleft()
            if self._told.get(gsi, False) != level:
                self._told[gsi] = level
                self._answer(f"IRQ {'raise' if level else 'lower'} {gsi}")


def start_server(machine: Machine, definition: QtestDefinition) -> QtestServer:
    """Serve the protocol where the definition says, until the machine is closed.

    :raises QdevpyError: the chardev is somebody else's, or the log cannot be written
    """
    from qdevpy.backend.chardev import Chardev

    chardev = machine.backend("chardevs", definition.chardev.given)
    assert isinstance(chardev, Chardev)
    with ExitStack() as cleanup:
        chardev.take("qtest")
        cleanup.callback(chardev.release)
        log_file = None
        if definition.log is not None and definition.log.given != "none":
            try:
                log_file = cleanup.enter_context(open(definition.log.given, "w", encoding="utf-8"))
            except OSError as error:
                raise QdevpyError(f"qtest: cannot write the log '{definition.log.given}': {error.strerror}") from error
        server = QtestServer(machine, chardev, log_file)
        cleanup.callback(server.close)
        machine.at_close(cleanup.pop_all().close)
    return server
