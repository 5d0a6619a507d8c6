# SPDX-License-Identifier: Apache-2.0
"""Who is measured when: first every setting once, to find each step's best; then the programs in turns with those."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs

from qdevpy.bench.guest import Guest
from qdevpy.bench.measurement import Measurement
from qdevpy.bench.program import BenchError, Program
from qdevpy.bench.suite import Figure, Place, Rig, Row, Setting, Start

#: how long measurements are over those that look for the best setting, and how many of these there are
SHORTER = 4
ROUNDS = 3


@attrs.frozen
class Effort:
    """How much is spent.

    :ivar pairs: turns of each program
    :ivar milliseconds: of each measurement
    :ivar rounds: that look for the best setting
    """

    pairs: int = 5
    milliseconds: float = 100
    rounds: int = ROUNDS


@attrs.frozen
class Step:
    """What is measured once for all rows that show it.

    :ivar figure: the one that settings are compared by
    """

    rig: Rig
    words: str
    figure: Figure
    programs: Sequence[str]


#: role of a program, machine, what its guest was asked for
Key = tuple[str, Rig, str]


@attrs.define
class Results:
    """All that was measured.

    :ivar chosen: the setting for each
    :ivar measurements: one a turn
    :ivar notes: what was left out, and why
    """

    chosen: dict[Key, Setting] = attrs.field(factory=dict)
    measurements: dict[Key, list[Measurement]] = attrs.field(factory=lambda: defaultdict(list))
    notes: list[str] = attrs.field(factory=list)

    def numbers(self, role: str, row: Row) -> list[float]:
        """A row's figure in every turn of a program; empty where it was not measured."""
        return [row.figure.read(m) for m in self.of_row(role, row)]

    def of_row(self, role: str, row: Row) -> Sequence[Measurement]:
        """The measurements behind a row."""
        return self.measurements.get((role, row.rig, row.step), [])

    def setting(self, role: str, row: Row) -> Setting | None:
        """What a row was measured with."""
        return self.chosen.get((role, row.rig, row.step))


def steps_of(rows: Sequence[Row]) -> list[Step]:
    """The steps behind ROWS, each once, those of a rig together."""
    found: dict[tuple[Rig, str], Step] = {}
    for row in rows:
        found.setdefault((row.rig, row.step), Step(row.rig, row.step, row.figure, tuple(row.programs)))
    rigs = list(dict.fromkeys(row.rig for row in rows))
    return sorted(found.values(), key=lambda step: rigs.index(step.rig))


class Runner:
    """Measures rows.

    :param programs: in the order of their turns
    :param kernel: the measuring guest
    :param hz: about how many cycles the guest's counter makes a second
    :param progress: told of each boot as it begins
    """

    def __init__(
        self,
        programs: Sequence[Program],
        kernel: Path,
        place: Place,
        effort: Effort,
        hz: float,
        progress: Callable[[str], None] = lambda what: None,
    ) -> None:
        self._programs = programs
        self._kernel = kernel
        self._place = place
        self._effort = effort
        self._hz = hz
        self._progress = progress
        self.results = Results()

    def run(self, rows: Sequence[Row]) -> Results:
        """Measure all of ROWS.

        :raises BenchError: one could not be measured
        """
        steps = steps_of(rows)
        for program in self._programs:
            for rig, mine in self._by_rig(program, steps):
                self._choose(program, rig, mine)
        for turn in range(self._effort.pairs):
            for rig in dict.fromkeys(step.rig for step in steps):
                mine = [step for step in steps if step.rig is rig]
                for program in self._programs:
                    self._take_turn(program, rig, mine, f"pair {turn + 1} of {self._effort.pairs}")
        return self.results

    @staticmethod
    def _by_rig(program: Program, steps: Sequence[Step]) -> Iterator[tuple[Rig, list[Step]]]:
        mine = [step for step in steps if program.role in step.programs]
        for rig in dict.fromkeys(step.rig for step in mine):
            yield rig, [step for step in mine if step.rig is rig]

    def _choose(self, program: Program, rig: Rig, steps: Sequence[Step]) -> None:
        settings = rig.settings_of(program.role)
        tried = self._try(program, rig, settings, steps) if len(settings) > 1 else {settings[0]: []}
        for step in steps:
            merits = {setting: [_merit(step, measured[step]) for measured in found] for setting, found in tried.items()}
            middles = {setting: statistics.median(found or [0]) for setting, found in merits.items()}
            self.results.chosen[program.role, rig, step.words] = max(middles, key=middles.__getitem__)

    def _try(
        self, program: Program, rig: Rig, settings: Sequence[Setting], steps: Sequence[Step]
    ) -> dict[Setting, list[dict[Step, Measurement]]]:
        """What each setting is good for. One that does not work here (no io_uring, ...) is left out with a note.

        :raises BenchError: none works
        """
        tried: dict[Setting, list[dict[Step, Measurement]]] = {setting: [] for setting in settings}
        for _ in range(self._effort.rounds):
            for setting in list(tried):
                try:
                    length = self._effort.milliseconds / SHORTER
                    tried[setting].append(self._boot(program, rig, setting, steps, length, "looking for the best setting"))
                except BenchError as error:
                    del tried[setting]
                    if not tried:
                        raise
                    self.results.notes.append(f"'{setting.name}' is left out: {error}")
        return tried

    def _take_turn(self, program: Program, rig: Rig, steps: Sequence[Step], what: str) -> None:
        chosen = {step: self.results.chosen[program.role, rig, step.words] for step in steps if program.role in step.programs}
        for setting in dict.fromkeys(chosen.values()):
            mine = [step for step, best in chosen.items() if best == setting]
            found = self._boot(program, rig, setting, mine, self._effort.milliseconds, what)
            for step, measurement in found.items():
                self.results.measurements[program.role, rig, step.words].append(measurement)

    def _boot(
        self, program: Program, rig: Rig, setting: Setting, steps: Sequence[Step], milliseconds: float, what: str
    ) -> dict[Step, Measurement]:
        self._progress(f"{what}: {program.name}, {rig.name}, {setting.name}")
        limit = f"cycles={int(self._hz * milliseconds / 1000)}"
        with (rig.session or Guest.of)(Start(program, rig, setting, self._place, self._kernel)) as session:
            found = session.measure_all([f"{step.words} {limit}" for step in steps])
        return dict(zip(steps, found, strict=True))


def _merit(step: Step, measurement: Measurement) -> float:
    number = step.figure.read(measurement)
    return number if step.figure.more_is_better else -number
