# SPDX-License-Identifier: Apache-2.0
"""`qdevpy top` looks at a machine whose guest really works."""

import json
import re
import sys

import pexpect
import pytest
from busy_machine import PATIENCE, BusyMachine

from qdevpy.monitor.client import QmpClient

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.needs_host("kvm"),
]

WRITES = "blk op=write size=4096 depth=8 cycles=100000000"
FRAMES = "net op=pair size=1500 depth=8 cycles=100000000"


@pytest.fixture
def machine(tmp_path):
    with BusyMachine(tmp_path) as machine:
        yield machine


def live(machine):
    """`qdevpy top` on a terminal."""
    options = ["-m", "qdevpy", "top", "-d", "0.2"]
    wide = {**machine.environment, "COLUMNS": "120", "LINES": "40"}  # whoever runs the tests may have others set
    return pexpect.spawn(sys.executable, options, env=wide, encoding="utf-8", timeout=PATIENCE, dimensions=(40, 120))


def counted(client):
    return {device["name"]: device for device in client.execute("x-query-counters")["devices"]}


def total(device, *names):
    return sum(queue[name] for queue in device["queues"] for name in names)


def test_counters_rise_as_the_guest_works(machine):
    with QmpClient(machine.control) as client:
        before = counted(client)
        machine.do(WRITES)
        now = counted(client)

        requests = total(now["disk0"], "requests") - total(before["disk0"], "requests")
        moved = now["disk0"]["bytes-from-guest"] - before["disk0"]["bytes-from-guest"]
        assert requests > 0
        assert moved == 4096 * requests
        assert total(now["disk0"], "kicks-ioeventfd") > total(before["disk0"], "kicks-ioeventfd")
        assert now["nic0"]["queues"] == before["nic0"]["queues"]


def test_every_exit_is_somebodys(machine):
    machine.do(WRITES)
    machine.do(FRAMES)
    with QmpClient(machine.control) as client:
        client.execute("stop")
        found = client.execute("x-query-counters")

    (vcpu,) = found["vcpus"]
    for kind in ("pio", "mmio"):
        assert vcpu[f"exits-{kind}"] == sum(device[kind] for device in found["devices"]) + found[f"unanswered-{kind}"]
    assert found["status"] == "paused"
    assert vcpu["cpu-ns"] > 0


def test_every_chain_is_measured_while_somebody_looks(machine):
    machine.do(WRITES)  # the queue is known from now on
    with QmpClient(machine.control) as client:
        client.execute("x-query-counters", latencies=True)
        before = counted(client)["disk0"]
        machine.do(WRITES)
        found = client.execute("x-query-counters", latencies=True)

    (disk,) = (device for device in found["devices"] if device["name"] == "disk0")
    requests = total(disk, "requests") - total(before, "requests")
    latencies = disk["queues"][0]["latencies"]
    assert sum(bucket["chains"] for bucket in latencies["buckets"]) == requests > 0
    assert latencies["written-bytes"] == requests  # a status byte each
    assert latencies["read-bytes"] == requests * (16 + 4096)  # 5.2.6: a header, and what is written


def test_views_are_printed_for_a_pipe(machine):
    with machine.doing(WRITES, FRAMES):
        done = machine.top("-n", "2", "-d", "0.5", "--sort", "requests")

    assert (done.returncode, done.stderr) == (0, "")
    views = done.stdout.split("\n\n")
    assert len(views) == 2
    for view in views:
        assert view.startswith(f"busy, process {machine.process.pid}, running, over ")
        assert re.search(r"^(disk0|nic\d) .*\d", view, re.MULTILINE)


def test_json_is_a_line_for_each_view(machine):
    machine.do(WRITES)
    with machine.doing(WRITES):
        done = machine.top("--json", "-n", "2", "-d", "0.5", "busy")

    views = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(views) == 2
    (disk,) = (device for device in views[-1]["devices"] if device["name"] == "disk0")
    assert disk["from_guest"] > 0
    assert disk["queues"][0]["requests"] > 0
    assert 0 < disk["queues"][0]["latency"]["p50"] <= disk["queues"][0]["latency"]["p999"]


def test_machine_that_ends_ends_top_with_status_0(machine):
    child = live(machine)
    child.expect("disk0")
    assert machine.power_off() == 0
    child.expect(r"the machine has ended \(guest-shutdown\)")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_screen_obeys_keys_and_leaves_the_terminal_as_it_was(machine):
    machine.do(WRITES)
    child = live(machine)
    child.expect(r"\x1b\[\?1049h")  # the alternate screen
    child.expect("sort: tree")
    child.send("s")
    child.expect("sort: exits")
    child.send("u")
    child.expect("request.0")
    child.send(" ")
    child.expect("PAUSED")
    child.send("q")
    child.expect(r"\x1b\[\?1049l")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_machine_leaves_no_socket_behind(machine):
    machine.top("--once", "-d", "0.1")
    assert machine.power_off() == 0
    assert list((machine.folder / "qdevpy").iterdir()) == []


def test_no_machine_is_an_error_that_says_what_to_do(machine):
    machine.power_off()
    done = machine.top("--once")
    assert done.returncode == 1
    assert "no machine runs; start one with 'qdevpy boot'" in done.stderr
