# SPDX-License-Identifier: Apache-2.0
"""QMP's way to the human monitor (QEMU: qapi/misc.json)."""

from __future__ import annotations

from qdevpy.monitor.command import Context, QmpError, command


@command("human-monitor-command")
def human_monitor_command(ctx: Context, *, command_line: str, cpu_index: int | None = None) -> str:
    """What the human monitor prints for a line; lines end with carriage return and newline."""
    from qdevpy.monitor.hmp.monitor import Hmp

    monitor = Hmp(Context(ctx.machine, None, ctx.table))
    if cpu_index is not None:
        if not 0 <= cpu_index < max(ctx.machine.cpus, 1):
            raise QmpError("Parameter 'cpu-index' expects a CPU number")
        monitor.cpu = cpu_index
    return monitor.run(command_line).replace("\n", "\r\n")


COMMANDS = (human_monitor_command,)
