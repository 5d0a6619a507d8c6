# SPDX-License-Identifier: Apache-2.0
"""One human monitor: carries out lines and says what is printed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from qdevpy.errors import QdevpyError
from qdevpy.monitor.hmp.arguments import Arguments, Format
from qdevpy.monitor.hmp.command import HmpCommand, HmpError
from qdevpy.monitor.hmp.table import HmpTable

if TYPE_CHECKING:
    from qdevpy.monitor.command import Context
    from qdevpy.vm.machine import Machine

log = logging.getLogger(__name__)


class Hmp:
    """A monitor. What it prints has newlines at the ends of lines; who sends it puts a carriage return before each.

    :param ctx: of QMP, whose commands do most of the work
    :ivar cpu: the vCPU that commands are about
    :ivar history: lines that were given here, oldest first
    """

    def __init__(self, ctx: Context, table: HmpTable | None = None) -> None:
        self.ctx = ctx
        self.table = table or HmpTable()
        self.cpu = 0
        self.history: list[str] = []
        self._format = Format()

    @property
    def machine(self) -> Machine:
        """The machine."""
        return self.ctx.machine

    def qmp(self, name: str, /, **arguments: Any) -> Any:
        """What QMP's command NAME answers; ``_`` is ``-``.

        :raises QmpError: as the command
        """
        wire = {key.replace("_", "-"): value for key, value in arguments.items() if value is not None}
        return self.ctx.table.execute(self.ctx, name, wire)

    def run(self, line: str) -> str:
        """Carry out a line; what is printed. With the VM lock held."""
        text = line.strip()
        if not text:
            return ""
        command, rest = self.find(text)
        if command is None:
            return f"unknown command: '{rest}'\n"
        typed = text[: len(text) - len(rest)].rstrip() if rest else text
        try:
            arguments = Arguments(command, rest, self._format, self.register).parse()
        except HmpError as error:
            return f'{error}\nTry "help {typed}" for more information\n'
        return self._carry_out(command, arguments)

    def _carry_out(self, command: HmpCommand, arguments: dict[str, Any]) -> str:
        try:
            return command(self, **arguments)
        except HmpError as error:
            return f"{error}\n"
        except QdevpyError as error:
            return f"Error: {error}\n"
        except Exception as error:  # a command's mistake must not end the machine
            log.exception("human monitor: %s", command.names)
            return f"Error: {command.names}: internal error: {type(error).__name__}: {error}\n"

    def find(self, line: str) -> tuple[HmpCommand | None, str]:
        """The command that LINE begins with, and the rest of it; None, and the words looked for, where there is none."""
        name, _, rest = line.partition(" ")
        if "/" in name[1:] and name.partition("/")[0] in ("x", "xp", "p", "print", "i", "o"):  # x/4i, as in gdb
            name, _, form = line.partition("/")
            rest = f"/{form}"
        command = HmpTable.find(self.table.commands, name)
        if command is None:
            return None, name
        rest = rest.strip()
        if name != "info" or not rest:
            return command, rest
        item, _, rest = rest.partition(" ")
        found = HmpTable.find(self.table.info, item)
        return (found, rest.strip()) if found is not None else (None, f"info {item}")

    def help(self, words: Sequence[str]) -> str:
        """A line for each command, or for those that WORDS name."""
        if not words:
            return "".join(_help_line(command) for command in self.table.commands)
        command = HmpTable.find(self.table.commands, words[0])
        if command is None:
            return f"unknown command: '{words[0]}'\n"
        if words[0] != "info":
            return _help_line(command)
        if len(words) == 1:
            return "".join(_help_line(info, "info ") for info in self.table.info)
        info = HmpTable.find(self.table.info, words[1])
        return f"unknown command: 'info {words[1]}'\n" if info is None else _help_line(info, "info ")

    def complete(self, line: str) -> list[str]:
        """What the last word of LINE may become."""
        words = line.split(" ")
        if len(words) == 1:
            candidates: Iterable[HmpCommand] = self.table.commands
        elif words[0] == "info" and len(words) == 2:
            candidates = self.table.info
        elif words[0] in ("help", "?") and len(words) == 2:
            candidates = self.table.commands
        else:
            return self._complete_argument(words)
        names = (name for command in candidates for name in command.names.split("|"))
        return sorted(name for name in names if name.startswith(words[-1]))

    def _complete_argument(self, words: Sequence[str]) -> list[str]:
        """Names of what there is in the machine."""
        names = {device.id for device in self.machine.devices() if device.id} | {name for _, name in self.machine.backends}
        return sorted(name for name in names if name.startswith(words[-1])) if words[-1] else []

    def register(self, name: str) -> int | None:
        """A register of the vCPU; None: there is none of that name, or no vCPU."""
        from qdevpy.monitor.hmp.registers import registers

        return registers(self).get(name.lower())


def _help_line(command: HmpCommand, prefix: str = "") -> str:
    return f"{prefix}{command.names} {command.params} -- {command.help}\n"
