# SPDX-License-Identifier: Apache-2.0
"""Commands on the machine as a whole (QEMU: qapi/machine.json, qapi/run-state.json, qapi/misc.json)."""

from __future__ import annotations

from typing import Literal, NamedTuple

from qdevpy.monitor.command import Context, command

RunStateName = Literal[
    "debug",
    "inmigrate",
    "internal-error",
    "io-error",
    "paused",
    "postmigrate",
    "prelaunch",
    "finish-migrate",
    "restore-vm",
    "running",
    "save-vm",
    "shutdown",
    "suspended",
    "watchdog",
    "guest-panicked",
    "colo",
]


class StatusInfo(NamedTuple):
    """``singlestep`` is never on."""

    running: bool
    singlestep: bool
    status: RunStateName


@command("query-status", allow_preconfig=True)
def query_status(ctx: Context) -> StatusInfo:
    """Which run state the machine is in."""
    return StatusInfo(ctx.machine.running, False, ctx.machine.state.value)


COMMANDS = (query_status,)
