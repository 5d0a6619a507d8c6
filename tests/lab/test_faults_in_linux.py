# SPDX-License-Identifier: Apache-2.0
"""Debian's stock kernel with a disk that fails where it is told to, and again from the log."""

import json
import re
import sys
from pathlib import Path

import lab_faults
import lab_linux
import pytest
from conftest import SECONDS_IN_LAB

HERE = Path(__file__).parent
#: what is the same when a log is replayed: which request, and what happened to it
SAME = ("device", "what", "kind", "sector", "sectors", "occurrence", "for", "length")


class Boot:
    """What came of one.

    :ivar outcomes: of reads and writes: ``read 10`` -> ``EIO``
    :ivar faults: that the log has
    """

    def __init__(self, folder):
        self.result = json.loads((folder / "result.json").read_text())
        self.console = (folder / "console").read_text(errors="replace").replace("\r", "")
        self.outcomes = dict(re.findall(r"hot: ((?:read|write) \d+) (\w+)", self.console))
        lines = (folder / "faults.jsonl").read_text().splitlines()
        self.faults = [json.loads(line) for line in lines[1:]]

    def hit(self):
        return [{name: fault[name] for name in SAME if name in fault} for fault in self.faults]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_stock_kernel_gets_errors_where_told_and_the_log_replays_them(tmp_path, stock_kernel, run_where_kvm_is_complete):
    initrd = tmp_path / "initrd.gz"
    initrd.write_bytes(lab_linux.make_initramfs(stock_kernel, lab_faults.INIT))
    wanted = {"kernel": str(stock_kernel.image), "initrd": str(initrd), "timeout": SECONDS_IN_LAB}
    (tmp_path / "faults.json").write_text(json.dumps(wanted))

    status, output = run_where_kvm_is_complete([sys.executable, str(HERE / "lab_faults.py"), "{out}"])

    assert status == 0, output
    first, second = Boot(tmp_path / "first"), Boot(tmp_path / "second")
    for boot in (first, second):
        assert boot.result["failure"] is None, f"{boot.result['failure']}\n{boot.console}"
        assert boot.result["status"] == 0, boot.console
    failed = {name for name, outcome in first.outcomes.items() if outcome == "EIO"}
    by_chance = {f"read {page}" for page in range(32, 64)}
    assert first.outcomes.keys() == {f"read {n}" for n in range(lab_faults.PAGES)} | {"write 20", "write 21"}
    assert failed - by_chance == {"read 10", "read 11", "write 20"}
    assert 0 < len(failed & by_chance) < 32, failed
    assert {fault["what"] for fault in first.faults} == {"io-error", "delay"}

    assert second.outcomes == first.outcomes
    assert second.hit() == first.hit()
