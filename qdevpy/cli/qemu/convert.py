# SPDX-License-Identifier: Apache-2.0
"""``qdevpy import`` and ``qdevpy export``: between YAML and QEMU's command line."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import click

from qdevpy.cli.boot import definition_options
from qdevpy.cli.machines import read_machine
from qdevpy.cli.qemu.draft import Host
from qdevpy.definition import problems as q
from qdevpy.errors import DefinitionError
from qdevpy.plugin.manager import load_plugins

_PROGRAM = re.compile(r"(?:.*/)?(?:qemu-system-\w+|qdevpy-system-\w+|qemu|kvm|qemu-kvm)")


@click.command(name="import", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("-o", "--output", metavar="FILE", help="Write to FILE; paths are made relative to its folder.")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="-- [qemu-system-x86_64] OPTIONS...")
def import_(output: str | None, words: tuple[str, ...]) -> None:
    """Print the machine definition that a QEMU command line means.

    Images need not exist. An option that has no place in a definition becomes a comment; one that qdevpy does not
    have is an error.
    """
    from qdevpy.cli.qemu.parser import HelpWantedError, parse_command_line
    from qdevpy.definition.dump import to_yaml

    registry = load_plugins()
    try:
        parsed = parse_command_line(program_options(words), registry)
    except HelpWantedError as wanted:
        print(wanted)
        return
    problems = parsed.problems.in_order()
    serious = [problem for problem in problems if problem.code != q.MISSING_FILE]
    if serious:
        raise DefinitionError(serious)
    comments = [*parsed.notes, *host_notes(parsed.host), *(f"{p.position}: {p.message}" for p in problems)]
    text = to_yaml(parsed.definition, registry, folder=os.path.dirname(output) if output else "", comments=comments)
    if output is None:
        print(text, end="")
    else:
        with open(output, "w", encoding="utf-8") as file:
            file.write(text)


def program_options(words: Sequence[str]) -> list[str]:
    """The options of a command line; one word with spaces is all of it, quoted by the caller."""
    if len(words) == 1 and " " in words[0]:
        words = shlex.split(words[0].replace("\\\n", " "))
    return list(words[1:] if words and _PROGRAM.fullmatch(words[0]) else words)


def host_notes(host: Host) -> Iterator[str]:
    """What is about the process has no place in a definition."""
    for name, value in host._asdict().items():
        if value != Host._field_defaults[name]:
            yield f"{name.replace('_', ' ')} {'' if value is True else value}".rstrip() + ": of the process, not of the machine"


@click.command(name="export")
@click.argument("machine")
@definition_options
@click.option("--multiline", is_flag=True, help="An option a line.")
def export(machine: str, multiline: bool, **options: Any) -> None:
    """Print QEMU's command line for MACHINE: a definition's file, or the name of a packaged one.

    What QEMU does not have is an error that names it.
    """
    from qdevpy.cli.qemu.export import Exporter

    registry = load_plugins()
    exporter = Exporter(read_machine(machine, registry, **options), registry)
    lines = [["qemu-system-x86_64"], *exporter.options()]
    for note in exporter.notes:
        print(f"qdevpy: note: {note}", file=sys.stderr)
    print((" \\\n  " if multiline else " ").join(shlex.join(line) for line in lines))
