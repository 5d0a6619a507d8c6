# SPDX-License-Identifier: Apache-2.0
"""``qdevpy bench``: wrong usage, and what it lists. Nothing is measured here."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench_parts import LATENCY, OTHER, RATE
from cli_parts import Result

from qdevpy.bench.host import describe_host, file_system_of
from qdevpy.cli.app import run
from qdevpy.cli.bench import load_suite, select_rows


@pytest.fixture
def bench(capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    def call(*args: str) -> Result:
        status = run(["bench", *args])
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    return call


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["blk-kik"], "no row is called 'blk-kik'; did you mean 'blk-kick'?"),
        (["--pairs", "0"], "0 is not in the range"),
        (["--ms", "soon"], "'soon' is not a valid float"),
        (["--folder", "nowhere"], "Directory 'nowhere' does not exist"),
    ],
)
def test_wrong_usage_says_what_is_accepted(bench, args: list[str], message: str) -> None:  # type: ignore[no-untyped-def]
    result = bench(*args)

    assert result.status == 2
    assert message in result.err


@pytest.mark.parametrize(
    ("peer", "message"),
    [
        ("no-such-qemu", "--against no-such-qemu: no such program; give QEMU's name or path"),
        ("/bin/echo", "--against /bin/echo: this is no QEMU: it says"),
        ("/bin/false", "--against /bin/false: it does not tell its version"),
    ],
)
def test_peer_that_is_no_qemu_is_refused(bench, peer: str, message: str) -> None:  # type: ignore[no-untyped-def]
    result = bench("--against", peer)

    assert result.status == 1
    assert message in result.err
    assert "Traceback" not in result.err


def test_list_prints_every_row_with_its_figure(bench) -> None:  # type: ignore[no-untyped-def]
    lines = bench("--list").out.splitlines()

    assert [line.split()[0] for line in lines] == [row.name for row in load_suite().rows]


def test_rows_are_selected_by_pattern_in_their_own_order() -> None:
    assert select_rows([RATE, LATENCY, OTHER], ["other", "l*"]) == [LATENCY, OTHER]
    assert select_rows([RATE, LATENCY], []) == [RATE, LATENCY]


def test_suite_has_names_of_its_own_and_targets_that_exist() -> None:
    suite = load_suite()
    names = [row.name for row in suite.rows]

    assert len(set(names)) == len(names)
    assert {name for target in suite.targets for name in target.rows} <= set(names)


def test_host_is_described_with_the_file_systems(tmp_path: Path) -> None:
    facts = describe_host(tmp_path)

    assert facts[f"file system of {tmp_path}"] == file_system_of(tmp_path) != ""
    assert {"CPU", "cores", "kernel", "KVM"} <= set(facts)
