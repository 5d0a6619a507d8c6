# SPDX-License-Identifier: Apache-2.0
"""What a run's tables and its JSON say."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from bench_parts import FASTER, LATENCY, OTHER, PROGRAMS, RATE, SHORTER, measured, results
from rich.console import Console

from qdevpy.bench.plot import check_plot, draw
from qdevpy.bench.program import BenchError
from qdevpy.bench.report import Report


def printed(report: Report) -> list[str]:
    text = io.StringIO()
    report.print_to(Console(file=text, width=200))
    return [line.strip() for line in text.getvalue().splitlines()]


def line_of(lines: list[str], start: str) -> str:
    return next(line for line in lines if line.startswith(start))


@pytest.fixture
def report() -> Report:
    found = results(
        [measured(3000, p50=500), measured(1000, p50=800)],
        [measured(1000, p50=1000, waited=500_000_000), measured(1000, p50=1000)],
    )
    return Report(found, [RATE, LATENCY, OTHER], [FASTER, SHORTER], PROGRAMS, {"CPU": "abacus"})


def test_row_shows_medians_spreads_ratios_and_settings(report: Report) -> None:
    row = line_of(printed(report), "rate")

    assert "2,000 (1,000..3,000)" in row
    assert "1,000 (1,000..1,000)" in row
    assert "2 (1..3)" in row
    assert "best of qdevpy" in row
    assert "best of qemu" in row


def test_row_that_was_not_measured_is_empty(report: Report) -> None:
    assert line_of(printed(report), "other").split() == ["other", "rate,", "requests/s"]


def test_efficiency_has_a_line_for_a_step_not_for_each_of_its_rows(report: Report) -> None:
    lines = printed(report)
    efficiency = lines[lines.index(line_of(lines, "efficiency")) + 1 : lines.index("targets")]

    assert [line.split()[0] for line in efficiency[1:]] == ["rate"]
    # a second for 3000 or 1000 requests, and for 1000 of which half was waiting or all was work
    assert "667 | 750" in efficiency[1]
    assert "2 | 2" in efficiency[1]


def test_targets_are_judged_by_the_median_of_the_ratios(report: Report) -> None:
    lines = printed(report)

    assert line_of(lines, "faster").split() == ["faster", "at", "least", "1.5", "2", "(1..3)", "met"]
    assert line_of(lines, "shorter").endswith("0.65 (0.5..0.8)  NOT MET")


def test_target_without_a_peer_is_not_measured() -> None:
    lines = printed(Report(results([measured(1)], []), [RATE], [FASTER], PROGRAMS[:1], {}))

    assert line_of(lines, "faster").endswith("not measured")


def test_host_and_versions_are_printed(report: Report) -> None:
    assert printed(report)[:3] == ["CPU: abacus", "qdevpy: 1", "qemu: 1"]


def test_json_has_every_turn(report: Report) -> None:
    found = json.loads(json.dumps(report.as_json()))

    rate, latency, other = found["rows"]
    assert rate["measured"]["qdevpy"]["numbers"] == [3000, 1000]
    assert rate["measured"]["qemu"]["setting"] == "best of qemu"
    assert rate["ratios"] == [3, 1]
    assert latency["measured"]["qdevpy"]["histograms"] == [{"512": 3000}, {"512": 1000}]
    assert other["measured"] == {}
    assert [(target["text"], target["met"]) for target in found["targets"]] == [("faster", True), ("shorter", False)]


def test_picture_is_drawn_of_ratios_and_latencies(report: Report, tmp_path: Path) -> None:
    draw(report.as_json(), tmp_path / "out.svg")

    assert "<svg" in (tmp_path / "out.svg").read_text()


def test_picture_of_a_run_without_a_peer_is_drawn(tmp_path: Path) -> None:
    draw(Report(results([measured(1)], []), [RATE], [], PROGRAMS[:1], {}).as_json(), tmp_path / "out.png")

    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_picture_in_an_unknown_format_is_refused() -> None:
    with pytest.raises(BenchError, match=r"--plot out.gif: expected a name that ends with .svg, .pdf, .png"):
        check_plot(Path("out.gif"))
