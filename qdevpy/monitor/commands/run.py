# SPDX-License-Identifier: Apache-2.0
"""How the machine runs, stops and ends (QEMU: qapi/run-state.json, qapi/misc.json)."""

from __future__ import annotations

from typing import Literal, NamedTuple

from qdevpy.monitor.command import Context, QmpError, command

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


@command("stop")
def stop(ctx: Context) -> None:
    """Have the machine stand still; the answer comes when it does."""
    reply = ctx.defer()
    ctx.machine.request_stop(done=reply)


@command("cont")
def cont(ctx: Context) -> None:
    """Have it go on."""
    ctx.machine.cont()


@command("system_reset")
def system_reset(ctx: Context) -> None:
    """Press the reset button."""
    ctx.machine.request_reset("QMP system_reset", cause="host-qmp-system-reset")


@command("system_powerdown")
def system_powerdown(ctx: Context) -> None:
    """Press the power button."""
    ctx.machine.request_powerdown()


@command("quit", allow_preconfig=True)
def quit_(ctx: Context) -> None:
    """End the machine, whatever ``run.shutdown`` says."""
    ctx.machine.request_shutdown("QMP quit", cause="host-qmp-quit")


@command("set-action", allow_preconfig=True)
def set_action(
    ctx: Context,
    *,
    reboot: Literal["reset", "shutdown"] | None = None,
    shutdown: Literal["poweroff", "pause"] | None = None,
    panic: Literal["pause", "shutdown", "exit-failure", "none"] | None = None,
    watchdog: Literal["reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi"] | None = None,
) -> None:
    """What comes of the guest's reset, power-off or panic."""
    if watchdog is not None:
        raise QmpError("watchdog: there is no watchdog device")
    if reboot is not None:
        ctx.machine.no_reboot = reboot == "shutdown"
    if shutdown is not None:
        ctx.machine.shutdown_ends = shutdown == "poweroff"
    if panic is not None:
        ctx.machine.panic_action = panic


@command("x-exit-preconfig", features=("unstable",), allow_preconfig=True)
def x_exit_preconfig(ctx: Context) -> None:
    """Leave the state that --preconfig began in."""
    if not ctx.machine.preconfig:
        raise QmpError("The command is permitted only before machine initialization")
    ctx.machine.preconfig = False
    if not ctx.machine.definition.run.paused:
        ctx.machine.start()


COMMANDS = (query_status, stop, cont, system_reset, system_powerdown, quit_, set_action, x_exit_preconfig)
