# SPDX-License-Identifier: Apache-2.0
"""The human monitor's commands by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module

from qdevpy.monitor.hmp.command import HmpCommand

#: modules that have COMMANDS, and INFO for what stands behind ``info``
MODULES = tuple(
    f"qdevpy.monitor.hmp.commands.{name}" for name in ("general", "run", "block", "net", "char", "devices", "memory", "machine")
)


class HmpTable:
    """Commands, and those behind ``info``, each sorted by name."""

    def __init__(self, modules: Iterable[str] = MODULES) -> None:
        loaded = [import_module(name) for name in modules]
        self.commands = _sorted(command for module in loaded for command in module.COMMANDS)
        self.info = _sorted(command for module in loaded for command in module.INFO)

    @staticmethod
    def find(commands: Iterable[HmpCommand], name: str) -> HmpCommand | None:
        """The command of that name or alias."""
        return next((command for command in commands if command.is_called(name)), None)


def _sorted(commands: Iterable[HmpCommand]) -> Sequence[HmpCommand]:
    return sorted(commands, key=lambda command: command.names)
