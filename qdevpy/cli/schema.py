# SPDX-License-Identifier: Apache-2.0
"""``schema``: a JSON schema of machine definitions, for editors."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from qdevpy.cli.machines import warn_of_broken
from qdevpy.plugin.manager import load_plugins


@click.command()
@click.option("-o", "--output", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Write it to FILE.")
def schema(output: Path | None) -> None:
    """Print a JSON schema (draft 2020-12) of machine definitions, with the devices of every installed plugin.

    An editor with a YAML language server completes and checks with it; a definition names it in its first line:
    # yaml-language-server: $schema=FILE
    """
    from qdevpy.definition.schema import machine_schema

    registry = load_plugins()
    warn_of_broken(registry)
    found = machine_schema(registry, warn=lambda message: print(f"qdevpy: warning: {message}", file=sys.stderr))
    text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"'{output}': {error.strerror or error}") from error
