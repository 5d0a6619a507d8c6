# SPDX-License-Identifier: Apache-2.0
"""qdevpy import and qdevpy export."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_parts import Program, Result

from qdevpy.cli.app import run
from qdevpy.cli.qemu.export import ExportError
from qdevpy.definition.model import MachineDefinition

Load = Callable[[str], MachineDefinition]
Export = Callable[[MachineDefinition], list[str]]


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Program]:
    """Runs a command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    level = logging.getLogger().level

    def call(*args: str) -> Result:
        status = run(args)
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    yield call
    logging.getLogger().setLevel(level)


@pytest.mark.parametrize(
    "words",
    [
        ["--", "-nodefaults", "-m", "1G"],
        ["--", "qemu-system-x86_64", "-nodefaults", "-m", "1G"],
        ["--", "/usr/bin/kvm", "-nodefaults", "-m", "1G"],
        ["qemu-system-x86_64", "-nodefaults", "-m", "1G"],
        ["qemu-system-x86_64 -nodefaults \\\n -m 1G"],
    ],
)
def test_import_prints_yaml_of_the_options(words: list[str], program: Program) -> None:
    assert program("import", *words) == (0, "machine: pc\naccel: kvm\nmemory: 1G\n", "")


def test_import_of_an_unknown_option_names_it(program: Program) -> None:
    done = program("import", "--", "-nodefaults", "-bogus")

    assert done.status == 1
    assert done.out == ""
    assert done.err.startswith("-bogus: error: invalid option")


def test_import_of_a_wrong_property_names_it(program: Program) -> None:
    done = program("import", "--", "-device", "isa-serial,chardv=x")

    assert done.status == 1
    assert "-device isa-serial,chardv=x: error[Q301]" in done.err


def test_import_of_a_missing_image_is_a_comment(program: Program) -> None:
    done = program("import", "--", "-nodefaults", "-kernel", "./none", "-daemonize", "-pidfile", "p")

    assert done.status == 0
    assert done.out.splitlines()[:3] == [
        "# daemonize: of the process, not of the machine",
        "# pid file p: of the process, not of the machine",
        "# -kernel ./none: boot: kernel: 'none': No such file or directory",
    ]
    assert "  kernel: none\n" in done.out


def test_import_into_a_file_has_paths_relative_to_it(program: Program, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "vmlinuz").touch()

    assert program("import", "-o", "sub/m.yaml", "--", "-nodefaults", "-kernel", "vmlinuz", "-L", "roms").status == 0

    assert (tmp_path / "sub" / "m.yaml").read_text() == (
        "machine: pc\naccel: kvm\nboot:\n  kernel: ../vmlinuz\ndata-dirs:\n  - ../roms\n"
    )
    assert program("check", "sub/m.yaml").status == 0


def test_import_of_help_prints_it(program: Program) -> None:
    done = program("import", "--", "-machine", "help")

    assert done.status == 0
    assert "Supported machines are:" in done.out


def test_export_prints_one_line_that_a_shell_takes(program: Program, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("name: a b\nboot: {kernel: /dev/null, cmdline: console=ttyS0 quiet}\n")

    done = program("export", "m.yaml")

    assert done.status == 0
    assert done.out.count("\n") == 1
    words = shlex.split(done.out)
    assert words[:2] == ["qemu-system-x86_64", "-nodefaults"]
    assert words[words.index("-name") + 1] == "guest=a b"
    assert words[words.index("-append") + 1] == "console=ttyS0 quiet"


def test_export_with_an_option_a_line_is_the_same_command(program: Program) -> None:
    one, many = program("export", "demo").out, program("export", "demo", "--multiline").out

    assert many.count("\n") > 10
    assert shlex.split(many.replace("\\\n", "")) == shlex.split(one)


def test_export_takes_values_from_the_command_line(program: Program) -> None:
    assert "-m 1G" in program("export", "demo", "--set", "memory=1G").out


def test_export_of_what_later_versions_have_is_noted(program: Program, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("chardevs: {p: {type: pty, path: ./link}}\n")

    done = program("export", "m.yaml")

    assert done.status == 0
    assert done.err == "qdevpy: note: chardevs: p: path: QEMU has it from version 9.2 on\n"


REFUSED = {
    "accel: none\n": "accel: none: QEMU has no machine without CPUs",
    'netdevs: {n: {type: "null"}}\n': "netdevs: n: type null: QEMU has no such type; use a hubport",
    "netdevs: {n: {type: user, mtu: 9000}}\n": "netdevs: n: mtu: QEMU's user network has no such option",
    "drives: {d: {scratch: 1M, node-name: d}}\n": "drives: d: QEMU has no disk in memory among its block nodes",
    "drives: {d: {driver: none, node-name: d}}\n": "drives: d: a block node has contents",
    "drives: {z: {driver: null-co, node-name: z}, d: {driver: raw, below: z}}\n": "below is an option of block nodes",
    "drives: {d: {driver: file}}\n": "drives: d: it has no file; set one",
    "drives: {d: {driver: file, node-name: d}}\n": "drives: d: it has no file; set one",
}


@pytest.mark.parametrize("text", REFUSED)
def test_export_of_what_qemu_does_not_have_is_refused(text: str, load: Load, export_words: Export) -> None:
    with pytest.raises(ExportError) as error:
        export_words(load(text))

    assert REFUSED[text] in str(error.value)


def test_export_refuses_everything_at_once_with_places(load: Load, export_words: Export) -> None:
    with pytest.raises(ExportError) as error:
        export_words(load('accel: none\nnetdevs:\n  n: {type: "null"}\n'))

    assert str(error.value).splitlines() == [
        "cannot be exported:",
        "  accel: none: QEMU has no machine without CPUs; use --set accel=kvm",
        "  text.yaml:3:3: netdevs: n: type null: QEMU has no such type; use a hubport of a hub of its own",
    ]


def test_path_that_looks_like_a_protocol_is_exported_as_a_path(
    load: Load, export_words: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a:b").touch()

    assert "if=none,id=d,file=./a:b,format=raw" in export_words(load('drives: {d: {file: "a:b"}}'))
