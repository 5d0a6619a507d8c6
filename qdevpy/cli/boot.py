# SPDX-License-Identifier: Apache-2.0
"""``boot``, ``check`` and ``tree``: the commands that read machine definitions."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from qdevpy.definition.cache import parse_cached
from qdevpy.definition.load import load_definition
from qdevpy.definition.source import Override
from qdevpy.errors import UnknownNameError, did_you_mean
from qdevpy.plugin.manager import load_plugins

if TYPE_CHECKING:
    from qdevpy.definition.model import MachineDefinition
    from qdevpy.plugin.registry import Registry

F = TypeVar("F", bound=Callable[..., Any])

#: what runs without a MACHINE
DEFAULT_MACHINE = "demo"


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


def make_overrides(
    settings: Iterable[str], *, kernel: str | None, initrd: str | None, append: str | None, accel: str | None
) -> list[Override]:
    """The command line's values, ``--set`` first, in the order given."""
    overrides = [Override.parse(setting) for setting in settings]
    for option, path, value in (
        ("--kernel", "boot.kernel", kernel),
        ("--initrd", "boot.initrd", initrd),
        ("--accel", "accel", accel),
    ):
        if value is not None:
            overrides.append(Override(f"{option} {value}", path, value))
    if append is not None:
        overrides.append(Override(f"--append {append}", "boot.cmdline", append, append=True))
    return overrides


def find_machine(name: str, registry: Registry) -> str:
    """The file that MACHINE means: a file, or else a packaged definition.

    :raises UnknownNameError: neither
    """
    if os.path.exists(name) or os.sep in name or name.endswith((".yaml", ".yml")):
        return name
    try:
        return registry.definition(name)
    except UnknownNameError:
        known = ", ".join(sorted(registry.definitions)) or "none"
        hint = did_you_mean(name, registry.definitions)
        raise UnknownNameError(
            f"'{name}' is no file, and no plugin has a machine definition of that name{hint or f'; there are: {known}'}"
            f"{registry.broken_note()}"
        ) from None


def read_machine(name: str, registry: Registry, settings: Iterable[str], **options: str | None) -> MachineDefinition:
    """The definition that the command line describes.

    :raises DefinitionError: every problem of it
    """
    overrides = make_overrides(settings, **{"kernel": None, "initrd": None, "append": None, "accel": None, **options})
    return load_definition(find_machine(name, registry), registry, overrides=overrides, parse=parse_cached)


def warn_of_broken(registry: Registry) -> None:
    """Name the plugins that could not be loaded, on stderr."""
    for broken in registry.broken:
        print(f"qdevpy: warning: not loaded: {broken}", file=sys.stderr)


@click.command()
@click.argument("machine", default=DEFAULT_MACHINE)
@definition_options
@click.option("--no-reboot", is_flag=True, help="A reset of the guest ends the machine.")
@click.option("-v", "--verbose", is_flag=True, help="Say what happens; at the end, how kicks travelled.")
@click.option("--debug", is_flag=True, help="Say everything.")
@click.pass_context
def boot(ctx: click.Context, /, machine: str, no_reboot: bool, verbose: bool, debug: bool, **options: Any) -> int:
    """Boot MACHINE: a definition's file, or the name of a packaged one ('qdevpy machines').

    Without MACHINE the demo machine runs. Ctrl-A x ends a machine on the terminal. The exit status is 0 after a
    power-off, the guest's own after isa-debug-exit, 1 after an error.
    """
    from qdevpy.cli.app import set_log_level

    set_log_level(verbose, debug)
    registry = load_plugins()
    definition = read_machine(machine, registry, **options)
    from qdevpy.vm.run import boot as run_machine

    return run_machine(
        definition, registry, no_reboot=no_reboot, stats=bool(ctx.obj) or verbose or debug or machine == DEFAULT_MACHINE
    )


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
