# SPDX-License-Identifier: Apache-2.0
"""Results as tables for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from qdevpy.bench.measurement import EFFICIENCY
from qdevpy.bench.program import Program
from qdevpy.bench.run import Results
from qdevpy.bench.spread import Spread, paired_ratios, show_number
from qdevpy.bench.suite import BOTH, PEER, QDEVPY, Row, Target


def show_spread(numbers: Sequence[float]) -> str:
    """``median (smallest..largest)``; "" for none."""
    if not numbers:
        return ""
    spread = Spread.of(numbers)
    return f"{show_number(spread.median)} ({show_number(spread.low)}..{show_number(spread.high)})"


def ratios_of_row(results: Results, row: Row) -> list[float]:
    """Our figure over the peer's, pair by pair; empty where one of them was not measured."""
    above, below = results.numbers(QDEVPY, row), results.numbers(PEER, row)
    return paired_ratios(above, below) if above and below else []


def ratios_of_target(results: Results, target: Target, rows: Mapping[str, Row]) -> list[float]:
    """A target's ratio or number, pair by pair; empty where its rows were not measured."""
    if not target.rows <= set(rows):
        return []
    above = results.numbers(QDEVPY, rows[target.row])
    if target.over is None:
        return above
    below = results.numbers(target.over_program, rows[target.over])
    return paired_ratios(above, below) if above and below else []


class Report:
    """All tables of a run.

    :param programs: who was measured
    :param host: as :func:`qdevpy.bench.host.describe_host` tells it
    """

    def __init__(
        self,
        results: Results,
        rows: Sequence[Row],
        targets: Sequence[Target],
        programs: Sequence[Program],
        host: Mapping[str, str],
    ) -> None:
        self._results = results
        self._rows = rows
        self._targets = targets
        self._programs = programs
        self._host = host
        self._by_name = {row.name: row for row in rows}

    # -- for people

    def print_to(self, console: Console) -> None:
        """Print the machine, the rows, their efficiency, the targets."""
        for name, value in self._host.items():
            console.print(f"{name}: {value}", highlight=False)
        for program in self._programs:
            console.print(f"{program.name}: {program.version}", highlight=False)
        console.print(self.rows_table())
        console.print(self.efficiency_table())
        if self._targets:
            console.print(self.targets_table())

    def _compared(self) -> list[str]:
        return [role for role in BOTH if any(program.role == role for program in self._programs)]

    def _has_peer(self) -> bool:
        return PEER in self._compared()

    def rows_table(self) -> Table:
        """A line for each row: medians with spread, the ratio, and what it was measured with."""
        table = Table(Column("row", no_wrap=True), "figure", title="medians (smallest..largest)", box=None, title_justify="left")
        for program in self._programs:
            table.add_column(program.name, justify="right", no_wrap=True)
        if self._has_peer():
            table.add_column("ratio", justify="right", no_wrap=True)
        for program in self._programs:
            table.add_column(f"{program.name} with")
        for row in self._rows:
            cells: list[str | Text] = [show_spread(self._results.numbers(program.role, row)) for program in self._programs]
            if self._has_peer():
                cells.append(_judged(show_spread(ratios_of_row(self._results, row)), self._row_is_good(row)))
            cells += [self._setting_name(program, row) for program in self._programs]
            table.add_row(row.name, f"{row.figure.name}, {row.figure.unit}", *cells)
        return table

    def _row_is_good(self, row: Row) -> bool | None:
        ratios = ratios_of_row(self._results, row)
        if not ratios:
            return None
        median = Spread.of(ratios).median
        return median >= 1 if row.figure.more_is_better else median <= 1

    def _setting_name(self, program: Program, row: Row) -> str:
        setting = self._results.setting(program.role, row)
        return setting.name if setting else ""

    def efficiency_table(self) -> Table:
        """What a request costs the guest's CPU and the host's, for every row of a step of requests."""
        title = "efficiency: medians" + (", qdevpy | peer" if self._has_peer() else "")
        table = Table("row", title=title, box=None, title_justify="left")
        for figure in EFFICIENCY:
            table.add_column(f"{figure.name}, {figure.unit}", justify="right")
        for row in self._first_rows():
            cells = []
            for figure in EFFICIENCY:
                medians = []
                for role in self._compared():
                    found = self._results.of_row(role, row)
                    medians.append(show_number(Spread.of([figure.read(m) for m in found]).median) if found else "")
                cells.append(" | ".join(medians))
            table.add_row(row.name, *cells)
        return table

    def _first_rows(self) -> Iterable[Row]:
        """Of rows that share a step the first, where requests were served."""
        seen = set()
        for row in self._rows:
            found = self._results.of_row(QDEVPY, row)
            if (row.rig, row.step) not in seen and found and found[0].has_requests:
                seen.add((row.rig, row.step))
                yield row

    def targets_table(self) -> Table:
        """A line for each target: what was wanted, what was measured, met or not."""
        table = Table("target", "wanted", title="targets", box=None, title_justify="left")
        table.add_column("measured", justify="right")
        table.add_column("")
        for target in self._targets:
            ratios = ratios_of_target(self._results, target, self._by_name)
            met = target.is_met(Spread.of(ratios).median) if ratios else None
            verdict = {True: "met", False: "NOT MET", None: "not measured"}[met]
            table.add_row(target.text, target.wanted, show_spread(ratios), _judged(verdict, met))
        return table

    # -- for programs

    def as_json(self) -> dict[str, Any]:
        """Everything, every turn's numbers included."""
        return {
            "host": dict(self._host),
            "programs": {program.role: {"name": program.name, "version": program.version} for program in self._programs},
            "rows": [self._row_as_json(row) for row in self._rows],
            "targets": [self._target_as_json(target) for target in self._targets],
        }

    def _row_as_json(self, row: Row) -> dict[str, Any]:
        described: dict[str, Any] = {"name": row.name, "step": row.step, "figure": row.figure.name, "unit": row.figure.unit}
        described["more_is_better"] = row.figure.more_is_better
        measured: dict[str, Any] = {}
        for program in self._programs:
            found = self._results.of_row(program.role, row)
            if found:
                measured[program.role] = {
                    "setting": self._setting_name(program, row),
                    "numbers": self._results.numbers(program.role, row),
                    "efficiency": {figure.name: [figure.read(m) for m in found if m.has_requests] for figure in EFFICIENCY},
                    "cpu_ns": [{"vcpu": m.vcpu_ns, "others": m.other_ns} for m in found],
                    "counts": [dict(m.counts) for m in found],
                    "hz": [m.hz for m in found],
                    "histograms": [dict(m.histogram) for m in found if m.histogram],
                }
        return {**described, "measured": measured, "ratios": ratios_of_row(self._results, row)}

    def _target_as_json(self, target: Target) -> dict[str, Any]:
        ratios = ratios_of_target(self._results, target, self._by_name)
        met = target.is_met(Spread.of(ratios).median) if ratios else None
        return {"text": target.text, "wanted": target.wanted, "ratios": ratios, "met": met}


def _judged(text: str, good: bool | None) -> Text:
    return Text(text, style="" if good is None else "green" if good else "red")
