# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_parts import Program, Result
from definition_parts import registry_of_parts

from qdevpy.cli.app import run


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Program]:
    """Runs a command line in an empty folder, with what ``definition_parts`` offers for plugins."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    registry = registry_of_parts(monkeypatch)
    for module in ("boot", "machines", "listing", "doctor"):
        monkeypatch.setattr(f"qdevpy.cli.{module}.load_plugins", lambda: registry)
    level = logging.getLogger().level

    def call(*args: str) -> Result:
        status = run(args)
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    yield call
    logging.getLogger().setLevel(level)
