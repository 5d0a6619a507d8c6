# SPDX-License-Identifier: Apache-2.0
"""A run as a picture: ratios with their spread, and how long requests took."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from qdevpy.bench.program import BenchError
from qdevpy.bench.spread import Spread

FORMATS = (".svg", ".pdf", ".png")
GOOD, BAD = "tab:blue", "tab:orange"
#: inches
WIDTH, ROW_HEIGHT, MARGIN, LATENCY_HEIGHT = 9.0, 0.22, 1.2, 3.5


def check_plot(path: Path) -> None:
    """Whether a picture can be drawn, before anything is measured.

    :raises BenchError: no matplotlib, or a format that is not ours
    """
    if path.suffix not in FORMATS:
        raise BenchError(f"--plot {path}: expected a name that ends with {', '.join(FORMATS)}")
    if find_spec("matplotlib") is None:
        raise BenchError("--plot needs matplotlib: pip install 'qdevpy[bench]'")


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw what :meth:`qdevpy.bench.report.Report.as_json` tells.

    :raises OSError: PATH cannot be written
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    compared = [row for row in found["rows"] if row["ratios"]]
    timed = _with_histograms(found["rows"])
    heights = [MARGIN + ROW_HEIGHT * len(compared)] * bool(compared) + [LATENCY_HEIGHT] * (timed is not None)
    figure = Figure(figsize=(WIDTH, sum(heights) or LATENCY_HEIGHT), layout="constrained")
    if heights:
        axes = list(figure.subplots(len(heights), squeeze=False, height_ratios=heights)[:, 0])
        if compared:
            _draw_ratios(axes.pop(0), compared)
        if timed is not None:
            _draw_latencies(axes.pop(0), timed)
    with rc_context({"svg.fonttype": "none"}):  # text as text: smaller, and can be searched
        figure.savefig(path)


def _with_histograms(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The first row that has histograms."""
    return next((row for row in rows if any(measured["histograms"] for measured in row["measured"].values())), None)


def _draw_ratios(axes: Any, rows: list[dict[str, Any]]) -> None:
    for place, row in enumerate(rows):
        spread = Spread.of(row["ratios"])
        good = spread.median >= 1 if row["more_is_better"] else spread.median <= 1
        errors = [[spread.median - spread.low], [spread.high - spread.median]]
        axes.errorbar(spread.median, place, xerr=errors, fmt="o", capsize=2, color=GOOD if good else BAD)
    axes.axvline(1, color="gray", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [f"{row['name']} ({row['unit']})" for row in rows])
    axes.margins(y=0.02)
    axes.invert_yaxis()
    axes.set_xlabel("qdevpy over QEMU: median, smallest and largest of the pairs\nblue: the better one, orange: not")


def _draw_latencies(axes: Any, row: dict[str, Any]) -> None:
    for role, measured in row["measured"].items():
        times, shares = _distribution(measured)
        axes.step(times, shares, where="post", label=f"{role}, {measured['setting']}")
    axes.set_xscale("log")
    axes.set_xlabel(f"microseconds, {row['name'].rpartition('-')[0]}:\n{row['step']}")
    axes.set_ylabel("share of requests")
    axes.legend()


def _distribution(measured: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Microseconds, and the share of all turns' requests that took no longer."""
    counts: dict[float, int] = {}
    for histogram, hz in zip(measured["histograms"], measured["hz"], strict=True):
        for cycles, count in histogram.items():
            time = round(int(cycles) / hz * 1e6, 2)
            counts[time] = counts.get(time, 0) + count
    total, seen = sum(counts.values()), 0
    shares = []
    for time in sorted(counts):
        seen += counts[time]
        shares.append(seen / total)
    return sorted(counts), shares
