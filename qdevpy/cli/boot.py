# SPDX-License-Identifier: Apache-2.0
"""``boot``, ``check`` and ``tree``: the commands that read machine definitions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from qdevpy.cli.machines import DEFAULT_MACHINE, boot_machine, find_machine, read_machine, warn_of_broken
from qdevpy.plugin.manager import load_plugins

F = TypeVar("F", bound=Callable[..., Any])


def definition_options(command: F) -> F:
    """The options that change a definition; the function gets them as ``overrides``."""
    for option in reversed(
        (
            click.option(
                "--set", "settings", multiple=True, metavar="PATH=VALUE", help="Set a value: memory=512M, devices.ID.PROP=X."
            ),
            click.option("--kernel", metavar="FILE", help="Kernel image, instead of boot.kernel."),
            click.option("--initrd", metavar="FILE", help="Initial RAM disk, instead of boot.initrd."),
            click.option("--append", metavar="TEXT", help="Text put behind the kernel's command line, boot.cmdline."),
            click.option("--accel", metavar="NAME", help="Accelerator: kvm or none."),
        )
    ):
        command = option(command)
    return command


@click.command()
@click.argument("machine", default=DEFAULT_MACHINE)
@definition_options
@click.option("--trace", metavar="FILE", help="Write a trace that ui.perfetto.dev and 'qdevpy trace' read.")
@click.option("--no-reboot", is_flag=True, help="A reset of the guest ends the machine.")
@click.option("-v", "--verbose", is_flag=True, help="Say what happens; at the end, how kicks travelled.")
@click.option("--debug", is_flag=True, help="Say everything.")
@click.pass_context
def boot(ctx: click.Context, /, machine: str, **options: Any) -> int:
    """Boot MACHINE: a definition's file, or the name of a packaged one ('qdevpy machines').

    Without MACHINE the demo machine runs. Ctrl-A x ends a machine on the terminal. The exit status is 0 after a
    power-off, the guest's own after isa-debug-exit, 1 after an error.
    """
    return boot_machine(machine, stats=bool(ctx.obj), **options)


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
def check(files: tuple[str, ...]) -> int:
    """Check machine definitions; every problem is reported, with its place and the nearest right name.

    The exit status is 1 when there is a problem. docs/errors.md explains the codes.
    """
    from qdevpy.definition.load import check_file

    registry = load_plugins()
    warn_of_broken(registry)
    found = 0
    for file in files:
        for problem in check_file(find_machine(file, registry), registry):
            print(problem)
            found += 1
    return 1 if found else 0


@click.command()
@click.argument("machine", required=False)
@definition_options
@click.option("--live", is_flag=True, help="MACHINE is one that runs: its name, its process's number, or its QMP socket.")
def tree(machine: str | None, live: bool, **options: Any) -> None:
    """Print the device tree of MACHINE as QEMU's 'info qtree' does. Nothing runs.

    With --live it is the tree of a running machine as it is now, with what was plugged in meanwhile; without MACHINE of
    the one that runs.
    """
    if live:
        if any(options.values()):
            raise click.UsageError("--live shows a machine as it runs; options that change a definition do not go with it")
        print_live_tree(machine)
        return
    registry = load_plugins()
    definition = read_machine(machine or DEFAULT_MACHINE, registry, **{**options, "accel": options["accel"] or "none"})
    from qdevpy.qdev.tree import format_tree
    from qdevpy.vm.build import build_machine

    with build_machine(definition, registry) as built:
        for line in format_tree(built.root_buses):
            print(line)


def print_live_tree(machine: str | None) -> None:
    """Of a machine that runs."""
    from qdevpy.monitor.client import QmpClient
    from qdevpy.monitor.running import find_running

    with QmpClient(find_running(machine)) as client:
        text = client.execute("human-monitor-command", command_line="info qtree")
    print(text.replace("\r\n", "\n").rstrip("\n"))
