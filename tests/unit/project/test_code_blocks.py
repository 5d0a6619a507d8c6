# SPDX-License-Identifier: Apache-2.0
"""Every code block of every page is carried out, or says why not.

What is done with a block is told by its language:

========  ===============================================================================================================
yaml      ``qdevpy check`` finds in it the problems that its comments name (``# Q302``), and no others. A block that is no
          whole definition stands on a small one; one that begins with ``-`` is a list of devices
python    it runs; where it has tests or fixtures, pytest finds all that they ask for
console   lines with ``$`` are run, in a folder with the page's first whole definition as machine.yaml, and print what is
          shown; ``...`` stands for anything
sh        nothing is run, but each subcommand and option of qdevpy's in it must be there, and options of QEMU's be taken
toml,     can be read
json
text      a drawing, or what a program printed: nothing
========  ===============================================================================================================

``<!-- not run: REASON -->`` before a block has it left alone. ``<!-- run beside: machine.yaml -->`` has it run while the last
definition before it does, without a CPU. The tutorial is followed as a whole, in tests/packaging.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import click
import pytest
from markdown_blocks import Block, output_matches, read_blocks, read_commands

from qdevpy.cli.app import group

ROOT = Path(__file__).resolve().parents[3]
PAGES = [
    *sorted(ROOT.glob("docs/**/*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md")),
    *sorted(ROOT.glob("plugins/*/README.md")),
    *sorted(ROOT.glob("examples/*/README.md")),
]
FOLLOWED = ROOT / "docs/tutorial.md"
SITE = ("{toctree}", "{figure}", "{image}", "{eval-rst}")  # directives that are no code
NOT_RUN, BESIDE = re.compile(r"not run: (\S.*)", re.S), "run beside: machine.yaml"
FRAME = """
machine: pc
memory: 64M
drives:
  root: {file: ./root.img, format: raw}
  data: {file: ./data.img, format: raw}
netdevs:
  lan: {type: null}
"""
FILES = ("vmlinuz", "initrd.gz", "guest.elf", "root.img", "data.img")
NUMBER = re.compile(r"\bQ\d{3}\b")
NO_TESTS = pytest.ExitCode.NO_TESTS_COLLECTED
PATIENCE = 60

ALL = [block for page in PAGES for block in read_blocks(page) if not block.language.startswith(SITE)]
BLOCKS = [block for block in ALL if block.page != FOLLOWED and not NOT_RUN.match(block.comment)]


def name_of(block: Block) -> str:
    return f"{block.page.relative_to(ROOT)}:{block.line}"


def of(*languages: str) -> pytest.MarkDecorator:
    """One test for each block of these languages."""
    return pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in languages], ids=name_of)


def definition_of(block: Block) -> str:
    """A whole definition, on FRAME where the block is a part of one."""
    text = block.text
    if text.startswith("-"):
        text = "devices:\n" + "".join(f"  {line}\n" for line in text.splitlines())
    if re.search(r"^(machine|include):", text, re.M):
        return text
    return f"include: base.yaml\n{text}"


def definition_before(block: Block) -> str:
    """The last definition on the page before BLOCK."""
    before = [other for other in ALL if other.page == block.page and other.language == "yaml" and other.line < block.line]
    assert before, f"{name_of(block)}: no definition before it"
    return definition_of(before[-1])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current folder with the files that definitions name."""
    for name in FILES:
        (tmp_path / name).write_bytes(bytes(512))
    (tmp_path / "base.yaml").write_text(FRAME)
    (tmp_path / "disks.yaml").write_text(FRAME)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)


def test_blocks_are_all_of_a_language_that_is_dealt_with():
    known = {"yaml", "python", "console", "sh", "toml", "json", "text"}
    unknown = [f"{name_of(block)}: '{block.language}'" for block in BLOCKS if block.language not in known]
    assert not unknown, f"give them one of {', '.join(sorted(known))}, or <!-- not run: REASON --> before them"


def test_blocks_that_are_not_run_say_why():
    silent = [name_of(block) for block in ALL if block.comment.startswith("not run") and not NOT_RUN.match(block.comment)]
    assert not silent


@of("yaml")
def test_definition_has_the_problems_that_it_names_and_no_others(block, folder):
    (folder / "page.yaml").write_text(definition_of(block))
    done = run(sys.executable, "-m", "qdevpy", "check", "page.yaml")
    found = re.findall(r"error\[(Q\d{3})\]", done.stdout + done.stderr)
    assert sorted(found) == sorted(NUMBER.findall(block.text)), done.stdout + done.stderr
    assert done.returncode == (1 if found else 0)


@of("python")
def test_python_runs(block, folder):
    if re.search(r"^def test_|^@pytest", block.text, re.M):
        (folder / "test_page.py").write_text(f"from pathlib import Path\n\nimport pytest\n\n{block.text}")
        done = run(sys.executable, "-m", "pytest", "-q", "--setup-plan", "-p", "no:cacheprovider", "test_page.py")
        assert done.returncode in (0, NO_TESTS), done.stdout
        return
    beside = block.comment == BESIDE
    machine = _start(folder, definition_before(block)) if beside else None
    try:
        done = run(sys.executable, "-W", "error", "-c", block.text)
    finally:
        if machine is not None:
            machine.terminate()
            machine.wait(PATIENCE)
    assert done.returncode == 0, done.stderr


def _start(folder, definition):
    """A machine without a CPU, once its first socket is there."""
    (folder / "machine.yaml").write_text(definition)
    machine = subprocess.Popen([sys.executable, "-m", "qdevpy", "boot", "machine.yaml", "--set=accel=qtest"])
    deadline = time.monotonic() + PATIENCE
    while not any(folder.glob("*.sock")):
        assert machine.poll() is None, f"the machine ended with {machine.returncode}"
        assert time.monotonic() < deadline, "no socket"
        time.sleep(0.01)
    return machine


@of("console")
def test_commands_print_what_is_shown(block, folder):
    whole = [other for other in ALL if other.page == block.page and other.language == "yaml" and "machine:" in other.text]
    if whole:
        (folder / "machine.yaml").write_text(whole[0].text)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "200"}
    for command in read_commands(block):
        done = subprocess.run(
            ["bash", "-c", command.text],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )
        assert output_matches(command.output, done.stdout), f"$ {command.text}\n{done.stdout}"


def options_of(subcommand: str) -> set[str]:
    """All options of one of qdevpy's subcommands."""
    command = group.get_command(click.Context(group), subcommand)
    assert command is not None, f"no subcommand '{subcommand}'"
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


@of("sh")
def test_subcommands_and_options_are_there(block, folder):
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line.split(" -- ")[0], comments=True)
        if words[:1] == ["qdevpy-system-x86_64"] and "..." not in words:
            done = run(sys.executable, "-m", "qdevpy", "import", "--", *words)
            assert done.returncode == 0, f"{line}\n{done.stderr}"
        elif words[:1] == ["qdevpy"]:
            given = {word.split("=")[0] for word in words[2:] if word.startswith("-")}
            assert not given - options_of(words[1]), line


@of("toml", "json")
def test_text_can_be_read(block):
    for text in block.text.splitlines() if block.language == "json" else [block.text]:
        (json.loads if block.language == "json" else tomllib.loads)(text)
