# SPDX-License-Identifier: Apache-2.0
"""Standard input and output: terminals through pexpect, pipes, files and sockets through subprocesses."""

import errno
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pexpect
import pytest

from qdevpy.backend.chardev_stdio import StdioChardev
from qdevpy.errors import BackendError

PROGRAM = str(Path(__file__).with_name("stdio_program.py"))

COOKED = {"icanon", "echo", "isig", "ixon", "icrnl"}
RAW = {"-" + mode for mode in COOKED}


@pytest.fixture
def terminal():
    """Starts a shell command that runs the program, on a terminal."""
    made = []

    def start(way, *options, after="stty -a; echo done"):
        command = f'"{sys.executable}" "{PROGRAM}" {way} {" ".join(options)}; echo "status $?"; {after}'
        child = pexpect.spawn("/bin/sh", ["-c", command], timeout=30, dimensions=(30, 100))
        made.append(child)
        child.expect_exact(f"ready {way} [0, 0, 0]")
        return child

    yield start
    for child in made:
        child.close(force=True)


def stty(child, *arguments):
    """Run stty on the child's terminal; the words that it says."""
    done = subprocess.run(["stty", *arguments], stdin=child.child_fd, capture_output=True, text=True, check=True)
    return set(re.findall(r"-?\w+", done.stdout))


def python_of(child):
    """The program's process, which the shell has started."""
    return int(Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()[0])


def ended_with_the_terminal_restored(child, status):
    child.expect_exact(f"status {status}")
    child.expect("speed(.*)done")
    return set(re.findall(r"-?\w+", child.match[1].decode())) >= COOKED


def test_terminal_is_raw_while_it_runs_and_ctrl_a_x_ends_it(terminal):
    child = terminal("echo")
    assert stty(child, "-a") >= RAW
    child.send("a")
    child.expect_exact("b'a'")
    child.send("\x03\x1a\r")  # Ctrl-C, Ctrl-Z and Enter are the guest's
    child.expect_exact("b'\\x03\\x1a\\r'")
    child.send("\x01x")
    child.expect_exact("ended: Ctrl-A x on chardev 'term'")
    assert ended_with_the_terminal_restored(child, 0)


def test_ctrl_a_keys_help_break_monitor_and_itself(terminal):
    child = terminal("echo")
    child.send("\x01h")
    child.expect_exact("end the machine")
    child.send("\x01b")
    child.expect_exact("event break")
    child.send("\x01c")
    child.expect_exact("no monitor here")
    child.send("\x01\x01")
    child.expect_exact("b'\\x01'")
    child.send("quit")
    assert ended_with_the_terminal_restored(child, 0)


def test_ctrl_a_x_works_when_the_guest_takes_no_input(terminal):
    child = terminal("deaf")
    for _ in range(20):
        child.send("x" * 500)
    child.send("\x01x")
    child.expect_exact("ended: Ctrl-A x")
    assert ended_with_the_terminal_restored(child, 0)


def test_terminal_is_restored_after_sigterm(terminal):
    child = terminal("echo", after="stty -a; echo done")
    os.kill(python_of(child), signal.SIGTERM)
    child.expect_exact("ended: SIGTERM")
    assert ended_with_the_terminal_restored(child, 0)


def test_terminal_is_restored_after_an_exception(terminal):
    child = terminal("raise")
    child.send("x")
    child.expect_exact("RuntimeError: for the test")
    assert ended_with_the_terminal_restored(child, 1)


def test_terminal_is_restored_where_nobody_closes(terminal):
    assert ended_with_the_terminal_restored(terminal("exit"), 4)


def test_terminal_is_raw_again_after_a_stop(terminal):
    child = terminal("echo")
    stty(child, "icanon", "echo")
    assert "icanon" in stty(child, "-a")
    os.kill(python_of(child), signal.SIGCONT)
    child.send("x\r")
    child.expect_exact("b'x")
    assert stty(child, "-a") >= RAW
    child.send("\x01x")
    assert ended_with_the_terminal_restored(child, 0)


def test_size_of_the_terminal_is_known_and_its_change_told(terminal):
    child = terminal("echo")
    child.setwinsize(40, 132)
    child.expect_exact("event resized (132, 40)")
    child.send("\x01x")
    assert ended_with_the_terminal_restored(child, 0)


def test_signals_of_the_terminal_are_ours_where_wanted(terminal):
    child = terminal("echo", "signal=on")
    assert "isig" in stty(child, "-a")
    child.send("\x01x")
    assert ended_with_the_terminal_restored(child, 0)


def test_ctrl_a_goes_to_the_guest_with_mux_off(terminal):
    child = terminal("echo", "mux=off")
    child.send("\x01x")
    child.expect_exact("b'\\x01x'")
    child.send("quit")
    assert ended_with_the_terminal_restored(child, 0)


# -- not a terminal


def run(way, *options, **how):
    return subprocess.run(
        [sys.executable, PROGRAM, way, *options],
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
        **{"stdout": subprocess.PIPE} | how,
    )


def test_pipe_that_ends_closes_input_only():
    program = subprocess.Popen(
        [sys.executable, PROGRAM, "echo"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert program.stdout.readline() == b"event opened None\r\n"
    assert program.stdout.readline() == b"ready echo [0, 0, 0]\r\n"
    program.stdin.write(b"\x01x is data in a pipe")
    program.stdin.close()
    assert program.stdout.readline() == b"b'\\x01x is data in a pipe'\r\n"
    program.send_signal(signal.SIGTERM)
    assert program.wait(30) == 0
    assert program.stderr.read() == b"ended: SIGTERM\n"
    program.stdout.close()
    program.stderr.close()


def test_pipe_with_mux_on_takes_commands():
    done = run("echo", "mux=on", input=b"\x01x")
    assert (done.returncode, done.stderr) == (0, b"ended: Ctrl-A x on chardev 'term'\n")


def test_slow_reader_gets_everything():
    program = subprocess.Popen(
        [sys.executable, PROGRAM, "flood"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert program.stderr.readline() == b"output waits\n"
    got = program.stdout.read()
    program.stdout.close()
    program.stderr.close()
    assert program.wait(30) == 0
    assert got.endswith(b"0123456789abcdef" * 65536)


def test_output_to_a_socket():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        program = subprocess.Popen(
            [sys.executable, PROGRAM, "flood"], stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE
        )
        theirs.close()
        assert program.stderr.readline() == b"output waits\n"
        got = b""
        while chunk := ours.recv(1 << 16):
            got += chunk
        program.stderr.close()
        assert program.wait(30) == 0
        assert got.endswith(b"0123456789abcdef" * 65536)


def test_output_to_a_file_goes_after_what_is_there(tmp_path):
    (tmp_path / "in").write_bytes(b"from a file: quit")
    with open(tmp_path / "out", "wb") as out, open(tmp_path / "in", "rb") as source:
        out.write(b"before\n")
        out.flush()
        assert run("echo", stdin=source, stdout=out).returncode == 0
    assert (tmp_path / "out").read_bytes().startswith(b"before\nevent opened None\r\nready")
    assert (tmp_path / "out").read_bytes().endswith(b"b'from a file: quit'\r\n")


# -- in this process


@contextmanager
def pipes():
    """Pipes in place of our standard input and output: (write end of input, read end of output)."""
    saved = os.dup(0), os.dup(1)
    (source, typed), (printed, sink) = os.pipe(), os.pipe()
    os.dup2(source, 0)
    os.dup2(sink, 1)
    os.close(source)
    os.close(sink)
    try:
        yield typed, printed
    finally:
        for fd, number in zip(saved, (0, 1), strict=True):
            os.dup2(fd, number)
            os.close(fd)
        os.close(typed)
        os.close(printed)


def test_second_stdio_is_refused(host):
    with pipes():
        host.open(StdioChardev, "first")
        with pytest.raises(BackendError, match="chardev 'second': standard input and output are in use by chardev 'first'"):
            host.open(StdioChardev, "second")
        host.close_chardevs()


def test_standard_output_that_is_closed_is_an_error(host, monkeypatch):
    def closed(fd):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr("qdevpy.backend.chardev_stdio.os.fstat", closed)
    with pytest.raises(BackendError, match="standard input or output: Bad file descriptor"):
        host.open(StdioChardev)
    monkeypatch.undo()


def test_input_is_bounded_by_the_devices_room(host, plug):
    with pipes() as (typed, _):
        user = plug(host.open(StdioChardev), credit=3)
        os.write(typed, b"abcdef")
        host.until(lambda: user.received == b"abc")
        host.idle()
        user.credit = 10
        user.chardev.resume()
        host.until(lambda: user.received == b"abcdef")
        host.close_chardevs()


def test_typed_ahead_waits_and_what_is_too_much_is_lost(host, plug):
    with pipes() as (typed, _):
        chardev = host.open(StdioChardev, mux="on")
        user = plug(chardev, credit=0)
        for _ in range(3):
            os.write(typed, b"y" * 2000)
            host.idle()
        user.credit = 5000
        chardev.resume()
        assert user.received == b"y" * 4096
        host.close_chardevs()


def test_output_without_a_description_of_our_own_goes_in_small_pieces(host, plug, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "not yours")

    with pipes() as (_, printed):
        with monkeypatch.context() as patch:
            patch.setattr("qdevpy.backend.chardev_stdio.os.open", refuse)
            user = plug(host.open(StdioChardev))
        sent = bytes(range(250)) * 1000
        user.send(sent)
        os.set_blocking(printed, False)
        got = b""
        while len(got) < len(sent):
            host.loop.run_once(0)
            try:
                got += os.read(printed, 8192)
            except BlockingIOError:
                continue
        host.close_chardevs()
    assert got == sent
