# SPDX-License-Identifier: Apache-2.0
"""A trace in tables and bars, for a terminal, and in numbers, for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qdevpy.trace.latency import Distribution, exit_latencies, stage_latencies

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from qdevpy.trace.requests import Trace

#: columns of the longest bar
BAR_WIDTH = 40
FIGURES = ("count", "p50", "p90", "p99", "max")


def as_json(trace: Trace) -> dict[str, Any]:
    """All figures, in nanoseconds."""
    return {
        "seconds": trace.seconds,
        "lost": trace.lost,
        "cut_short": trace.cut_short,
        "interrupts": trace.interrupts,
        "kicks": [{"device": d, "queue": q, "way": way, "count": n} for (d, q, way), n in trace.kicks.items()],
        "stages": [
            {"device": device, "queue": queue, "stage": name, **distribution.summary()}
            for (device, queue), stages in stage_latencies(trace).items()
            for name, distribution in stages.items()
        ],
        "exits": [
            {"kind": kind, "owner": owner, "total": found.total, **found.summary()}
            for (kind, owner), found in exit_latencies(trace).items()
        ],
    }


def print_report(trace: Trace, console: Console) -> None:
    """Kicks, latencies by stage, exits, and how the latencies of each queue are spread."""
    latencies = stage_latencies(trace)
    done = sum(request.pushed is not None for request in trace.requests)
    console.print(
        f"{trace.seconds:.3f} s: {len(trace.requests)} requests, {done} of them done; {sum(trace.kicks.values())} kicks, "
        f"{trace.interrupts} interrupts, {len(trace.exits)} exits to user space",
        highlight=False,
    )
    if trace.kicks:
        console.print(_kick_table(trace))
    if latencies:
        console.print(_stage_table(latencies))
    if trace.exits:
        console.print(_exit_table(trace))
    for (device, queue), stages in latencies.items():
        if "pop → push" in stages:
            console.print(f"\n{device}, queue {queue}: pop → push", highlight=False, markup=False)
            for line in bars(stages["pop → push"]):
                console.print(line, highlight=False)


def _table(title: str, texts: tuple[str, ...], figures: tuple[str, ...]) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for name in texts:
        table.add_column(name)
    for name in figures:
        table.add_column(name, justify="right")
    return table


def _kick_table(trace: Trace) -> Table:
    table = _table("kicks", ("device", "queue", "way"), ("count",))
    for (device, queue, way), count in trace.kicks.items():
        table.add_row(device, queue, way, str(count))
    return table


def _stage_table(latencies: dict[tuple[str, str], dict[str, Distribution]]) -> Table:
    table = _table("latencies, microseconds", ("device", "queue", "stage"), FIGURES)
    for (device, queue), stages in latencies.items():
        for name, found in stages.items():
            table.add_row(device, queue, name, *figures(found))
        table.add_section()
    return table


def _exit_table(trace: Trace) -> Table:
    table = _table("exits of vCPUs, microseconds that it took to serve them", ("kind", "owner"), (*FIGURES, "total"))
    for (kind, owner), found in exit_latencies(trace).items():
        table.add_row(kind, owner, *figures(found), microseconds(found.total))
    return table


def microseconds(ns: int) -> str:
    """NS for people."""
    return f"{ns / 1000:,.1f}"


def figures(found: Distribution) -> list[str]:
    """The columns of :data:`FIGURES`."""
    return [str(value) if name == "count" else microseconds(value) for name, value in found.summary().items()]


def bars(found: Distribution) -> list[str]:
    """A histogram, a line for each power of two of nanoseconds between the smallest value and the largest."""
    counts: dict[int, int] = {}
    for ns in found.sorted_ns:
        power = max(ns, 1).bit_length()
        counts[power] = counts.get(power, 0) + 1
    most = max(counts.values())
    lines = []
    for power in range(min(counts), max(counts) + 1):
        count = counts.get(power, 0)
        bar = "█" * -(-count * BAR_WIDTH // most)
        lines.append(f"  below {microseconds(1 << power):>12} µs  {bar:{BAR_WIDTH}} {count}")
    return lines
