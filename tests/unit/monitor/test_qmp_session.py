# SPDX-License-Identifier: Apache-2.0
"""QMP on the wire: greeting, negotiation, answers, several clients, clients that misbehave."""

import json
import os
import socket
import stat
from contextlib import suppress

import pytest
from qmp_parts import Client, RunningMachine, chardev

from qdevpy.definition.model import RunDefinition
from qdevpy.vm.event_types import VserportChange


@pytest.fixture
def path(tmp_path):
    return tmp_path / "qmp"


@pytest.fixture
def run(path):
    """Start a machine with a QMP server at PATH."""
    running = []

    def start(**fields):
        running.append(RunningMachine(chardev("mon0", path=path, server="on"), **fields).__enter__())
        return running[-1]

    yield start
    for each in running:
        each.__exit__()


def error(answer, class_="GenericError"):
    assert answer["error"]["class"] == class_
    return answer["error"]["desc"]


def test_greeting_has_version_and_capabilities(run, path):
    run()
    with Client(path, negotiate=False) as client:
        greeting = client.receive()
    assert greeting["QMP"]["version"]["qemu"] == {"major": 7, "minor": 2, "micro": 0}
    assert greeting["QMP"]["capabilities"] == ["oob"]


def test_lines_end_in_cr_lf(run, path):
    run()
    with Client(path, negotiate=False) as client:
        assert client.file.readline().endswith(b"}\r\n")


def test_socket_is_the_users_alone(run, path):
    run()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_before_negotiation_there_is_one_command(run, path):
    run()
    with Client(path, negotiate=False) as client:
        client.receive()
        desc = error(client.ask({"execute": "query-version"}), "CommandNotFound")
        assert desc == "Expecting capabilities negotiation with 'qmp_capabilities'"
        assert error(client.ask({"execute": "qmp_capabilities", "arguments": {"enable": ["fly"]}}))
        assert client.ask({"execute": "qmp_capabilities"}) == {"return": {}}
        desc = error(client.ask({"execute": "qmp_capabilities"}), "CommandNotFound")
        assert desc == "Capabilities negotiation is already complete, command ignored"


def test_id_comes_back_whatever_it_is(run, path):
    run()
    with Client(path) as client:
        for identity in ("x", 3, None, {"a": [1]}, False):
            assert client.ask({"execute": "query-name", "id": identity}) == {"return": {}, "id": identity}
            assert client.ask({"execute": "nothing", "id": identity})["id"] == identity


@pytest.mark.parametrize(
    ("request_", "desc"),
    [
        (None, "QMP input must be a JSON object"),
        ([], "QMP input must be a JSON object"),
        ({}, "QMP input lacks member 'execute'"),
        ({"execute": True}, "QMP input member 'execute' must be a string"),
        ({"execute": "stop", "arguments": []}, "QMP input member 'arguments' must be an object"),
        ({"execute": "stop", "extra": 1}, "QMP input member 'extra' is unexpected"),
        ({"exec-oob": "stop"}, "QMP input member 'exec-oob' is unexpected"),
        ({"execute": "stop", "arguments": {"now": True}}, "Parameter 'now' is unexpected"),
    ],
)
def test_request_of_the_wrong_form_is_an_error_in_qemus_words(run, path, request_, desc):
    run()
    with Client(path) as client:
        assert error(client.ask(request_)) == desc
        assert error(client.ask({"execute": "no-such"}), "CommandNotFound") == "The command no-such has not been found"


def test_malformed_json_is_an_error_and_the_session_goes_on(run, path):
    run()
    with Client(path) as client:
        for bad in (b"{]\n", b"{\xff", b"{\x01", b"{'bad \xff", b"{'execute': 'nonexistent', 'id':'\n", b"%p\n", b"nil\n"):
            assert error(client.ask(bad)).startswith("JSON parse error, ")
            assert error(client.ask({"execute": "no-such"}), "CommandNotFound")


def test_clients_have_sessions_of_their_own(run, path):
    run()
    with Client(path, negotiate=False) as first, Client(path) as second:
        first.receive()
        assert second.command("query-status")["status"] == "running"
        assert error(first.ask({"execute": "query-status"}), "CommandNotFound").startswith("Expecting")
        second.send(b"{]")
        second.close()
        with Client(path) as third:
            assert third.command("query-name") == {}


def test_events_reach_every_client_past_negotiation(run, path):
    run()
    with Client(path) as first, Client(path) as second, Client(path, negotiate=False) as silent:
        silent.receive()
        assert first.command("stop") == {}
        assert [event["event"] for event in first.events] == ["STOP"]
        assert second.event("STOP") == {"event": "STOP"}
        assert "error" in silent.ask({"execute": "x"})


def test_tcp_server_and_pretty_answers(tmp_path):
    with RunningMachine(chardev("mon0", host="127.0.0.1", port="0", server="on"), pretty=True) as running:
        port = running.machine.backend("chardevs", "mon0").bound_port
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            data = b""
            while not data.endswith(b"\r\n}\r\n"):
                data += connection.recv(4096)
        assert data.startswith(b'{\r\n    "QMP": {\r\n        "version"')
        assert json.loads(data)["QMP"]


def test_monitor_connects_as_a_client(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "ours"))
        listener.listen()
        with RunningMachine(chardev("mon0", path=tmp_path / "ours")) as running, Client.of(listener.accept()[0]) as client:
            assert client.command("query-status")["running"] is True
            client.close()
            running.call(lambda: None)


def test_oob_capability_lets_commands_be_refused_by_name(run, path):
    run()
    with Client(path, capabilities=["oob"]) as client:
        assert error(client.ask({"exec-oob": "query-status", "id": 1})) == "The command query-status does not support OOB"
        assert "clashes" in error(client.ask({"execute": "a", "exec-oob": "b"}))
        client.send(b"".join(json.dumps({"execute": "query-name", "id": n}).encode() for n in range(20)))
        assert [client.answer()["id"] for _ in range(20)] == list(range(20))


def blkdebug(config, **more):
    node = {"driver": "blkdebug", "node-name": "n0", "config": str(config), "image": {"driver": "null-co"}}
    return {"execute": "blockdev-add", "arguments": node, **more}


def test_out_of_band_request_overtakes_a_command_that_waits(run, path, tmp_path):
    run()
    os.mkfifo(tmp_path / "rules")
    with Client(path, capabilities=["oob"]) as client:
        client.send(blkdebug(tmp_path / "rules", id=1))
        client.send({"execute": "query-name", "id": 2})
        assert client.ask({"exec-oob": "migrate-pause", "id": 3})["id"] == 3
        with Client(path) as other:
            assert other.command("query-name") == {}
        with open(tmp_path / "rules", "w"):
            pass
        assert [client.answer() for _ in range(2)] == [{"return": {}, "id": 1}, {"return": {}, "id": 2}]
        assert client.command("blockdev-del", node_name="n0") == {}


def test_deferred_answer_may_be_an_error_or_come_too_late(run, path, tmp_path):
    run()
    (tmp_path / "rules").write_text("[inject-error]\n")
    os.mkfifo(tmp_path / "pipe")
    with Client(path) as client:
        assert error(client.ask(blkdebug(tmp_path / "rules"))).startswith("blkdebug: rules are not there")
        assert error(client.ask(blkdebug(tmp_path / "missing"))).startswith("Could not open")
        with Client(path) as hasty:
            hasty.send(blkdebug(tmp_path / "pipe"))
        with open(tmp_path / "pipe", "w"):
            pass
        assert client.command("query-name") == {}


def test_preconfig_allows_few_commands(run, path):
    run(run=RunDefinition(preconfig=True), start=False)
    with Client(path) as client:
        assert client.command("query-commands")
        assert client.command("query-status")["status"] == "prelaunch"
        assert "permitted only after" in error(client.ask({"execute": "query-cpus-fast"}))
        assert client.command("x-exit-preconfig") == {}
        assert client.event("RESUME")
        assert client.command("query-status")["status"] == "running"
        assert error(client.ask({"execute": "x-exit-preconfig"}))


# -- hostile and careless clients


def test_line_of_a_hundred_megabytes_is_an_error_to_that_client_only(run, path):
    run()
    with Client(path) as bad, Client(path) as good:
        piece = b"x" * (1 << 20)
        bad.send(b'{"execute": "')
        for _ in range(100):
            bad.send(piece)
            assert good.command("query-name") == {}
        bad.send(b'"}\n')
        assert error(bad.answer()) == "JSON token size limit exceeded"
        while "return" not in (answer := bad.ask({"execute": "query-name"})):
            assert error(answer)
        assert good.command("query-name") == {}


def test_client_that_reads_no_answers_is_not_read_from_either(run, path):
    running = run()
    with Client(path) as deaf, Client(path) as good:
        deaf.socket.setblocking(False)
        request = b'{"execute": "query-qmp-schema"}\n' * 100
        sent = 0
        with suppress(BlockingIOError):
            while sent < 100 << 20:
                sent += deaf.socket.send(request)
        assert sent < 100 << 20
        assert good.command("query-name") == {}
        sessions = running.call(lambda: [len(s._output) for s in running.machine.monitors.sessions])
        assert max(sessions) < 1 << 20


def test_client_that_reads_no_events_is_hung_up(run, path, caplog):
    running = run()
    with Client(path) as deaf, Client(path) as good:

        def flood():
            for number in range(60000):
                running.machine.events.emit(VserportChange(f"port{number}" + "x" * 100, True))

        running.call(flood)
        assert good.socket.recv(1)
        while len(running.call(lambda: list(running.machine.monitors.sessions))) == 2:
            assert "does not read" in caplog.text
        assert deaf.socket.recv(1)
    with Client(path) as another:
        assert another.command("query-name") == {}


def test_client_that_goes_in_the_middle_of_a_command_harms_nobody(run, path):
    run()
    with Client(path) as good:
        for rest in (b"{", b'{"execute": "stop"}', b'{"execute": "query-qmp-schema"}' * 50):
            with Client(path) as client:
                client.send(rest)
        assert good.command("query-name") == {}


def test_id_nested_too_deep_to_be_written_is_an_error(run, path):
    run()
    with Client(path) as client:
        client.send(b'{"execute": "query-name", "id": ' + b"[" * 1020 + b"]" * 1020 + b"}")
        assert client.answer()
        assert client.command("query-name") == {}


# -- the machine's life


def test_stop_answers_when_the_machine_stands_still_and_cont_goes_on(run, path):
    run()
    with Client(path) as client:
        assert client.command("stop") == {}
        assert client.command("query-status") == {"running": False, "singlestep": False, "status": "paused"}
        assert client.command("cont") == {}
        assert client.event("STOP")
        assert client.event("RESUME")
        assert client.command("query-status")["status"] == "running"


def test_cont_of_a_running_machine_changes_and_tells_nothing(run, path):
    run()
    with Client(path) as client:
        assert client.command("cont") == {}
        assert client.command("query-status")["status"] == "running"
        assert client.events == []


def test_stop_and_cont_in_one_piece_are_carried_out_in_turn(run, path):
    run()
    with Client(path) as client:
        client.send(b"".join(b'{"execute": "%s"}' % name for name in (b"stop", b"cont", b"stop", b"query-status")))
        assert [client.answer().get("return") for _ in range(3)] == [{}] * 3
        assert client.answer()["return"]["status"] == "paused"
        assert [event["event"] for event in client.events] == ["STOP", "RESUME", "STOP"]


def test_machine_that_is_to_wait_is_in_prelaunch_until_cont(run, path):
    run(run=RunDefinition(paused=True))
    with Client(path) as client:
        assert client.command("query-status")["status"] == "prelaunch"
        assert client.command("stop") == {}
        assert client.command("query-status")["status"] == "prelaunch"
        client.command("cont")
        assert client.event("RESUME")


def test_reset_and_power_button_are_told(run, path):
    run()
    with Client(path) as client:
        client.command("system_reset")
        assert client.event("RESET")["data"] == {"guest": False, "reason": "host-qmp-system-reset"}
        client.command("system_powerdown")
        assert client.event("POWERDOWN") == {"event": "POWERDOWN"}
        assert client.command("query-status")["running"]


def test_reset_of_a_stopped_machine_leaves_it_in_prelaunch(run, path):
    run()
    with Client(path) as client:
        client.command("stop")
        client.command("system_reset")
        assert client.event("RESET")
        assert client.command("query-status")["status"] == "prelaunch"


def test_quit_answers_and_tells_before_the_connection_ends(run, path):
    running = run()
    with Client(path) as client:
        assert client.command("quit") == {}
        assert client.event("SHUTDOWN")["data"] == {"guest": False, "reason": "host-qmp-quit"}
        assert client.receive() is None
    running.join()
    assert running.ending.status == 0
    assert not path.exists()


def test_client_that_reads_late_still_gets_everything_that_was_sent_before_the_end(run, path):
    running = run()
    with Client(path) as late, Client(path) as good:
        late.send(b"".join(b'{"execute": "query-qmp-schema", "id": %d}\n' % number for number in range(40)))
        while not running.call(lambda: any(session._output for session in running.machine.monitors.sessions)):
            good.command("query-name")
        good.command("quit")
        answers = [late.answer() for _ in range(2)]
        assert [answer["id"] for answer in answers] == [0, 1]
        messages = []
        while (message := late.receive()) is not None:
            messages.append(message)
        assert messages[-1]["event"] == "SHUTDOWN"


@pytest.mark.parametrize(
    ("cause", "guest"), [("guest-shutdown", True), ("host-signal", False), ("host-ui", False), ("guest-reset", True)]
)
def test_end_is_told_with_its_cause(run, path, cause, guest):
    running = run()
    with Client(path) as client:
        running.call(lambda: running.machine.request_shutdown("enough", cause=cause))
        assert client.event("SHUTDOWN")["data"] == {"guest": guest, "reason": cause}


def test_reset_where_none_is_wanted_is_a_shutdown(run, path):
    running = run(run=RunDefinition(reboot=False))
    with Client(path) as client:
        running.call(lambda: running.machine.request_reset("triple fault"))
        assert client.event("SHUTDOWN")["data"] == {"guest": True, "reason": "guest-reset"}


def test_power_off_without_shutdown_leaves_the_machine_standing(run, path):
    running = run(run=RunDefinition(shutdown=False))
    with Client(path) as client:
        running.call(lambda: running.machine.request_shutdown("powered off"))
        assert client.event("SHUTDOWN")["data"] == {"guest": True, "reason": "guest-shutdown"}
        assert client.event("STOP")
        assert client.command("query-status")["status"] == "shutdown"
        assert error(client.ask({"execute": "cont"})) == "Resetting the Virtual Machine is required"
        client.command("system_reset")
        assert client.event("RESET")
        client.command("cont")
        assert client.event("RESUME")
        client.command("quit")
        assert client.event("SHUTDOWN")["data"]["reason"] == "host-qmp-quit"
    running.join()


def test_crash_without_shutdown_leaves_the_machine_in_internal_error(run, path):
    running = run(run=RunDefinition(shutdown=False))
    with Client(path) as client:
        running.call(lambda: running.machine.request_crash("emulation failed"))
        assert client.event("STOP")
        assert client.command("query-status")["status"] == "internal-error"


@pytest.mark.parametrize(("panic", "action", "status"), [("pause", "pause", "guest-panicked"), ("none", "run", "running")])
def test_panic_that_does_not_end_the_machine_is_told(run, path, panic, action, status):
    running = run()
    with Client(path) as client:
        client.command("set-action", panic=panic, reboot="reset", shutdown="poweroff")
        running.call(lambda: running.machine.request_panic())
        assert client.event("GUEST_PANICKED")["data"] == {"action": action}
        assert client.command("query-status")["status"] == status


def test_panic_ends_the_machine_with_its_status(run, path):
    running = run()
    with Client(path) as client:
        client.command("set-action", panic="exit-failure")
        running.call(lambda: running.machine.request_panic())
        assert client.event("GUEST_PANICKED")["data"] == {"action": "poweroff"}
        assert client.event("SHUTDOWN")["data"] == {"guest": True, "reason": "guest-panic"}
    running.join()
    assert running.ending.status == 1


def test_events_that_a_guest_could_flood_are_throttled(run, path):
    running = run()
    with Client(path) as client:

        def flood():
            for opened in (True, False, True, False):
                running.machine.events.emit(VserportChange("p0", opened))
            running.machine.events.emit(VserportChange("p1", True))

        running.call(flood)
        seen = [client.event("VSERPORT_CHANGE")["data"] for _ in range(3)]
        assert seen == [{"id": "p0", "open": True}, {"id": "p1", "open": True}, {"id": "p0", "open": False}]
