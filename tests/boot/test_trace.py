# SPDX-License-Identifier: Apache-2.0
"""The demo machine on KVM with --trace: all that its guest does is in it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from qdevpy.trace.requests import Trace, read_trace

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.needs_host("kvm"),
]


def boot(path: Path, *options: str) -> tuple[Trace, str]:
    """Boot the demo machine with a trace; the trace, and what was said on stderr."""
    command = [sys.executable, "-m", "qdevpy", "-v", "boot", "demo", "--trace", str(path), *options]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return read_trace(path), done.stderr


@pytest.mark.parametrize("ring", ["split", "packed"])
def test_every_request_of_the_demo_is_in_the_trace_with_its_stages_in_order(tmp_path: Path, ring: str) -> None:
    packed = [f"--set=global.{device}.packed=on" for device in ("virtio-serial-pci", "virtio-blk-pci", "virtio-net-pci")]
    found, report = boot(tmp_path / "demo.pftrace", *packed, "--append", f"ring={ring}")
    assert not found.cut_short
    assert found.lost == 0
    for device in ("vser0", "disk0", "nic0", "nic1"):
        counted = re.search(rf"^{device}: .*kicks: (\d+) by ioeventfd, (\d+) synchronous.*; (\d+) requests", report, re.MULTILINE)
        assert counted, report
        seen = sum(request.device == device for request in found.requests)
        # a receive queue takes buffers before there is a frame, and what is left of them is not counted at the end
        assert seen == int(counted[3]) or (device.startswith("nic") and seen > int(counted[3]))
        ways = {
            way: sum(n for (d, _, w), n in found.kicks.items() if (d, w) == (device, way)) for way in ("ioeventfd", "synchronous")
        }
        assert ways == {"ioeventfd": int(counted[1]), "synchronous": int(counted[2])}
    for request in found.requests:
        times = [request.kicked, request.popped, request.submitted, request.completed, request.pushed, request.interrupted]
        known = [time for time in times if time is not None]
        assert known == sorted(known), request
        assert request.pushed is not None, request
        assert (request.submitted is None) == (request.completed is None), request
    assert any(request.submitted is not None for request in found.requests if request.device == "disk0")


def test_exits_are_told_with_whose_registers_they_are_for(tmp_path: Path) -> None:
    found, _ = boot(tmp_path / "demo.pftrace", "--set=global.virtio-blk-pci.ioeventfd=off")
    owners = {(each.kind, each.owner) for each in found.exits}
    assert ("mmio write", "disk0") in owners
    assert ("mmio read", "nic0") in owners
    assert {each.vcpu for each in found.exits} == {"vCPU 0"}
    assert all(0 < each.ns < 60_000_000_000 for each in found.exits)
    kicks = sum(n for (device, _, way), n in found.kicks.items() if (device, way) == ("disk0", "synchronous"))
    assert sum((each.kind, each.owner) == ("mmio write", "disk0") for each in found.exits) > kicks > 60
