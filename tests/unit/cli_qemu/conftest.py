# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from qdevpy.cli.qemu.export import Exporter
from qdevpy.cli.qemu.parser import Parsed, parse_command_line
from qdevpy.definition.dump import to_yaml
from qdevpy.definition.load import load_definition
from qdevpy.definition.model import MachineDefinition
from qdevpy.plugin.manager import load_plugins
from qdevpy.plugin.registry import Registry


@pytest.fixture(scope="session")
def registry() -> Registry:
    """Everything that is built in."""
    return load_plugins()


@pytest.fixture
def parse(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Parsed]:
    """What a command line means, seen from an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: parse_command_line(words, registry)


@pytest.fixture
def import_words(parse: Callable[..., Parsed], registry: Registry) -> Callable[..., str]:
    """The YAML of a command line, which has no problems."""

    def run(*words: str) -> str:
        parsed = parse(*words)
        parsed.problems.check()
        return to_yaml(parsed.definition, registry)

    return run


@pytest.fixture
def load(registry: Registry) -> Callable[[str], MachineDefinition]:
    """The definition that a text means."""
    return lambda text: load_definition("text.yaml", registry, text=text)


@pytest.fixture
def export_words(registry: Registry) -> Callable[[MachineDefinition], list[str]]:
    """The words of a definition's command line."""
    return lambda definition: [word for option in Exporter(definition, registry).options() for word in option]
