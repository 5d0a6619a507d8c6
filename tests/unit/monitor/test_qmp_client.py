# SPDX-License-Identifier: Apache-2.0
"""QEMU's own client library, the PyPI package qemu.qmp, against ours: every command, every event."""

import asyncio
from contextlib import suppress

import pytest
from qemu.qmp import ExecuteError, QMPClient
from qmp_commands import CASES, EVENTS, LISTED, Machine, emitted, sample

from qdevpy.monitor.table import CommandTable
from qdevpy.vm import event_types
from qdevpy.vm.events import event_name


@pytest.fixture(params=["unix", "tcp"])
def machine(request, tmp_path):
    with Machine(tmp_path, request.param) as made:
        yield made


@pytest.fixture
def unix_machine(tmp_path):
    with Machine(tmp_path, "unix") as made:
        yield made


def talk(machine, conversation):
    """Connect, and have CONVERSATION(client)."""

    async def session():
        client = QMPClient("test")
        await client.connect(machine.address)
        try:
            return await asyncio.wait_for(conversation(client), 60)
        finally:
            with suppress(EOFError):  # the machine has ended
                await client.disconnect()

    return asyncio.run(session())


def test_client_connects_and_negotiates(machine):
    async def conversation(client):
        assert client.greeting.QMP.version["qemu"]["major"] == 7
        return await client.execute("query-status")

    assert talk(machine, conversation)["status"] == "running"


def test_client_is_told_of_errors(machine):
    async def conversation(client):
        with pytest.raises(ExecuteError) as caught:
            await client.execute("no-such-command")
        assert caught.value.error_class == "CommandNotFound"
        with pytest.raises(ExecuteError, match="Parameter 'now' is unexpected"):
            await client.execute("stop", {"now": True})

    talk(machine, conversation)


@pytest.mark.parametrize("name", sorted({*LISTED, *CommandTable().names} - {"qmp_capabilities"}))
def test_client_executes_command(unix_machine, name):
    assert name in CASES, f"{name} has no case in tests/parts/qmp_commands.py"

    async def conversation(client):
        async def execute(command, **arguments):
            return await client.execute(command, {key.replace("_", "-"): value for key, value in arguments.items()})

        await CASES[name](execute, unix_machine)

    talk(unix_machine, conversation)


@pytest.mark.parametrize("event", event_types.EVENTS, ids=event_name)
def test_client_receives_event(unix_machine, event):
    name = event_name(event)

    async def conversation(client):
        with client.listener(name) as listener:
            await EVENTS.get(name, emitted(sample(event)))(client, unix_machine)
            received = await asyncio.wait_for(listener.get(), 30)
        assert received["event"] == name
        assert received["timestamp"]["seconds"] > 0

    talk(unix_machine, conversation)
