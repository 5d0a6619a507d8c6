# SPDX-License-Identifier: Apache-2.0
"""Commands and files through a console with a shell at its other end: here the host's, with and without a terminal's echo."""

import os
import pty
import socket
import subprocess
import threading

import pytest

from qdevpy.testing.shell import PIECE, GuestShell
from qdevpy.testing.transcript import Console, Transcript


@pytest.fixture(params=["port", "terminal"])
def console(request, tmp_path):
    """A console with /bin/sh behind it, as on a serial port, or interactive on a terminal that echoes."""
    ours, theirs = socket.socketpair()
    if request.param == "port":
        shell = subprocess.Popen(["/bin/sh"], stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path)
        relays = []
    else:
        master, slave = pty.openpty()
        shell = subprocess.Popen(["/bin/sh", "-i"], stdin=slave, stdout=slave, stderr=slave, cwd=tmp_path, start_new_session=True)
        os.close(slave)
        relays = [threading.Thread(target=relay, args=ends) for ends in ((master, theirs.fileno()), (theirs.fileno(), master))]
        for thread in relays:
            thread.start()
    console = Console("console of a guest", ours, 30)
    yield console
    shell.kill()
    shell.wait()
    theirs.shutdown(socket.SHUT_RDWR)
    for thread in relays:
        thread.join(30)
    if relays:
        os.close(master)
    theirs.close()
    console.join(30)
    console.hang_up()


def relay(source, target):
    """Copy until either end is gone."""
    try:
        while data := os.read(source, 4096):
            os.write(target, data)
    except OSError:
        return


def test_run_gives_status_and_output_of_each_command(console):
    shell = GuestShell(console)
    assert shell.run("echo one; echo two >&2; exit 3") == (3, "one\ntwo\n")
    assert shell.run("printf 'no line end'") == (0, "no line end")
    assert shell.run("cat") == (0, "")
    assert shell.run('for n in 1 2\ndo\n  echo "it\'s $n"\ndone') == (0, "it's 1\nit's 2\n")


def test_shell_survives_a_command_that_is_no_command(console):
    shell = GuestShell(console)
    assert shell.run("echo 'unfinished").status != 0
    assert shell.run("cd / && X=1") == (0, "")
    assert shell.run('echo "$X"; pwd')[1] != "1\n/\n"


def test_check_that_fails_shows_command_status_and_output(console):
    with pytest.raises(AssertionError, match=r"in the guest: echo why; exit 7: status 7\nwhy"):
        GuestShell(console).check("echo why; exit 7")


def test_files_go_in_and_out_unchanged(console, tmp_path):
    shell = GuestShell(console)
    data = bytes(range(256)) * (PIECE // 256 + 1)  # one piece, and a little
    shell.write_file("a file", data, 0o755)
    assert (tmp_path / "a file").read_bytes() == data
    assert (tmp_path / "a file").stat().st_mode & 0o777 == 0o755
    assert shell.read_file("a file") == data
    with pytest.raises(AssertionError, match="in the guest: base64 nothing: status 1"):
        shell.read_file("nothing")


def test_expect_after_the_end_says_so_and_shows_what_came(tmp_path):
    source, end = os.pipe()
    os.write(end, b"one\r\ntwo \xff\n")
    os.close(end)
    log = Transcript("log", source, 30)
    assert log.expect("^one$")
    with pytest.raises(AssertionError, match="log: expected 'one': the log ended; since the last match it said:\n\ntwo \ufffd\n"):
        log.expect("one")
    log.join(30)


def test_expect_without_what_is_expected_times_out():
    source, end = os.pipe()
    log = Transcript("log", source, 30)
    with pytest.raises(AssertionError, match=r"log: expected 'x': not within 0\.01 s"):
        log.expect("x", 0.01)
    os.close(end)
    log.join(30)


def test_line_end_that_comes_in_two_pieces_is_one():
    source, end = os.pipe()
    log = Transcript("log", source, 30)
    os.write(end, b"one\r")
    log.expect("one")
    os.write(end, b"\ntwo\rthree")
    log.expect("three")
    assert log.text == "one\ntwo\rthree"
    os.close(end)
    log.join(30)
