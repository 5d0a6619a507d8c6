# SPDX-License-Identifier: Apache-2.0
"""`qdevpy inspect` and `qdevpy tree --live` say what a driver has really negotiated and set up."""

import json
import re
import subprocess
import sys
import time

import pytest
from busy_machine import BusyMachine
from qmp_parts import PATIENCE, Client, Demo

from qdevpy.monitor.commands.virtio import TRANSPORT_FEATURES
from qdevpy.virtio import defs
from qdevpy_virtio_blk.device import VirtIOBlock
from qdevpy_virtio_console.device import VirtIOSerial
from qdevpy_virtio_net.device import VirtIONet

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.needs_host("kvm"),
]


def qdevpy(*words, **more):
    done = subprocess.run([sys.executable, "-m", "qdevpy", *words], capture_output=True, text=True, timeout=PATIENCE, **more)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def demo(tmp_path):
    """The demo machine, before its guest's first instruction."""
    with Demo(tmp_path, "paused: on, shutdown: off") as demo:
        yield demo


def run_until_served(client, device):
    """Let the guest run, in short pieces, to where its driver has DEVICE up; the machine stands still then."""
    path = f"/machine/peripheral/{device}/virtio-backend"
    end = time.monotonic() + PATIENCE
    while not any(ring["next-used"] for ring in client.command("x-query-virtio-rings", path=path)["queues"]):
        assert time.monotonic() < end, f"the guest never uses {device}"
        if client.command("query-status")["status"] == "shutdown":  # it was too fast for us
            client.command("system_reset")
        client.command("cont")
        client.command("stop")


def run_to_the_end(client):
    client.command("cont")
    while client.command("query-status")["running"]:
        client.event("STOP")


@pytest.mark.parametrize(
    ("device", "printed", "kind"),
    [("disk0", "disk 0", VirtIOBlock), ("nic1", "nic 1", VirtIONet), ("vser0", "console 0", VirtIOSerial)],
)
def test_features_are_those_that_the_driver_says_it_uses(demo, device, printed, kind):
    names = TRANSPORT_FEATURES | dict(kind.feature_names())
    with Client(demo.path) as client:
        run_until_served(client, device)
        status, out, err = qdevpy("inspect", device, "-m", str(demo.path), "--json")
        run_to_the_end(client)

    assert (status, err) == (0, "")
    (found,) = json.loads(out)
    (offered, used) = re.search(rf"^{printed}: .* offers (0x\w+), uses (0x\w+),", demo.output(), re.MULTILINE).groups()
    # what a legacy driver alone would see, the modern registers do not show
    legacy = 1 << defs.F_NOTIFY_ON_EMPTY | 1 << defs.F_ANY_LAYOUT
    for key, bits in (("host-features", int(offered, 16) | legacy), ("guest-features", int(used, 16))):
        wanted = {text for number, text in names.items() if bits >> number & 1}
        assert {*found[key]["transports"], *found[key]["dev-features"]} == wanted


def test_status_and_rings_are_decoded(demo):
    with Client(demo.path) as client:
        run_until_served(client, "disk0")
        status, out, err = qdevpy("inspect", "disk0", "--machine", str(demo.path))

    assert (status, err) == (0, "")
    assert re.search(r"^disk0: virtio-blk, device id 2$", out, re.MULTILINE)
    assert "    VIRTIO_CONFIG_S_DRIVER_OK: the driver is ready\n" in out
    assert "    + VIRTIO_F_VERSION_1: the standard's interface\n" in out
    assert re.search(r"queue 0 request\.0: split, \d+ of 256 entries, .* iothread default", out)
    taken, given, has = map(int, re.search(r"device: takes (\d+) next, gives back (\d+) next, has (\d+)", out).groups())
    idx = int(re.search(r"available: flags \w+(?: \(\w+\))?, idx (\d+), used_event \d+", out)[1])
    assert re.search(rf"used: flags \w+( \(\w+\))?, idx {given}, avail_event \d+", out)
    assert 0 < given <= taken <= idx
    assert has == taken - given


def test_without_a_device_all_are_shown(demo):
    _, out, _ = qdevpy("inspect", "-m", str(demo.path))
    assert re.findall(r"^(\w+): virtio-\w+, device id", out, re.MULTILINE) == ["vser0", "disk0", "nic0", "nic1"]


def test_device_that_there_is_none_of_is_an_error_with_the_nearest(demo):
    assert qdevpy("inspect", "disk1", "-m", str(demo.path)) == (
        1,
        "",
        "qdevpy: error: no virtio device 'disk1'; did you mean 'disk0'?\n",
    )


def test_live_tree_has_what_was_plugged_in_meanwhile(tmp_path):
    with BusyMachine(tmp_path) as machine:
        with Client(machine.control) as client:
            client.command("device_add", driver="virtserialport", id="late", bus="vser0.0")
        status, out, err = qdevpy("tree", "--live", "busy", env=machine.environment)

    assert (status, err) == (0, "")
    assert out.startswith("bus: main-system-bus\n")
    assert 'dev: virtserialport, id "late"\n' in out


def test_live_tree_takes_no_changes_to_a_definition():
    status, _, err = qdevpy("tree", "--live", "--set", "memory=1G")
    assert status == 2
    assert "options that change a definition do not go with it" in err
