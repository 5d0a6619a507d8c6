# SPDX-License-Identifier: Apache-2.0
"""A pc without CPUs, and its monitor's commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from monitor_rig import MakeQmp, Qmp

from qdevpy.definition.load import load_definition
from qdevpy.monitor.table import CommandTable
from qdevpy.plugin.manager import load_plugins
from qdevpy.vm.build import build_machine


@pytest.fixture(scope="session")
def command_table() -> CommandTable:
    return CommandTable()


@pytest.fixture
def qmp(command_table: CommandTable) -> Iterator[MakeQmp]:
    """Makes machines of YAML, without CPUs."""
    with ExitStack() as cleanup:

        def make(text: str = "") -> Qmp:
            registry = load_plugins()
            definition = load_definition("test.yaml", registry, text=f"machine: pc\naccel: none\n{text}")
            machine = build_machine(definition, registry)
            cleanup.callback(machine.close)
            machine.reset()
            return Qmp(machine, command_table)

        yield make
