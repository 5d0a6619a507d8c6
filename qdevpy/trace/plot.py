# SPDX-License-Identifier: Apache-2.0
"""A trace's latencies as a picture."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdevpy.errors import TraceError
from qdevpy.trace.latency import Distribution, stage_latencies

if TYPE_CHECKING:
    from qdevpy.trace.requests import Trace

FORMATS = (".svg", ".pdf", ".png")
#: inches
WIDTH, QUEUE_HEIGHT = 9.0, 3.0


def check_plot(path: Path) -> None:
    """Whether a picture can be drawn, before the trace is read.

    :raises TraceError: no matplotlib, or a format that is not ours
    """
    if path.suffix not in FORMATS:
        raise TraceError(f"--plot {path}: expected a name that ends with {', '.join(FORMATS)}")
    if find_spec("matplotlib") is None:
        raise TraceError("--plot needs matplotlib: pip install 'qdevpy[bench]'")


def draw(trace: Trace, path: Path) -> None:
    """For each queue, the share of requests that took no longer, by stage.

    :raises TraceError: there is nothing to draw, or PATH cannot be written
    """
    from matplotlib.figure import Figure

    latencies = {where: stages for where, stages in stage_latencies(trace).items() if stages}
    if not latencies:
        raise TraceError(f"--plot {path}: the trace has no request that got anywhere")
    figure = Figure(figsize=(WIDTH, QUEUE_HEIGHT * len(latencies)), layout="constrained")
    all_axes = figure.subplots(len(latencies), squeeze=False)[:, 0]
    for axes, ((device, queue), stages) in zip(all_axes, latencies.items(), strict=True):
        _draw_queue(axes, f"{device}, queue {queue}", stages)
    all_axes[-1].set_xlabel("microseconds")
    try:
        figure.savefig(path)
    except OSError as error:
        raise TraceError(f"--plot {path}: {error.strerror}; give the name of a file that can be written") from error


def _draw_queue(axes: Any, title: str, stages: dict[str, Distribution]) -> None:
    for name, found in stages.items():
        shares = [(place + 1) / found.count for place in range(found.count)]
        axes.step([max(ns, 1) / 1000 for ns in found.sorted_ns], shares, where="post", label=name)
    axes.set_title(title, fontsize="medium")
    axes.set_xscale("log")
    axes.set_ylabel("share of requests")
    axes.legend(fontsize="small")
