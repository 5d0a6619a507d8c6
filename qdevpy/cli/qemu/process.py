# SPDX-License-Identifier: Apache-2.0
"""Options about the process, and those that say what is so anyway."""

from __future__ import annotations

from collections.abc import Callable

from qdevpy.cli.qemu.draft import Draft
from qdevpy.cli.qemu.opts import CommandLineError, parse_options


def nodefaults(draft: Draft, text: str) -> None:
    """``-nodefaults``."""
    draft.defaults = False


def nographic(draft: Draft, text: str) -> None:
    """``-nographic``."""
    draft.nographic = True


def display(draft: Draft, text: str) -> None:
    """``-display none``."""
    if text.partition(",")[0] != "none":
        raise CommandLineError("there are no displays; expected none")
    draft.display = "none"


def vga(draft: Draft, text: str) -> None:
    """``-vga none``."""
    if text != "none":
        raise CommandLineError("there are no graphics cards; expected none")


def nothing(draft: Draft, text: str) -> None:
    """For an option that says what is so anyway."""


def refuse(because: str) -> Callable[[Draft, str], None]:
    """For an option that is not here.

    :param because: what to do instead
    """

    def handler(draft: Draft, text: str) -> None:
        raise CommandLineError(because)

    return handler


def sandbox(draft: Draft, text: str) -> None:
    """``-sandbox off``."""
    if text not in ("off", "enable=off"):
        raise CommandLineError("system calls are not filtered; expected off")


def overcommit(draft: Draft, text: str) -> None:
    """``-overcommit mem-lock=off,cpu-pm=off``."""
    options = parse_options(text)
    for name in ("mem-lock", "cpu-pm"):
        options.only(name, "off", "no", "false", because="not supported; expected off")
    options.end()


def daemonize(draft: Draft, text: str) -> None:
    """``-daemonize``."""
    draft.host = draft.host._replace(daemonize=True)


def pid_file(draft: Draft, text: str) -> None:
    """``-pidfile FILE``."""
    draft.host = draft.host._replace(pid_file=text)


def log_items(draft: Draft, text: str) -> None:
    """``-d ITEM,...``."""
    draft.host = draft.host._replace(log_items=tuple(text.split(",")))


def log_file(draft: Draft, text: str) -> None:
    """``-D FILE``."""
    draft.host = draft.host._replace(log_file=text)


def trace(draft: Draft, text: str) -> None:
    """``-trace file=FILE``: all there is to see is in it, so there are no events to choose."""
    options = parse_options(text)
    file = options.pop("file")
    options.only("enable", "*", because="events cannot be chosen; leave it out")
    options.end()
    if not file:
        raise CommandLineError("expected file=FILE, which gets a trace for ui.perfetto.dev and 'qdevpy trace'")
    draft.host = draft.host._replace(trace=file)


def messages(draft: Draft, text: str) -> None:
    """``-msg timestamp=on``."""
    options = parse_options(text)
    draft.host = draft.host._replace(timestamps=bool(options.pop_bool("timestamp")))
    options.pop_bool("guest-name")
    options.end()


def read_config(draft: Draft, text: str) -> None:
    """``-readconfig FILE``."""
    from qdevpy.cli.qemu.readconfig import read_config_file

    read_config_file(draft, text)
