# SPDX-License-Identifier: Apache-2.0
"""A pc without CPUs, and its monitor's commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from monitor_rig import MakeQmp, Qmp

from qdevpy.definition.load import load_definition
from qdevpy.monitor.table import CommandTable
from qdevpy.plugin.manager import load_plugins
from qdevpy.vm.build import build_machine


@pytest.fixture(scope="session")
def command_table() -> CommandTable:
    return CommandTable()


@contextmanager
def making(table: CommandTable) -> Iterator[MakeQmp]:
    """Makes machines of YAML, without CPUs; they are closed at the end."""
    with ExitStack() as cleanup:

        def make(text: str = "") -> Qmp:
            registry = load_plugins()
            definition = load_definition("test.yaml", registry, text=f"machine: pc\naccel: none\n{text}")
            machine = build_machine(definition, registry)
            cleanup.callback(machine.close)
            machine.reset()
            return Qmp(machine, table)

        yield make


@pytest.fixture
def qmp(command_table: CommandTable) -> Iterator[MakeQmp]:
    """Machines of a test's own."""
    with making(command_table) as make:
        yield make


@pytest.fixture(scope="module")
def shared_qmp(command_table: CommandTable) -> Iterator[MakeQmp]:
    """Machines for a module's tests that change nothing."""
    with making(command_table) as make:
        yield make
