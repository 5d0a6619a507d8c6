# SPDX-License-Identifier: Apache-2.0
"""QMP and a machine whose vCPU really runs."""

import os

import pytest
from qmp_parts import Client, Demo

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.needs_host("kvm"),
]


def test_machine_that_is_stopped_and_continued_all_the_time_finishes_its_work(tmp_path):
    with Demo(tmp_path, "paused: on, shutdown: off") as demo, Client(demo.path) as client:
        client.command("cont")
        rounds = 0
        while client.command("query-status")["status"] != "shutdown":
            client.command("stop")
            answer = client.ask({"execute": "cont"})
            rounds += 1
            if "error" in answer:  # it had powered off by then
                assert answer["error"]["desc"] == "Resetting the Virtual Machine is required"
        client.command("quit")
        assert demo.process.wait(30) == 0
    assert rounds > 0
    assert "demo: 20 checks passed" in demo.output()


def test_vcpu_thread_is_named_by_its_id(tmp_path):
    with Demo(tmp_path, "paused: on") as demo, Client(demo.path) as client:
        (cpu,) = client.command("query-cpus-fast")
        assert os.path.isdir(f"/proc/{demo.process.pid}/task/{cpu['thread-id']}")
        assert client.command("query-kvm") == {"enabled": True, "present": True}
        client.command("cont")
        assert client.event("RESUME")
        assert client.event("SHUTDOWN")["data"] == {"guest": True, "reason": "guest-shutdown"}
        assert client.receive() is None
        assert demo.process.wait(30) == 0


def test_reset_in_the_middle_begins_anew(tmp_path):
    with Demo(tmp_path) as demo, Client(demo.path) as client:
        client.command("system_reset")
        assert client.event("RESET")["data"]["reason"] == "host-qmp-system-reset"
        assert demo.process.wait(30) == 0
    assert demo.output().count("demo: 20 checks passed") == 1


def test_signal_is_told_as_the_cause(tmp_path):
    with Demo(tmp_path, "paused: on") as demo, Client(demo.path) as client:
        demo.process.terminate()
        assert client.event("SHUTDOWN")["data"] == {"guest": False, "reason": "host-signal"}
        assert demo.process.wait(30) == 0
