# SPDX-License-Identifier: Apache-2.0
"""The host's storage hangs: who asks to end the machine a second time does not wait for it."""

import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.needs_host("kvm"),
]

#: loaded before the C library: a write to a disk says that it began, and never ends
HANGING_WRITES = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>
static ssize_t hang(void) { close(creat(getenv("HANGS"), 0600)); for (;;) pause(); }
ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t at, int flags) { return hang(); }
ssize_t pwritev64v2(int fd, const struct iovec *iov, int n, off_t at, int flags) { return hang(); }
"""


def test_second_signal_ends_a_machine_whose_storage_hangs(tmp_path):
    source, library, hangs = tmp_path / "hang.c", tmp_path / "hang.so", tmp_path / "hangs"
    source.write_text(HANGING_WRITES)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    environment = os.environ | {"LD_PRELOAD": str(library), "HANGS": str(hangs)}
    command = [sys.executable, "-m", "qdevpy", "boot", "demo", "--set", "drives.disk.aio=threads"]
    with (tmp_path / "stderr").open("w") as stderr:
        machine = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr)
    deadline = time.monotonic() + 60
    signals = 0
    try:
        while not hangs.exists():
            assert machine.poll() is None
            assert time.monotonic() < deadline, "the guest does not write"
            os.sched_yield()
        while True:
            machine.send_signal(signal.SIGTERM)
            signals += 1
            try:
                machine.wait(0.2)
                break
            except subprocess.TimeoutExpired:
                assert time.monotonic() < deadline, "the machine does not end"
    finally:
        machine.kill()
        machine.wait()
    assert signals > 1
    assert "ended with requests in flight (disk0" in (tmp_path / "stderr").read_text()
    assert machine.returncode == 1
