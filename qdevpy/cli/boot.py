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
@click.argument("machine", default=DEFAULT_MACHINE)
@definition_options
def tree(machine: str, **options: Any) -> None:
    """Print the device tree of MACHINE as QEMU's 'info qtree' does. Nothing runs."""
    registry = load_plugins()
    definition = read_machine(machine, registry, **{**options, "accel": options["accel"] or "none"})
    from qdevpy.qdev.tree import format_tree
    from qdevpy.vm.build import build_machine

    with build_machine(definition, registry) as built:
        for line in format_tree(built.root_buses):
            print(line)
