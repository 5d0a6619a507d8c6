# SPDX-License-Identifier: Apache-2.0
"""-nographic: the serial port and the monitor share the terminal."""

from __future__ import annotations

import sys

import pexpect
import pytest


@pytest.fixture
def terminal() -> pexpect.spawn:
    child = pexpect.spawn(sys.executable, ["-m", "qdevpy.cli.qemu", "-accel", "none", "-nographic"], timeout=30)
    yield child
    child.close(force=True)


def test_ctrl_a_c_goes_to_the_monitor_and_back(terminal: pexpect.spawn) -> None:
    terminal.expect_exact("accel none")  # everything is open
    terminal.send("\x01c")
    terminal.expect_exact("(qemu) ")
    terminal.send("info chardev\r")
    terminal.expect_exact("serial0")
    terminal.expect_exact("(qemu) ")
    terminal.send("\x01c")
    terminal.send("lost\r")
    terminal.send("\x01h")
    terminal.expect_exact("Ctrl-A c")
    terminal.send("\x01c")
    terminal.send("quit\r")
    terminal.expect(pexpect.EOF)
    terminal.wait()

    assert terminal.exitstatus == 0


def test_ctrl_a_x_ends_it(terminal: pexpect.spawn) -> None:
    terminal.expect_exact("accel none")
    terminal.send("\x01x")
    terminal.expect(pexpect.EOF)
    terminal.wait()

    assert terminal.exitstatus == 0
