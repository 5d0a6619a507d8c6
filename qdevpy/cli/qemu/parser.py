# SPDX-License-Identifier: Apache-2.0
"""A command line, option by option, to a machine definition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from qdevpy.cli.qemu import blocks, chars, machine
from qdevpy.cli.qemu.draft import Draft, Host
from qdevpy.cli.qemu.help import help_text, usage, version
from qdevpy.cli.qemu.opts import CommandLineError
from qdevpy.cli.qemu.table import OPTIONS, Option
from qdevpy.definition.load import load_tree
from qdevpy.definition.nodes import List
from qdevpy.definition.problems import Problems
from qdevpy.errors import LocatedError, did_you_mean

if TYPE_CHECKING:
    from qdevpy.definition.model import MachineDefinition
    from qdevpy.plugin.registry import Registry


class HelpWantedError(Exception):
    """The command line asks for a text, which ``str()`` is, and for nothing else."""


class Parsed(NamedTuple):
    """What a command line means.

    :ivar host: what is about the process
    :ivar notes: what the definition does not say
    :ivar problems: what is wrong with the definition
    """

    definition: MachineDefinition
    host: Host
    notes: Sequence[str]
    problems: Problems


def parse_command_line(words: Sequence[str], registry: Registry) -> Parsed:
    """The machine that WORDS (without the program's name) describe.

    :raises LocatedError: an option that cannot be taken
    :raises HelpWantedError: a text is to be printed instead
    """
    draft = Draft(registry)
    try:
        for option, argument in read_words(words, draft):
            option.handler(draft, argument)
        finish(draft)
    except CommandLineError as error:
        raise LocatedError(error, draft.at) from None
    problems = Problems()
    return Parsed(load_tree(draft.root, registry, problems), draft.host, draft.notes, problems)


def read_words(words: Sequence[str], draft: Draft) -> Iterator[tuple[Option, str]]:
    """Options and their arguments. While one is carried out the draft knows it.

    :raises CommandLineError: no such option, or its argument is missing
    """
    rest = iter(words)
    for word in rest:
        draft.enter(word)
        if not word.startswith("-") or word == "-":
            raise CommandLineError("a disk image alone is a disk of IDE, which is not here; use -drive file=FILE,if=virtio")
        name = word.removeprefix("-").removeprefix("-")
        option = OPTIONS.get("help" if name in ("h", "?") else name)
        if option is None:
            hint = did_you_mean(name, OPTIONS) or "; -help lists what there is"
            raise CommandLineError(f"invalid option{hint}")
        if option.name in ("help", "version"):
            raise HelpWantedError(usage() if option.name == "help" else version())
        if not option.argument:
            yield option, ""
            continue
        argument = next(rest, None)
        if argument is None:
            raise CommandLineError("requires an argument")
        draft.enter(f"{word} {argument}")
        if (text := help_text(option.name, argument, draft.registry)) is not None:
            raise HelpWantedError(text)
        yield option, argument


def finish(draft: Draft) -> None:
    """What can only be done once all options are known: defaults, ports, drives."""
    machine.choose_accel(draft)
    add_default_devices(draft)
    machine.drop_said_anyway(draft)
    chars.add_serials(draft)
    chars.add_debugcons(draft)
    blocks.add_block_nodes(draft)
    if draft.board_devices or draft.late_devices:
        items = [*draft.board_devices, *draft.devices(), *draft.late_devices]
        draft.root.entries["devices"] = (draft.text("devices"), List(items, draft.at))
    blocks.finish_drives(draft)


def add_default_devices(draft: Draft) -> None:
    """What QEMU adds unasked, as far as it has a place here: a serial port, and a monitor beside it on the terminal."""
    draft.enter("default devices")
    if not draft.defaults or not _has_isa_bus(draft):
        return
    if any("isa-serial" in item.entries for item in draft.devices()):
        draft.default_serial = False
    if draft.nographic:
        machine.no_graphics(draft)
        if draft.default_serial:
            draft.serials.append(("mon:stdio" if draft.default_monitor else "stdio", draft.at))
        elif draft.default_monitor:
            chars.add_monitor(draft, "stdio", "readline")
    elif draft.default_serial:
        draft.serials.append(("null", draft.at))


def _has_isa_bus(draft: Draft) -> bool:
    board = machine.find_board(draft)
    return board is not None and "ISA" in board.buses.values()
