# SPDX-License-Identifier: Apache-2.0
"""Every row of `qdevpy bench`, very briefly: that it can be measured, and that its numbers make sense.

How good they are is for people to judge.
"""

import json
import shutil
import subprocess
import sys

import pytest

QEMU = shutil.which("qemu-system-x86_64")

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.needs_host("kvm"),
]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """Run `qdevpy bench`, one pair of milliseconds; what it printed, and its JSON."""
    folder = tmp_path_factory.mktemp("bench")

    def run(*arguments):
        numbers = folder / "numbers.json"
        command = [sys.executable, "-m", "qdevpy", "bench", "--pairs", "1", "--ms", "4", "--json", str(numbers)]
        done = subprocess.run([*command, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=250)
        assert done.returncode == 0, done.stdout + done.stderr
        return done, json.loads(numbers.read_text())

    return run


@pytest.fixture(scope="module")
def everything(bench):
    return bench()


def rows_that_are_listed():
    command = [sys.executable, "-m", "qdevpy", "bench", "--list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return [line.split()[0] for line in listed.splitlines()]


def ours(found):
    """Rows with what was measured of them on qdevpy, or of a row without devices on bare KVM."""
    for row in found["rows"]:
        yield row, row["measured"].get("qdevpy") or row["measured"]["bare"]


def machines_left_out(done):
    return {line.split("'")[1]: line for line in done.stderr.splitlines() if "is not measured" in line}


def test_every_row_is_measured_or_left_out_with_a_reason(everything):
    done, found = everything
    measured = {row["name"] for row in found["rows"]}
    missing = [name for name in rows_that_are_listed() if name not in measured]

    assert measured
    # a machine that cannot be had takes all of its rows with it
    assert bool(missing) == bool(machines_left_out(done)), (missing, done.stderr)


def test_numbers_are_positive_and_one_a_pair(everything):
    for row, measured in ours(everything[1]):
        assert len(measured["numbers"]) == 1, row["name"]
        if row["figure"] != "interrupts":  # a host may get along without one
            assert measured["numbers"][0] > 0, row["name"]


def test_percentiles_are_in_order_and_histograms_complete(everything):
    timed = [(row, measured) for row, measured in ours(everything[1]) if "noted" in measured["counts"][0]]
    assert {"blk-kick", "bare-kick", "blk-read-4k-d1-p50"} <= {row["name"] for row, _ in timed}
    for row, measured in timed:
        counts = measured["counts"][0]
        low, p50, p99, p999 = (counts[name] for name in ("min", "p50", "p99", "p999"))
        # percentiles are the middles of buckets 1.6 % wide
        assert low <= p50 * 1.02 <= p99 * 1.03 <= p999 * 1.04, row["name"]
        assert p50 <= counts["max"] * 1.02, row["name"]
        for histogram in measured["histograms"]:
            assert sum(histogram.values()) == counts["noted"] == counts["requests"], row["name"]


def test_no_request_fails_and_kicks_are_suppressed_not_invented(everything):
    requests = [(row, measured["counts"][0]) for row, measured in ours(everything[1]) if row["step"].startswith("blk ")]
    assert requests
    for row, counts in requests:
        assert counts["failed"] == 0
        assert counts["requests"] > 0, row["name"]
        assert counts["kicks"] <= counts["requests"], row["name"]
        assert counts["bytes"] == counts["requests"] * (131072 if "128k" in row["name"] else 4096)
        assert 0 <= counts["waited"] <= (counts["end"] - counts["start"]) * counts["vcpus"]


def test_cpu_time_of_vcpus_and_others_is_told_apart(everything):
    by_name = {row["name"]: measured for row, measured in ours(everything[1])}
    spent = by_name["blk-read-4k-d32"]["cpu_ns"][0]

    assert spent["vcpu"] > 0
    assert spent["others"] > 0


def test_tables_and_targets_are_printed(everything):
    done, found = everything

    for row in found["rows"]:
        assert row["name"] in done.stdout
    assert "targets" in done.stdout
    assert all(target["met"] in (True, False, None) for target in found["targets"])


@pytest.mark.skipif(QEMU is None, reason="qemu-system-x86_64 is not installed")
def test_row_against_qemu_has_a_ratio_and_both_settings(bench):
    _, found = bench("--against", QEMU, "blk-read-4k-d8")

    (row,) = found["rows"]
    assert set(row["measured"]) == {"qdevpy", "qemu"}
    assert row["ratios"] == [row["measured"]["qdevpy"]["numbers"][0] / row["measured"]["qemu"]["numbers"][0]]
    assert row["measured"]["qemu"]["setting"].partition(", ")[0] in ("iothread", "main loop")
    assert found["programs"]["qemu"]["name"] == "QEMU"


def test_program_that_is_no_qemu_ends_the_run_without_a_traceback(tmp_path):
    fake = tmp_path / "qemu"
    fake.write_text(
        "#!/bin/sh\ntest \"$1\" = --version && echo 'QEMU emulator version 0' && exit\necho no such device >&2; exit 1\n"
    )
    fake.chmod(0o755)
    command = [sys.executable, "-m", "qdevpy", "bench", "--pairs", "1", "--ms", "2", "--against", str(fake), "net-kick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)

    assert done.returncode == 1
    assert "QEMU, machine 'net-dgram-pair'" in done.stderr
    assert "it said: no such device" in done.stderr
    assert "Traceback" not in done.stderr
