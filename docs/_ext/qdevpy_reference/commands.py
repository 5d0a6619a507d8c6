# SPDX-License-Identifier: Apache-2.0
"""The command line, of click's commands."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from qdevpy.cli.app import COMMANDS, group
from qdevpy_reference.markdown import code, table, text


def command_lines() -> Iterator[str]:
    """A section for each command: usage, what it does, its options."""
    context = click.Context(group, info_name="qdevpy")
    yield from _described(context, group)
    for name in COMMANDS:
        command = group.get_command(context, name)
        assert command is not None
        yield f"## qdevpy {name}"
        yield from _described(click.Context(command, info_name=name, parent=context), command)


def _described(context: click.Context, command: click.Command) -> Iterator[str]:
    yield ""
    yield "```text"
    yield f"{context.command_path} {' '.join(command.collect_usage_pieces(context))}"
    yield "```"
    yield ""
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        verbatim = paragraph.startswith("\b")
        yield from ["```text", *paragraph.lstrip("\b\n").splitlines(), "```"] if verbatim else [text(" ".join(paragraph.split()))]
        yield ""
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    yield from table(("option", ""), [(code(names), text(help_text)) for names, help_text in filter(None, records)])
