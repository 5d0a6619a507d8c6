# SPDX-License-Identifier: Apache-2.0
"""A human monitor on a chardev: greeting, prompt, lines with editing (QEMU: -monitor, -mon mode=readline)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qdevpy.monitor.command import Context
from qdevpy.monitor.commands.control import version_info
from qdevpy.monitor.hmp.editor import LineEditor
from qdevpy.monitor.hmp.monitor import Hmp
from qdevpy.monitor.session import MonitorSession

if TYPE_CHECKING:
    from qdevpy.backend.chardev import Chardev
    from qdevpy.vm.machine import Machine

PROMPT = "(qemu) "


class HmpSession(MonitorSession):
    """One client of the human monitor."""

    def __init__(self, machine: Machine, chardev: Chardev, hang_up: Callable[[], None] | None = None) -> None:
        super().__init__(machine, chardev, hang_up)
        self._hmp = Hmp(Context(machine))
        self._editor = LineEditor(PROMPT, self._hmp.complete)
        self._input = bytearray()
        self._hmp.history = self._editor.history

    def opened(self) -> None:
        """Greet."""
        version = ".".join(map(str, version_info().qemu))
        self._input.clear()
        self.write(f"QEMU {version} monitor - type 'help' for more information\r\n".encode() + self._editor.start())

    def gone(self) -> None:
        """Forget a line that was begun."""
        self._input.clear()

    def received(self, data: bytes) -> None:
        """Keep it; a line is carried out before the next is looked at."""
        self._input += data

    def has_work(self) -> bool:
        """Whether something was typed."""
        return bool(self._input)

    def work(self) -> None:
        """Take what was typed, up to a line's end, and carry that line out."""
        answer = bytearray()
        for count, byte in enumerate(self._input, 1):
            sent, line = self._editor.feed(byte)
            answer += sent
            if line is not None:
                del self._input[:count]
                break
        else:
            self._input.clear()
            line = None
        self.write(bytes(answer))
        if line is not None:
            printed = self._hmp.run(line).replace("\n", "\r\n")
            self.write(printed.encode(errors="replace") + self._editor.start())
