# SPDX-License-Identifier: Apache-2.0
"""Debian's stock kernel sees devices come, uses them, and lets them go, twenty times in a row."""

import json
import sys
from pathlib import Path

import lab_hotplug
import lab_linux
import pytest
from conftest import SECONDS_IN_LAB

ROUNDS = 20


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_disk_network_and_port_come_and_go_twenty_times(tmp_path, stock_kernel, run_where_kvm_is_complete):
    script = lab_hotplug.INIT.replace("ROUNDS", str(ROUNDS))
    script = script.replace("GUEST", lab_linux.GUEST_ADDRESS).replace("HOST", lab_linux.HOST_ADDRESS)
    initrd = tmp_path / "initrd.gz"
    initrd.write_bytes(lab_linux.make_initramfs(stock_kernel, script))
    wanted = {
        "kernel": str(stock_kernel.image),
        "initrd": str(initrd),
        "host_address": lab_linux.HOST_ADDRESS,
        "rounds": ROUNDS,
        "timeout": SECONDS_IN_LAB,
    }
    (tmp_path / "hotplug.json").write_text(json.dumps(wanted))

    status, output = run_where_kvm_is_complete([sys.executable, str(Path(lab_hotplug.__file__)), "{out}"])

    assert status == 0, output
    result = json.loads((tmp_path / "result.json").read_text())
    console = (tmp_path / "console").read_text(errors="replace")
    assert result["failure"] is None, f"{result['failure']}\n{console}"
    assert result["status"] == 0, console
    for number in range(1, ROUNDS + 1):
        for step in ("disk", "net", "port", "gone"):
            assert f"hot: {step} {number}" in console
    behind_bridge = "disk at /sys/devices/pci0000:00/0000:00:05.0/0000:01:"
    assert (console.count("disk at /sys/devices/"), console.count(behind_bridge)) == (ROUNDS, ROUNDS // 2)
    assert [text.splitlines()[-1] for text in result["heard"]] == [f"hello from round {n}" for n in range(1, ROUNDS + 1)]
