# SPDX-License-Identifier: Apache-2.0
"""``qdevpy boot`` read without click means what it means to click."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
from typing import Any

import pytest

from qdevpy.cli import app, plain
from qdevpy.cli.boot import boot as boot_command
from qdevpy.errors import QdevpyError

WORDS = (
    *(
        "demo",
        "a.yaml",
        "",
        "-v",
        "--verbose",
        "--debug",
        "--no-reboot",
        "--set",
        "--set=a=b",
        "--set=",
        "c=d=e",
        "--kernel",
        "k",
    ),
    *(
        "--kernel=k",
        "--kernel=",
        "--initrd",
        "--initrd=i",
        "--append",
        "--append=a b",
        "--accel=none",
        "--accel",
        "kvm",
        "--trace=t",
        "-",
    ),
    *("--", "-h", "--help", "--nope", "--kern=x", "-vv", "--debug=1", "-v=1"),
)


@pytest.fixture
def by_click(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What click hands over for a command line; None where it has something to say itself."""
    seen: list[dict[str, Any]] = []

    def boot_machine(machine: str, **options: Any) -> int:
        seen.append({"machine": machine, **options})
        return 0

    monkeypatch.setattr("qdevpy.cli.boot.boot_machine", boot_machine)

    def parse(words: list[str]) -> dict[str, Any] | None:
        seen.clear()
        app.run(words)
        return seen[0] if seen else None

    return parse


def test_every_short_command_line_means_the_same_or_is_left_to_click(by_click: Any, capsys: pytest.CaptureFixture[str]) -> None:
    choose = random.Random(1)
    lines = [[], *([word] for word in WORDS), *itertools.product(WORDS, repeat=2)]
    lines += [choose.choices(WORDS, k=choose.randint(3, 8)) for _ in range(1000)]
    understood = 0
    for line in lines:
        words = ["boot", *line]
        found = plain.parse_boot(words)
        if found is not None:
            understood += 1
            assert found == by_click(words), words
    capsys.readouterr()
    assert understood > 300


@pytest.mark.parametrize("words", [["-v", "boot"], [], ["check", "x"], ["boot", "--help"], ["boot", "a", "b"], ["boot", "--set"]])
def test_other_command_lines_are_left_to_click(words: list[str]) -> None:
    assert plain.run_plain(words) is None


def test_completion_is_left_to_click(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_QDEVPY_COMPLETE", "bash_complete")
    assert plain.parse_boot(["boot"]) is None


def test_every_option_of_the_command_is_known_here_too() -> None:
    options = {name for parameter in boot_command.params for name in parameter.opts if name.startswith("-")}
    assert options == {*plain.FLAGS, *plain.VALUES}


def test_errors_look_as_they_do_with_click(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(machine: str, **options: Any) -> int:
        raise QdevpyError("no bench")

    monkeypatch.setattr("qdevpy.cli.machines.boot_machine", fail)
    assert plain.run_plain(["boot"]) == 1
    assert capsys.readouterr().err == "qdevpy: error: no bench\n"


def test_plain_boot_imports_no_click() -> None:
    program = (
        "import sys, qdevpy.cli.machines as m; m.boot_machine = lambda machine, **options: 7\n"
        "from qdevpy.cli import main\n"
        "try: main(['boot', '-v'])\n"
        "except SystemExit as end: print(end.code, 'click' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "7 False\n"
