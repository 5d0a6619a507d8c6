# SPDX-License-Identifier: Apache-2.0
"""A machine's commands, as a client of its monitors gives them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from qdevpy.monitor.command import Context, QmpError
from qdevpy.monitor.table import CommandTable
from qdevpy.vm.machine import Machine


class Qmp:
    """Commands on a machine, as a client gives them."""

    def __init__(self, machine: Machine, table: CommandTable) -> None:
        self.machine = machine
        self.ctx = Context(machine, table=table)
        self.events: list[Any] = []
        machine.events.subscribe(self.events.append)

    def __call__(self, name: str, /, **arguments: Any) -> Any:
        """What NAME answers; ``_`` in names of arguments is ``-``, two of them are ``_``."""
        wire = {key.replace("__", "\0").replace("_", "-").replace("\0", "_"): value for key, value in arguments.items()}
        with self.machine.lock:
            return self.ctx.table.execute(self.ctx, name, wire)

    def error(self, name: str, /, **arguments: Any) -> str:
        """The text of the error that NAME answers."""
        with pytest.raises(QmpError) as caught:
            self(name, **arguments)
        return str(caught.value)

    def hmp(self, line: str) -> str:
        """What the human monitor prints."""
        return str(self("human-monitor-command", command_line=line)).replace("\r\n", "\n")


MakeQmp = Callable[..., Qmp]
