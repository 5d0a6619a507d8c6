# SPDX-License-Identifier: Apache-2.0
"""Debian's stock kernel on a disk of qemu-storage-daemon, which is killed and started again in the middle of checksum runs."""

import json
import shutil
import sys
from pathlib import Path

import lab_linux
import lab_vhost
import pytest
from conftest import SECONDS_IN_LAB

ROUNDS = 3


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("qemu-storage-daemon") is None, reason="no qemu-storage-daemon (qemu-system-common)")
def test_checksums_are_right_though_the_storage_daemon_is_killed_in_the_middle(tmp_path, stock_kernel, run_where_kvm_is_complete):
    initrd = tmp_path / "initrd.gz"
    initrd.write_bytes(lab_linux.make_initramfs(stock_kernel, lab_vhost.INIT.replace("ROUNDS", str(ROUNDS))))
    wanted = {
        "kernel": str(stock_kernel.image),
        "initrd": str(initrd),
        "rounds": ROUNDS,
        "queues": 2,
        "timeout": SECONDS_IN_LAB,
    }
    (tmp_path / "vhost.json").write_text(json.dumps(wanted))

    status, output = run_where_kvm_is_complete([sys.executable, str(Path(lab_vhost.__file__)), "{out}"])

    assert status == 0, output
    result = json.loads((tmp_path / "result.json").read_text())
    console = (tmp_path / "console").read_text(errors="replace")
    assert result["failure"] is None, f"{result['failure']}\n{console}"
    assert result["status"] == 0, console
    assert result["deaths"] == 2 * ROUNDS
    assert console.count("hung up; requests wait for the next") >= 2 * ROUNDS
    assert "I/O error" not in console
