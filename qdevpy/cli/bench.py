# SPDX-License-Identifier: Apache-2.0
"""``bench``: how fast machines are, and how fast over QEMU's."""

from __future__ import annotations

import json
import tempfile
import time
from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qdevpy.errors import did_you_mean
from qdevpy.plugin.manager import load_plugins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qdevpy.bench.program import Program
    from qdevpy.bench.suite import Row, Suite


@click.command()
@click.argument("names", nargs=-1, metavar="[ROW]...")
@click.option("--against", metavar="PROGRAM", help="Measure this QEMU too, in turns with qdevpy.")
@click.option("--pairs", type=click.IntRange(1, 1000), default=5, show_default=True, help="Turns of each program.")
@click.option(
    "--ms",
    "milliseconds",
    type=click.FloatRange(1, 60_000),
    default=100,
    show_default=True,
    help="Milliseconds of a measurement.",
)
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all numbers to a file.")
@click.option(
    "--plot",
    "plot_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw ratios and latencies, in the format that the name ends with: svg, pdf, png.",
)
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("/var/tmp"),
    show_default=True,
    help="Where the image of rows with O_DIRECT is made.",
)
@click.option("--list", "only_list", is_flag=True, help="Print the rows and stop.")
def bench(
    names: tuple[str, ...],
    against: str | None,
    pairs: int,
    milliseconds: float,
    json_file: Path | None,
    plot_file: Path | None,
    folder: Path,
    only_list: bool,
) -> None:
    """Measure ROWs (all without any; '*' and '?' as in the shell) with the demo guest, and print tables.

    With --against each measurement is made in turns on qdevpy and QEMU, with that of QEMU's settings which is the
    best for the row. docs/bench.md tells how to read the tables.
    """
    suite = load_suite()
    if only_list:
        for row in suite.rows:
            click.echo(f"{row.name:28} {row.figure.name}, {row.figure.unit}: {row.step} ({row.rig.name})")
        return
    rows = select_rows(suite.rows, names)
    from rich.console import Console

    from qdevpy.bench.host import describe_host, is_tmpfs
    from qdevpy.bench.program import peer_program, qdevpy_program
    from qdevpy.bench.report import Report
    from qdevpy.bench.run import ROUNDS, Effort, Runner
    from qdevpy.bench.suite import Place

    rows = possible_rows(rows, folder)
    if plot_file is not None:
        from qdevpy.bench.plot import check_plot, draw

        check_plot(plot_file)
    programs = [qdevpy_program(), *needed_programs(suite, rows)]
    if against is not None:
        programs.append(peer_program(against))
    memory = Path("/dev/shm")
    if not is_tmpfs(memory):
        raise click.UsageError(f"{memory} is no tmpfs; rows without O_DIRECT need one there")
    console = Console()
    with ExitStack() as stack:
        folders = [stack.enter_context(tempfile.TemporaryDirectory(prefix="qdevpy-bench-", dir=d)) for d in (memory, folder)]
        place = Place(*map(Path, folders))
        status = stack.enter_context(console.status("starting"))
        runner = Runner(
            programs, guest_kernel(), place, Effort(pairs, milliseconds, min(pairs, ROUNDS)), nominal_hz(), status.update
        )
        began = time.monotonic()
        results = runner.run(rows)
    for note in results.notes:
        click.echo(f"qdevpy: note: {note}", err=True)
    names_measured = {row.name for row in rows}
    targets = [target for target in suite.targets if target.rows & names_measured]
    report = Report(results, rows, targets, programs, describe_host(memory, folder))
    report.print_to(Console(width=None if console.is_terminal else 250))
    console.print(f"{pairs} pairs, {milliseconds:g} ms a measurement, {time.monotonic() - began:.0f} s in all", highlight=False)
    if json_file is not None:
        json_file.write_text(json.dumps(report.as_json(), indent=1) + "\n")
    if plot_file is not None:
        draw(report.as_json(), plot_file)


def load_suite() -> Suite:
    """All that plugins measure, as one."""
    from importlib import import_module

    from qdevpy.bench.suite import Suite

    suites = [import_module(name).suite() for name in load_plugins().benches]
    return Suite(
        [row for suite in suites for row in suite.rows],
        [target for suite in suites for target in suite.targets],
        [program for suite in suites for program in suite.programs],
    )


def needed_programs(suite: Suite, rows: Sequence[Row]) -> list[Program]:
    """The programs of SUITE that one of ROWS names."""
    return [program for program in suite.programs if any(program.role in row.programs for row in rows)]


def select_rows(rows: Sequence[Row], patterns: Sequence[str]) -> list[Row]:
    """The rows whose names match one of PATTERNS, in their order; all without patterns.

    :raises click.UsageError: a pattern matches none
    """
    for pattern in patterns:
        if not any(fnmatchcase(row.name, pattern) for row in rows):
            hint = did_you_mean(pattern, [row.name for row in rows]) or "; 'qdevpy bench --list' has all"
            raise click.UsageError(f"no row is called '{pattern}'{hint}")
    return [row for row in rows if not patterns or any(fnmatchcase(row.name, pattern) for pattern in patterns)]


def possible_rows(rows: Sequence[Row], folder: Path) -> list[Row]:
    """Those of ROWS that this host can measure; says on stderr why the others are left out."""
    reasons = {rig: rig.why_not(folder) for rig in dict.fromkeys(row.rig for row in rows)}
    for rig, reason in reasons.items():
        if reason is not None:
            click.echo(f"qdevpy: note: machine '{rig.name}' is not measured: {reason}", err=True)
    return [row for row in rows if reasons[row.rig] is None]


def guest_kernel() -> Path:
    """The demo guest, by the definition that boots it."""
    registry = load_plugins()
    from qdevpy.cli.machines import read_machine

    definition = read_machine("demo", registry, (), accel="none")
    assert definition.boot.kernel is not None  # the demo is a guest
    return Path(str(definition.boot.kernel.given))


def nominal_hz() -> float:
    """About how fast the time stamp counter runs; how fast it really does every guest measures."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "cpu MHz":
            return float(value) * 1e6
    return 2e9
