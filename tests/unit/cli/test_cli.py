# SPDX-License-Identifier: Apache-2.0
"""The program: what it prints, where, and its exit status."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from cli_parts import Program

from qdevpy import __version__
from qdevpy.cli import main
from qdevpy.cli.app import COMMANDS, group
from qdevpy.definition.model import MachineDefinition
from qdevpy.errors import QdevpyError


@pytest.mark.parametrize("args", [["--help"], ["-h"], *([name, "--help"] for name in COMMANDS)])
def test_help_is_printed_with_status_0(program: Program, args: list[str]) -> None:
    result = program(*args)

    assert result.status == 0
    assert "Usage: qdevpy" in result.out


def test_help_tells_of_shell_completion(program: Program) -> None:
    assert "_QDEVPY_COMPLETE=bash_source qdevpy" in program("--help").out


@pytest.mark.parametrize("args", [["--version"], ["version"]])
def test_version_is_printed(program: Program, args: list[str]) -> None:
    assert program(*args).out == f"qdevpy {__version__}\n"


def test_unknown_command_is_a_usage_error_with_the_nearest(program: Program) -> None:
    result = program("bot")

    assert result.status == 2
    assert "No such command 'bot'; did you mean 'boot'?" in result.err


@pytest.mark.parametrize("args", [["boot", "--nope"], ["check"], ["device"], ["--nope"]])
def test_wrong_usage_ends_with_status_2(program: Program, args: list[str]) -> None:
    assert program(*args).status == 2


def test_module_runs_as_a_program() -> None:
    run = subprocess.run([sys.executable, "-m", "qdevpy", "version"], capture_output=True, text=True, check=True, timeout=60)

    assert run.stdout == f"qdevpy {__version__}\n"


def test_main_ends_the_process_with_the_status(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gc.disable", lambda: None)

    with pytest.raises(SystemExit) as end:
        main(["version"])

    assert end.value.code == 0
    assert capsys.readouterr().out


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    @click.command()
    def command() -> None:
        raise error

    monkeypatch.setattr(group, "get_command", lambda ctx, name: command)


def test_error_on_purpose_is_one_line_and_status_1(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, QdevpyError("no bench"))

    assert program("boot") == (1, "", "qdevpy: error: no bench\n")


def test_interrupt_is_status_130(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, KeyboardInterrupt())

    assert program("boot").status == 130


def test_bug_shows_its_traceback(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, ZeroDivisionError("a bug"))

    with pytest.raises(ZeroDivisionError):
        program("boot")


def test_reader_that_leaves_early_is_no_error() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as out:
        run = subprocess.run(
            [sys.executable, "-m", "qdevpy", "version"], stdout=out, stderr=subprocess.PIPE, text=True, timeout=60
        )

    assert (run.returncode, run.stderr) == (1, "")


# -- check


def test_check_of_a_sound_file_prints_nothing(program: Program) -> None:
    Path("m.yaml").write_text("machine: pc\n")

    assert program("check", "m.yaml") == (0, "", "")


def test_check_prints_every_problem_of_every_file(program: Program) -> None:
    Path("a.yaml").write_text("memory: lots\nxyzzy: 1\n")
    Path("b.yaml").write_text("machine: pcc\n")

    result = program("check", "a.yaml", "b.yaml")

    assert result.status == 1
    assert [line.partition(": error[")[0] for line in result.out.splitlines()] == ["a.yaml:1:9", "a.yaml:2:1", "b.yaml:1:10"]


def test_check_of_a_missing_file_is_a_problem(program: Program) -> None:
    result = program("check", "gone.yaml")

    assert result == (1, "gone.yaml: error[Q501]: 'gone.yaml': No such file or directory\n", "")


def test_check_of_a_packaged_name_reads_it(program: Program) -> None:
    assert program("check", "definition_parts").status == 0


# -- boot


@pytest.fixture
def booted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[MachineDefinition, dict[str, Any]]]:
    """What ``boot`` hands to the machine, which does not run."""
    calls: list[tuple[MachineDefinition, dict[str, Any]]] = []

    def boot(definition: MachineDefinition, registry: Any, **options: Any) -> int:
        calls.append((definition, options))
        return 7

    monkeypatch.setattr("qdevpy.vm.run.boot", boot)
    return calls


def test_boot_hands_the_definition_over_and_returns_the_status(program: Program, booted: list[Any]) -> None:
    Path("m.yaml").write_text("memory: 1G\n")
    Path("k").touch()

    result = program(
        "boot",
        "m.yaml",
        "--set",
        "memory=2G",
        "--kernel",
        "k",
        "--initrd",
        "k",
        "--append",
        "quiet",
        "--accel",
        "none",
        "--no-reboot",
    )

    ((definition, options),) = booted
    assert result == (7, "", "")
    assert (definition.memory, definition.accel) == (2 << 30, "none")
    assert [v.given for v in (definition.boot.kernel, definition.boot.initrd, definition.boot.cmdline)] == ["k", "k", "quiet"]
    assert options == {"no_reboot": True, "stats": False, "control": True, "trace": None}


def test_boot_of_a_packaged_name_finds_it(program: Program, booted: list[Any]) -> None:
    program("boot", "definition_parts")

    assert booted[0][0].devices[0].type == "virtio-blk-pci"


@pytest.mark.parametrize("args", [["-v", "boot"], ["boot", "-v"], ["boot", "--debug"]])
def test_verbose_boot_asks_for_statistics_and_logs(program: Program, booted: list[Any], args: list[str]) -> None:
    program(*args, "definition_parts")

    assert booted[0][1]["stats"] is True
    assert logging.getLogger().level <= logging.INFO


def test_boot_of_an_unknown_name_says_what_there_is(program: Program) -> None:
    result = program("boot")

    assert result.status == 1
    assert result.err == (
        "qdevpy: error: 'demo' is no file, and no plugin has a machine definition of that name; there are: definition_parts\n"
    )


def test_boot_of_a_mistyped_name_has_the_nearest(program: Program) -> None:
    assert "did you mean 'definition_parts'?" in program("boot", "definition-part").err


def test_boot_of_a_wrong_definition_prints_its_problems(program: Program) -> None:
    Path("m.yaml").write_text("memory: lots\n")

    result = program("boot", "m.yaml")

    assert result.status == 1
    assert result.err.startswith("m.yaml:1:9: error[Q104]")


# -- tree


def test_tree_is_printed_as_info_qtree(program: Program) -> None:
    Path("m.yaml").write_text(
        "chardevs: {c: {type: null}}\n"
        "devices:\n- virtio-blk-pci: {id: disk0, addr: 4, serial: x}\n"
        "- virtio-serial-pci: {id: vser0}\n- virtconsole: {chardev: c}\n"
    )

    result = program("tree", "m.yaml", "--set", "devices.disk0.vectors=3")

    assert result.err == ""
    assert result.status == 0
    assert result.out.splitlines() == [
        "bus: main-system-bus",
        "  type System",
        "bus: pci.0",
        "  type PCI",
        '  dev: virtio-serial-pci, id "vser0"',
        "    addr = <unset>",
        "    vectors = 2 (0x2)",
        "    bus: vser0.0",
        "      type virtio-serial-bus",
        '      dev: virtconsole, id ""',
        '        chardev = "c"',
        '  dev: virtio-blk-pci, id "disk0"',
        '    drive = ""',
        '    serial = "x"',
        "    ioeventfd = true",
        '    write-cache = "auto"',
        '    romfile = ""',
        "    addr = 04.0",
        "    vectors = 3 (0x3)",
        "bus: isa.0",
        "  type ISA",
    ]


def test_tree_of_a_machine_that_cannot_be_built_names_the_place(program: Program) -> None:
    Path("m.yaml").write_text("devices:\n- virtio-serial-pci: {id: v}\n- virtconsole: {bus: v.1}\n")

    result = program("tree", "m.yaml")

    assert result.status == 1
    assert result.err.startswith("m.yaml:3:22: error")
