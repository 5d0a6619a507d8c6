# SPDX-License-Identifier: Apache-2.0
"""Running, stopping, resetting and ending the machine."""

from __future__ import annotations

from qdevpy.monitor.hmp.command import HmpCommand, hmp
from qdevpy.monitor.hmp.monitor import Hmp


@hmp("stop|s", help="stop the machine")
def stop(monitor: Hmp) -> str:
    """As QMP's."""
    monitor.qmp("stop")
    return ""


@hmp("cont|c", help="let the machine run")
def cont(monitor: Hmp) -> str:
    """As QMP's."""
    monitor.qmp("cont")
    return ""


@hmp("system_reset", help="reset the machine")
def system_reset(monitor: Hmp) -> str:
    """As QMP's."""
    monitor.qmp("system_reset")
    return ""


@hmp("system_powerdown", help="press the power button")
def system_powerdown(monitor: Hmp) -> str:
    """As QMP's."""
    monitor.qmp("system_powerdown")
    return ""


@hmp("quit|q", help="end the machine")
def quit_(monitor: Hmp) -> str:
    """As QMP's."""
    monitor.qmp("quit")
    return ""


@hmp("exit_preconfig", help="go on from the state before the machine is made")
def exit_preconfig(monitor: Hmp) -> str:
    """As QMP's ``x-exit-preconfig``."""
    monitor.qmp("x-exit-preconfig")
    return ""


@hmp("status", help="show whether the machine runs")
def info_status(monitor: Hmp) -> str:
    """As QEMU's."""
    status = monitor.qmp("query-status")
    state = "" if status["running"] or status["status"] == "paused" else f" ({status['status']})"
    return f"VM status: {'running' if status['running'] else 'paused'}{state}\n"


COMMANDS: tuple[HmpCommand, ...] = (stop, cont, system_reset, system_powerdown, quit_, exit_preconfig)
INFO: tuple[HmpCommand, ...] = (info_status,)
