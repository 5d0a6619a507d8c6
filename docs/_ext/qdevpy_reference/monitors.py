# SPDX-License-Identifier: Apache-2.0
"""Commands and events of QMP, commands of the human monitor; of the tables that serve them."""

from __future__ import annotations

from collections.abc import Iterator

from qdevpy.monitor.hmp.table import HmpTable
from qdevpy.monitor.table import Bound, CommandTable, arguments_type
from qdevpy.vm.event_types import EVENTS
from qdevpy.vm.events import event_name
from qdevpy_reference.markdown import code, summary, table, text


def qmp_lines() -> Iterator[str]:
    """Every command with its arguments."""
    rows = [(code(bound.name), _arguments(bound), summary(bound.command.handler)) for bound in CommandTable()]
    yield from table(("command", "arguments", ""), sorted(rows))


def _arguments(bound: Bound) -> str:
    members = getattr(arguments_type(bound), "members", ())
    return ", ".join(code(member.name if not member.optional else f"[{member.name}]") for member in members)


def event_lines() -> Iterator[str]:
    """Every event."""
    yield from table(("event", ""), sorted((code(event_name(event)), summary(event)) for event in EVENTS))


def hmp_lines() -> Iterator[str]:
    """Every command, and what ``info`` shows."""
    known = HmpTable()
    rows = [(code(f"{command.names} {command.params}".strip()), text(command.help)) for command in known.commands]
    rows += [(code(f"info {command.names} {command.params}".strip()), text(command.help)) for command in known.info]
    yield from table(("command", ""), rows)
