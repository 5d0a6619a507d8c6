# SPDX-License-Identifier: Apache-2.0
"""The device of README.md, taken from there, does what README.md says it does."""

import re
import types
from pathlib import Path

import pytest

from qdevpy.plugin.discovery import EntryPoint
from qdevpy.plugin.manager import load_plugins
from qdevpy.testing.driver import ModernDriver
from qdevpy.testing.machine import FakeMachine

README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.fixture
def registry(monkeypatch):
    source = re.search(r"```python\n(# my_package/plugin.py.*?)```", README.read_text(), re.S)
    module = types.ModuleType("readme_plugin")
    monkeypatch.setitem(__import__("sys").modules, "readme_plugin", module)
    exec(compile(source[1], str(README), "exec"), module.__dict__)
    return load_plugins([EntryPoint("echo", "readme_plugin", "readme")])


def test_readme_device_loads_as_a_plugin_with_its_property(registry):
    kind = registry.device_type("virtio-echo-pci")
    assert kind.provider == "readme"
    assert kind.properties["limit"].default == 4096


def test_readme_device_gives_buffers_back_in_upper_case(registry):
    with FakeMachine() as machine:
        proxy = machine.plug_type(registry.device_type("virtio-echo-pci"), limit=100)
        driver = ModernDriver(machine, proxy)
        driver.start()
        assert driver.queues[0].request([b"hello"], [16]) == (5, b"HELLO" + bytes(11))


def test_readme_device_that_raises_asks_for_a_reset_and_the_machine_goes_on(registry, monkeypatch, caplog):
    with FakeMachine() as machine:
        proxy = machine.plug_type(registry.device_type("virtio-echo-pci"), id="echo0")
        driver = ModernDriver(machine, proxy)
        driver.start()
        monkeypatch.setattr(type(proxy.device), "handle_output", lambda self, queue: 1 // 0)
        driver.queues[0].add([b"hello"], [16])
        driver.queues[0].kick()
        machine.wait_for(lambda: driver.status & 64, "DEVICE_NEEDS_RESET")
        assert "echo0" in caplog.text
        assert "ZeroDivisionError" in caplog.text
        monkeypatch.undo()
        driver.start()
        assert driver.queues[0].request([b"again"], [16])[1][:5] == b"AGAIN"
