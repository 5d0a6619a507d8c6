# SPDX-License-Identifier: Apache-2.0
"""About the monitor itself."""

from __future__ import annotations

from qdevpy.monitor.hmp.command import HmpCommand, HmpError, hmp
from qdevpy.monitor.hmp.monitor import Hmp


@hmp("help|?", "name:S?", "[cmd]", "what there is, or what a command takes")
def help_(monitor: Hmp, *, name: str | None = None) -> str:
    """All commands, or one."""
    return monitor.help(name.split() if name else [])


@hmp("info", "item:s?", "[subcommand]", "show something about the machine; 'help info' lists what")
def info(monitor: Hmp, *, item: str | None = None) -> str:
    """Without a subcommand: what there is."""
    return monitor.help(["info"])


@hmp("cpu", "index:i", "index", "choose the vCPU that registers and memory dumps are of")
def cpu(monitor: Hmp, *, index: int) -> str:
    """As QEMU's."""
    if not 0 <= index < max(monitor.machine.cpus, 1):
        raise HmpError("invalid CPU index")
    monitor.cpu = index
    return ""


@hmp("print|p", "fmt:/,val:l", "/fmt expr", "print the value of an expression; $reg is a register")
def print_(monitor: Hmp, *, val: int, format: str, size: int, count: int) -> str:  # noqa: A002
    """As QEMU's: ``/x`` is the default."""
    unsigned = val & ((1 << 64) - 1)
    match format:
        case "o":
            return f"0{unsigned:o}\n" if unsigned else "0\n"
        case "u":
            return f"{unsigned}\n"
        case "d" | "i":
            return f"{val}\n"
        case "c":
            return f"{character(val)}\n"
        case _:
            return f"{unsigned:#x}\n"


def character(value: int) -> str:
    """One byte in quotes, as C writes it."""
    value &= 0xFF
    escapes = {0x27: "\\'", 0x5C: "\\\\", 0x0A: "\\n", 0x0D: "\\r"}
    plain = chr(value) if 32 <= value <= 126 else f"\\x{value:02x}"
    return f"'{escapes.get(value, plain)}'"


@hmp("history", help="show the lines that were given")
def info_history(monitor: Hmp) -> str:
    """As QEMU's."""
    return "".join(f"{number}: '{line}'\n" for number, line in enumerate(monitor.history))


COMMANDS: tuple[HmpCommand, ...] = (help_, info, cpu, print_)
INFO: tuple[HmpCommand, ...] = (info_history,)
