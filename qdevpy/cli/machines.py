# SPDX-License-Identifier: Apache-2.0
"""What ``boot``, ``check`` and ``tree`` do with a machine's name and a command line's values; knows no click."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from qdevpy.definition.cache import parse_cached
from qdevpy.definition.load import load_definition
from qdevpy.definition.source import Override
from qdevpy.errors import UnknownNameError, did_you_mean
from qdevpy.plugin.manager import load_plugins

if TYPE_CHECKING:
    from qdevpy.definition.model import MachineDefinition
    from qdevpy.plugin.registry import Registry

#: what runs without a MACHINE
DEFAULT_MACHINE = "demo"


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


def boot_machine(
    machine: str,
    *,
    no_reboot: bool,
    verbose: bool,
    debug: bool,
    stats: bool,
    settings: Iterable[str],
    trace: str | None,
    **options: str | None,
) -> int:
    """``qdevpy boot``.

    :param stats: say at the end how kicks travelled
    :param trace: a file that gets a trace of what happens
    :returns: the exit status
    """
    from qdevpy.cli.process import set_log_level

    set_log_level(verbose, debug)
    registry = load_plugins()
    definition = read_machine(machine, registry, settings, **options)
    from qdevpy.vm.run import boot

    stats = stats or verbose or debug or machine == DEFAULT_MACHINE
    return boot(definition, registry, no_reboot=no_reboot, stats=stats, control=True, trace=trace)
