# SPDX-License-Identifier: Apache-2.0
"""qdevpy-system-x86_64 as a process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = [sys.executable, "-m", "qdevpy.cli.qemu"]
QUIT = '{"execute": "qmp_capabilities"}{"execute": "query-name"}{"execute": "query-memdev"}{"execute": "quit"}'

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a command line in an empty folder, with QMP's QUIT on standard input."""

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*PROGRAM, *words], input=QUIT, capture_output=True, text=True, timeout=60, cwd=tmp_path)

    return call


def test_machine_runs_until_a_client_ends_it(run: Run) -> None:
    done = run("-accel", "qtest", "-nodefaults", "-m", "96", "-name", "guest=a,process=qd-test", "-qmp", "stdio")

    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[2] == {"return": {"name": "a"}}
    assert [(m["id"], m["size"]) for m in lines[3]["return"]] == [("pc.ram", 96 << 20)]
    assert "SHUTDOWN" in [line.get("event") for line in lines]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("-foo", "qdevpy-system-x86_64: -foo: invalid option; -help lists what there is\n"),
        ("-M pcc", "qdevpy-system-x86_64: -M pcc: there is no machine type 'pcc'; did you mean 'pc'?\n"),
        ("-device virtio-blk-pci,drive=x -accel none", "qdevpy-system-x86_64: -device virtio-blk-pci,drive=x: "),
        (
            "-accel none -chardev socket,id=c,path=none",
            "qdevpy-system-x86_64: -chardev socket,id=c,path=none: chardev 'c': cannot",
        ),
        ("-accel none -append x", "qdevpy-system-x86_64: -append x: -append only allowed with -kernel option\n"),
        ("-M pc,initrd=/dev/null", "qdevpy-system-x86_64: -M pc,initrd=/dev/null: -initrd only allowed with -kernel option\n"),
        ("-accel none -D /none/log", "qdevpy-system-x86_64: -D /none/log: No such file or directory\n"),
        ("-accel none -pidfile /none/pid", "qdevpy-system-x86_64: -pidfile /none/pid: No such file or directory\n"),
    ],
)
def test_mistake_is_one_line_as_qemus_and_status_1(words: str, expected: str, run: Run) -> None:
    done = run(*words.split())

    assert done.returncode == 1
    assert done.stderr.startswith(expected)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_every_problem_is_told(run: Run) -> None:
    done = run("-accel", "none", "-device", "isa-serial,chardev=a", "-device", "virtio-blk-pci,drive=b")

    assert done.stderr.count("qdevpy-system-x86_64: -device ") == 2


def test_help_ends_with_status_0(run: Run) -> None:
    done = run("-machine", "help")

    assert done.returncode == 0
    assert done.stdout.startswith("Supported machines are:")


def test_listing_into_a_pipe_that_closes_is_no_error() -> None:
    with subprocess.Popen([*PROGRAM, "-help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_messages_go_to_the_log_file(run: Run, tmp_path: Path) -> None:
    done = run("-accel", "qtest", "-nodefaults", "-qmp", "stdio", "-d", "int", "-D", "log", "-msg", "timestamp=on")

    assert done.returncode == 0
    assert done.stderr == ""
    assert " qdevpy-system-x86_64: " in (tmp_path / "log").read_text()


def test_daemon_is_ready_when_the_program_ends(tmp_path: Path) -> None:
    words = "-accel qtest -nodefaults -daemonize -pidfile pid -qmp unix:qmp,server=on,wait=off"
    done = subprocess.run([*PROGRAM, *words.split()], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr

    number = int((tmp_path / "pid").read_text())
    assert os.readlink(f"/proc/{number}/fd/1") == "/dev/null"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "qmp"))
        assert b"QMP" in client.recv(4096)
        client.sendall(QUIT.encode())
        while client.recv(4096):
            pass
    wait_for_end(number)
    assert not (tmp_path / "pid").exists()


def test_daemon_that_cannot_start_says_so(run: Run) -> None:
    done = run("-accel", "qtest", "-nodefaults", "-daemonize", "-chardev", "socket,id=c,path=none")

    assert done.returncode == 1
    assert "cannot connect to" in done.stderr


def wait_for_end(number: int) -> None:
    """Until there is no such process."""
    try:
        fd = os.pidfd_open(number)
    except ProcessLookupError:
        return
    try:
        import select

        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(30_000):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            pytest.fail("the daemon did not end")
    finally:
        os.close(fd)
