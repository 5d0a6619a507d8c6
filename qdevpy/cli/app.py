# SPDX-License-Identifier: Apache-2.0
"""The ``qdevpy`` program: its commands, and what errors look like to the user.

Exit status: what the command says (a guest's own, for ``boot``); 1 for an error that qdevpy raised on
purpose, printed without a traceback; 2 for wrong usage; 130 after Ctrl-C.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import click

from qdevpy import __version__
from qdevpy.cli.process import run_guarded, set_log_level
from qdevpy.errors import did_you_mean

#: command -> ``module:object``; imported when it is run, because start-up counts
COMMANDS = {
    "boot": "qdevpy.cli.boot:boot",
    "check": "qdevpy.cli.boot:check",
    "tree": "qdevpy.cli.boot:tree",
    "top": "qdevpy.cli.top:top",
    "inspect": "qdevpy.cli.inspect:inspect_",
    "devices": "qdevpy.cli.listing:devices",
    "device": "qdevpy.cli.listing:device",
    "machines": "qdevpy.cli.listing:machines",
    "backends": "qdevpy.cli.listing:backends",
    "schema": "qdevpy.cli.schema:schema",
    "import": "qdevpy.cli.qemu.convert:import_",
    "export": "qdevpy.cli.qemu.convert:export",
    "bench": "qdevpy.cli.bench:bench",
    "trace": "qdevpy.cli.trace:trace",
    "new-plugin": "qdevpy.cli.new_plugin:new_plugin",
    "doctor": "qdevpy.cli.doctor:doctor",
    "version": "qdevpy.cli.listing:version",
}


class LazyGroup(click.Group):
    """A group whose commands' modules are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order that people meet them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command, imported now; None: there is none."""
        where = COMMANDS.get(name)
        if where is None:
            return None
        module, _, attribute = where.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, with the nearest name where there is none of that name."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"No such command '{args[0]}'{did_you_mean(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)


EPILOG = """Shell completion: eval "$(_QDEVPY_COMPLETE=bash_source qdevpy)", or zsh_source, or fish_source."""


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="qdevpy", message="%(prog)s %(version)s")
@click.option("-v", "--verbose", is_flag=True, help="Say what happens.")
@click.option("--debug", is_flag=True, help="Say everything.")
@click.pass_context
def group(ctx: click.Context, verbose: bool, debug: bool) -> None:
    """Virtual machines from YAML, with QEMU's device, property and machine names, under KVM."""
    ctx.obj = verbose
    set_log_level(verbose, debug)


def run(args: Sequence[str] | None = None) -> int:
    """Run one command line.

    :returns: the exit status
    """

    def command() -> object:
        try:
            return group.main(args, prog_name="qdevpy", standalone_mode=False)
        except click.ClickException as error:
            error.show()
            return error.exit_code
        except click.Abort:
            return 130

    return run_guarded(command)
