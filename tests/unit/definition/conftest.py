# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import definition_parts
import pytest

from qdevpy.backend import BUILT_IN
from qdevpy.definition.load import load_definition
from qdevpy.definition.model import MachineDefinition
from qdevpy.definition.source import Override
from qdevpy.errors import DefinitionError
from qdevpy.plugin.discovery import EntryPoint
from qdevpy.plugin.manager import load_plugins
from qdevpy.plugin.registry import Registry

Load = Callable[..., MachineDefinition]
Complain = Callable[..., list[str]]


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """What a small plugin and small back ends offer."""
    for section, types in definition_parts.BACKENDS.items():
        monkeypatch.setitem(BUILT_IN, section, types)
    return load_plugins([EntryPoint("parts", "definition_parts", "lab-parts")])


@pytest.fixture
def load(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Writes ``m.yaml`` in an empty folder, which becomes the current one, and loads it."""
    monkeypatch.chdir(tmp_path)

    def run(text: str, *settings: str | Override) -> MachineDefinition:
        Path("m.yaml").write_text(text)
        overrides = [s if isinstance(s, Override) else Override.parse(s) for s in settings]
        return load_definition("m.yaml", registry, overrides=overrides)

    return run


@pytest.fixture
def complain(load: Load) -> Complain:
    """The lines that are printed about a definition that has errors."""

    def run(text: str, *settings: str | Override) -> list[str]:
        with pytest.raises(DefinitionError) as error:
            load(text, *settings)
        return [str(problem) for problem in error.value.problems]

    return run
