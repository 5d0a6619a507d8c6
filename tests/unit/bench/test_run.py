# SPDX-License-Identifier: Apache-2.0
"""Who is measured when, and with which setting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from bench_parts import PROGRAMS, measured

from qdevpy.bench.measurement import P50, REQUESTS, Measurement
from qdevpy.bench.program import BenchError
from qdevpy.bench.run import Effort, Runner
from qdevpy.bench.suite import PEER, QDEVPY, Place, Rig, Row, Session, Setting, Start

FAST, SLOW, BROKEN = (Setting(name) for name in ("fast", "slow", "broken"))
SPEED = {FAST: 300, SLOW: 100, Setting("default"): 50}


class Log:
    """Sessions that measure nothing, and remember who was started with what."""

    def __init__(self) -> None:
        self.started: list[tuple[str, str, int]] = []

    @contextmanager
    def session(self, start: Start) -> Iterator[Session]:
        if start.setting == BROKEN:
            raise BenchError("no such engine")
        log = self

        class Fake:
            def measure_all(self, steps: Sequence[str]) -> Sequence[Measurement]:
                log.started.append((start.program.role, start.setting.name, len(steps)))
                speed = SPEED[start.setting]
                return [measured(speed, p50=1000 - speed if "small" in step else speed) for step in steps]

        yield Fake()


@pytest.fixture
def log() -> Log:
    return Log()


def rig_with(session: Callable[[Start], AbstractContextManager[Session]], settings: Sequence[Setting]) -> Rig:
    return Rig("rig", lambda setting, place: (), {QDEVPY: settings}, session=session)


def run(rows: Sequence[Row], pairs: int = 2, rounds: int = 1) -> Runner:
    place = Place(Path("memory"), Path("disk"))
    runner = Runner(PROGRAMS, Path("kernel"), place, Effort(pairs, 10, rounds), hz=1e9)
    runner.run(rows)
    return runner


def test_programs_take_turns_once_each_a_pair(log: Log) -> None:
    run([Row("rate", rig_with(log.session, []), "blk", REQUESTS)])

    assert [role for role, _, _ in log.started] == [QDEVPY, PEER] * 2


def test_best_setting_is_found_first_and_measured_only(log: Log) -> None:
    row = Row("rate", rig_with(log.session, [SLOW, FAST]), "blk", REQUESTS, (QDEVPY,))
    results = run([row], rounds=2).results

    assert [name for _, name, _ in log.started] == ["slow", "fast"] * 2 + ["fast"] * 2
    assert results.setting(QDEVPY, row) == FAST
    assert results.numbers(QDEVPY, row) == [300, 300]


def test_setting_is_the_best_of_a_step_in_the_direction_of_its_first_row(log: Log) -> None:
    rig = rig_with(log.session, [SLOW, FAST])
    rate, small, large = Row("a", rig, "blk", REQUESTS), Row("b", rig, "blk small", P50), Row("c", rig, "blk large", P50)
    results = run([rate, small, large]).results

    assert [setting.name for row in (rate, small, large) if (setting := results.setting(QDEVPY, row))] == ["fast", "fast", "slow"]


def test_rows_of_a_step_are_measured_once_and_steps_of_a_setting_in_one_boot(log: Log) -> None:
    rig = rig_with(log.session, [])
    run([Row("a", rig, "blk", REQUESTS), Row("b", rig, "blk", P50), Row("c", rig, "blk small", P50)], pairs=1)

    assert log.started == [(QDEVPY, "default", 2), (PEER, "default", 2)]


def test_setting_that_does_not_work_is_left_out_with_a_note(log: Log) -> None:
    row = Row("rate", rig_with(log.session, [BROKEN, SLOW]), "blk", REQUESTS, (QDEVPY,))
    results = run([row]).results

    assert results.setting(QDEVPY, row) == SLOW
    assert results.notes == ["'broken' is left out: no such engine"]


def test_rig_of_which_no_setting_works_ends_the_run(log: Log) -> None:
    with pytest.raises(BenchError, match="no such engine"):
        run([Row("rate", rig_with(log.session, [BROKEN, BROKEN]), "blk", REQUESTS)])


def test_row_of_one_program_is_not_measured_on_the_other(log: Log) -> None:
    row = Row("rate", rig_with(log.session, []), "blk", REQUESTS, (PEER,))
    results = run([row], pairs=1).results

    assert log.started == [(PEER, "default", 1)]
    assert results.numbers(QDEVPY, row) == []
