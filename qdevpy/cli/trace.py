# SPDX-License-Identifier: Apache-2.0
"""``trace``: what 'boot --trace' wrote, in tables and pictures."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--plot",
    "plot_file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw the latencies, in the format that the name ends with: svg, pdf, png.",
)
@click.option("--json", "as_text", is_flag=True, help="Print all figures as JSON, times in nanoseconds.")
def trace(file: Path, plot_file: Path | None, as_text: bool) -> None:
    """Print how long the requests of a trace took, stage by stage, and the exits of its vCPUs.

    FILE is what 'qdevpy boot --trace FILE' wrote; https://ui.perfetto.dev opens it, too. docs/tracing.md tells how to
    read the tables.
    """
    from qdevpy.trace.plot import check_plot, draw
    from qdevpy.trace.report import as_json, print_report
    from qdevpy.trace.requests import read_trace

    if plot_file is not None:
        check_plot(plot_file)
    found = read_trace(file)
    if as_text:
        click.echo(json.dumps(as_json(found), indent=1))
    else:
        from rich.console import Console

        console = Console()
        print_report(found, Console(width=None if console.is_terminal else 250))
    if found.cut_short:
        click.echo(f"qdevpy: note: {file}: ends in the middle of something; shown is what comes before", err=True)
    if found.lost:
        click.echo(f"qdevpy: note: {file}: {found.lost} events are missing, which could not be written fast enough", err=True)
    if plot_file is not None:
        draw(found, plot_file)
