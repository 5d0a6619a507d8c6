# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
from definition_parts import Complain, Load, registry_of_parts

from qdevpy.definition.load import load_definition
from qdevpy.definition.model import MachineDefinition
from qdevpy.definition.source import Override
from qdevpy.errors import DefinitionError
from qdevpy.plugin.registry import Registry


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """What a small plugin and small back ends offer."""
    return registry_of_parts(monkeypatch)


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
