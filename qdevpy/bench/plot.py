# SPDX-License-Identifier: Apache-2.0
"""A run as a picture: ratios with their spread, and how long requests took."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from qdevpy.bench.program import BenchError
from qdevpy.bench.spread import Spread

FORMATS = (".svg", ".pdf", ".png")
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
    from matplotlib.figure import Figure

    compared = [row for row in found["rows"] if row["ratios"]]
    timed = _with_histograms(found["rows"])
    heights = [MARGIN + ROW_HEIGHT * len(compared)] * bool(compared) + [LATENCY_HEIGHT] * bool(timed)
    figure = Figure(figsize=(WIDTH, sum(heights) or LATENCY_HEIGHT), layout="constrained")
    if heights:
        axes = list(figure.subplots(len(heights), squeeze=False, height_ratios=heights)[:, 0])
        if compared:
            _draw_ratios(axes.pop(0), compared)
        if timed:
            _draw_latencies(axes.pop(0), timed)
    figure.savefig(path)


def _with_histograms(rows: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Program and measurements of the first row that has histograms."""
    for row in rows:
        timed = [(role, measured) for role, measured in row["measured"].items() if measured["histograms"]]
        if timed:
            return timed
    return []


def _draw_ratios(axes: Any, rows: list[dict[str, Any]]) -> None:
    spreads = [Spread.of(row["ratios"]) for row in rows]
    places = range(len(rows))
    medians = [spread.median for spread in spreads]
    errors = [[s.median - s.low for s in spreads], [s.high - s.median for s in spreads]]
    axes.errorbar(medians, places, xerr=errors, fmt="o", capsize=2)
    axes.axvline(1, color="gray", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks(places, [f"{row['name']} ({row['unit']})" for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("qdevpy over QEMU: median, smallest and largest of the pairs")


def _draw_latencies(axes: Any, timed: list[tuple[str, dict[str, Any]]]) -> None:
    for role, measured in timed:
        times, shares = _distribution(measured)
        axes.step(times, shares, where="post", label=f"{role}, {measured['setting']}")
    axes.set_xscale("log")
    axes.set_xlabel("microseconds from kick to used buffer, 4 KiB random read, depth 1")
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
