# SPDX-License-Identifier: Apache-2.0
"""Control sockets: how they come and go, and how the machine that is meant is found."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from qmp_parts import RunningMachine

from qdevpy.errors import MachineGoneError, MonitorClientError
from qdevpy.monitor.client import QmpClient
from qdevpy.monitor.control import open_control
from qdevpy.monitor.running import find_running, running_machines

Start = Callable[..., Any]


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "qdevpy"


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a machine with a control socket; PID: what its name says, for several in one process."""
    machines: list[RunningMachine] = []

    def begin(name: str = "test", pid: int = 0, monkeypatch: pytest.MonkeyPatch | None = None) -> Any:
        if monkeypatch is not None:
            monkeypatch.setattr(os, "getpid", lambda: pid)
        running = RunningMachine(name=name)
        with running.machine.lock:
            open_control(running.machine)
        machines.append(running)
        running.__enter__()
        return running.machine

    yield begin
    for running in machines:
        running.__exit__()


def test_socket_is_its_users_alone(start: Start, runtime: Path) -> None:
    path = start().control.path

    assert stat.S_IMODE(os.lstat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.lstat(runtime).st_mode) == 0o700


def test_any_number_of_clients_are_served(start: Start) -> None:
    path = start().control.path

    with QmpClient(path) as one, QmpClient(path) as other:
        assert one.execute("query-name") == other.execute("query-name") == {"name": "test"}


def test_client_hears_why_the_machine_ended(start: Start) -> None:
    machine = start()
    with QmpClient(machine.control.path) as client:
        with machine.lock:
            machine.request_shutdown("over", cause="host-signal")
        with pytest.raises(MachineGoneError) as caught:
            ask_until_it_ends(client)
    assert caught.value.reason == "host-signal"


def ask_until_it_ends(client: QmpClient) -> None:
    while True:
        client.execute("query-status")


def test_nothing_is_left_behind(runtime: Path) -> None:
    with RunningMachine(name="test") as running:
        running.call(lambda: open_control(running.machine))
        QmpClient(running.machine.control.path).close()
        assert len(list(runtime.iterdir())) == 1

    assert list(runtime.iterdir()) == []


def test_socket_of_a_killed_process_is_removed_when_somebody_looks(start: Start, runtime: Path) -> None:
    start()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(runtime / "killed.1.sock"))

    assert [each.name for each in running_machines()] == ["test"]
    assert not (runtime / "killed.1.sock").exists()


def test_socket_of_a_killed_process_with_the_same_number_is_replaced(start: Start, runtime: Path) -> None:
    runtime.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(runtime / f"test.{os.getpid()}.sock"))

    with QmpClient(start().control.path) as client:
        assert client.execute("query-name") == {"name": "test"}


@pytest.mark.parametrize("mode", [0o755, 0o770])
def test_directory_that_others_may_enter_is_not_used(start: Start, runtime: Path, mode: int) -> None:
    runtime.mkdir()
    runtime.chmod(mode)

    assert start().control is None
    with pytest.raises(MonitorClientError, match="this user alone may enter"):
        running_machines()


def test_machine_without_a_place_for_its_socket_runs_without(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nowhere")
    assert start().control is None


def test_only_machine_is_found_without_a_name(start: Start) -> None:
    path = start().control.path
    assert find_running(None) == path


def test_one_of_several_is_found_by_name_and_by_process(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = start("one", 101, monkeypatch), start("two", 102, monkeypatch)

    assert find_running("one") == first.control.path
    assert find_running("102") == second.control.path
    with pytest.raises(MonitorClientError, match=r"several machines run.*one \(process 101\), two \(process 102\)"):
        find_running(None)
    with pytest.raises(MonitorClientError, match="no machine 'twoo' runs; did you mean 'two'"):
        find_running("twoo")


def test_no_machine_says_what_to_do() -> None:
    with pytest.raises(MonitorClientError, match="no machine runs; start one with 'qdevpy boot'"):
        find_running(None)


def test_address_that_is_no_monitor_is_named(tmp_path: Path) -> None:
    with pytest.raises(MonitorClientError, match=r"nothing: cannot connect: No such file"):
        QmpClient(str(tmp_path / "nothing"))
