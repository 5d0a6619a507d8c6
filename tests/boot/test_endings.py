# SPDX-License-Identifier: Apache-2.0
"""How a machine ends: each way with its exit status and message, the terminal as before, and nothing left behind."""

import os
import pty
import signal
import subprocess
import sys
import termios

import pexpect
import pytest
from tiny_kernel import BAD_INSTRUCTION, HANG, POWER_OFF, TRIPLE_FAULT, count_boots_then, elf64_kernel, out8, out16, pvh_kernel

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.needs_host("kvm"),
]

DEFINITION = """
machine: pc
memory: 32M
boot: {kernel: ./kernel}
chardevs: {term: {type: stdio}}
devices:
  - isa-serial: {chardev: term}
  - isa-debug-exit: {iobase: 0x501}
"""

SAY_UP = out8(0x3F8, ord("u")) + out8(0x3F8, ord("p"))

#: ways in which guests reset a PC
RESETS = {
    "keyboard controller": out8(0x64, 0xFE) + HANG,
    "port 0xcf9": out8(0xCF9, 0x02) + out8(0xCF9, 0x06) + HANG,
    "port 0x92": out8(0x92, 0x01) + HANG,
    "triple fault": TRIPLE_FAULT + HANG,
}


@pytest.fixture
def machine(tmp_path):
    """Write a machine around CODE; the command that boots it. Afterwards no temporary file may be left."""
    scratch = tmp_path / "tmp"
    scratch.mkdir()

    def make(code, *options):
        (tmp_path / "kernel").write_bytes(pvh_kernel(code))
        (tmp_path / "machine.yaml").write_text(DEFINITION)
        return [sys.executable, "-m", "qdevpy", "boot", "-v", str(tmp_path / "machine.yaml"), *options]

    make.environment = os.environ | {"TMPDIR": str(scratch)}
    yield make
    assert list(scratch.iterdir()) == []


def run(machine, code, *options):
    return subprocess.run(
        machine(code, *options), env=machine.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )


def test_power_off_ends_with_status_0(machine):
    done = run(machine, SAY_UP + POWER_OFF)
    assert (done.returncode, done.stdout) == (0, "up")
    assert "powered off" in done.stderr


def test_debug_exit_ends_with_the_guests_status(machine):
    assert run(machine, out8(0x501, 21) + HANG).returncode == 43


@pytest.mark.parametrize("way", RESETS)
def test_reset_boots_again(machine, way):
    done = run(machine, SAY_UP + count_boots_then(3, POWER_OFF, RESETS[way]))
    assert (done.returncode, done.stdout) == (0, "upupup"), done.stderr


@pytest.mark.parametrize("way", RESETS)
def test_reset_with_no_reboot_ends_with_status_0(machine, way):
    done = run(machine, SAY_UP + RESETS[way], "--no-reboot")
    assert (done.returncode, done.stdout) == (0, "up"), done.stderr


def test_emulation_failure_ends_with_status_1_rip_and_bytes(machine):
    done = run(machine, BAD_INSTRUCTION + HANG)
    assert done.returncode == 1
    assert "RIP 0x100000" in done.stderr
    assert "d9 05 00 00 00 d0" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_ends_cleanly(machine, number):
    process = subprocess.Popen(
        machine(SAY_UP + HANG), env=machine.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.read(2) == b"up"
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert signal.Signals(number).name in errors.decode()


def test_ctrl_a_x_ends_and_the_terminal_is_as_before(machine):
    child = pexpect.spawn("/bin/sh", timeout=30, env=machine.environment, echo=False)
    child.sendline("PS1='ready> '")
    child.expect_exact("ready> ")
    before = termios.tcgetattr(child.child_fd)
    command = machine(SAY_UP + HANG)
    child.sendline(" ".join(command))
    child.expect_exact("up")
    assert termios.tcgetattr(child.child_fd) != before
    child.send("\x01x")
    child.expect_exact("ready> ")
    assert termios.tcgetattr(child.child_fd) == before
    child.sendline("echo status=$?")
    child.expect_exact("status=0")
    child.sendline("exit")
    child.expect(pexpect.EOF)
    child.close()


ENDINGS = {
    "power-off": (SAY_UP + POWER_OFF, (), None, 0),
    "reset": (SAY_UP + RESETS["port 0xcf9"], ("--no-reboot",), None, 0),
    "triple fault": (SAY_UP + RESETS["triple fault"], ("--no-reboot",), None, 0),
    "debug exit": (SAY_UP + out8(0x501, 1) + HANG, (), None, 3),
    "emulation failure": (SAY_UP + BAD_INSTRUCTION + HANG, (), None, 1),
    "SIGTERM": (SAY_UP + HANG, (), signal.SIGTERM, 0),
    "SIGHUP": (SAY_UP + HANG, (), signal.SIGHUP, 0),
}


def read_up_to(terminal, what):
    """Read from TERMINAL until WHAT has come."""
    got = b""
    while what not in got:
        got += os.read(terminal, 4096)


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_ending_leaves_the_terminal_as_it_was(machine, ending):
    code, options, number, status = ENDINGS[ending]
    ours, theirs = pty.openpty()
    try:
        before = termios.tcgetattr(theirs)
        process = subprocess.Popen(
            machine(code, *options), env=machine.environment, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL
        )
        read_up_to(ours, b"up")
        if number is not None:
            assert termios.tcgetattr(theirs) != before
            process.send_signal(number)
        assert process.wait(30) == status
        assert termios.tcgetattr(theirs) == before
    finally:
        os.close(ours)
        os.close(theirs)


def test_elf_kernel_without_a_note_is_entered_in_64_bit_mode(machine, tmp_path):
    command = machine(HANG)
    # movabs rax, '6': in 32-bit mode the same bytes are dec eax; mov eax, '6'; add [eax], al, twice
    letter = b"\x48\xb8" + bytes([ord("6")]) + bytes(7)
    (tmp_path / "kernel").write_bytes(elf64_kernel(letter + b"\x66\xba\xf8\x03\xee" + POWER_OFF))
    done = subprocess.run(command, env=machine.environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "6"), done.stderr


def test_closed_standard_input_is_no_input(machine):
    command = ["sh", "-c", 'exec "$@" <&-', "sh", *machine(SAY_UP + POWER_OFF)]
    done = subprocess.run(command, env=machine.environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "up"), done.stderr


def test_kernel_that_is_none_is_refused_by_name(machine, tmp_path):
    command = machine(POWER_OFF)
    (tmp_path / "kernel").write_bytes(b"#!/bin/sh\n" * 100)
    done = subprocess.run(command, env=machine.environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert str(tmp_path / "kernel") in done.stderr
    assert "Traceback" not in done.stderr


def test_word_write_to_power_off_with_another_type_does_nothing(machine):
    done = run(machine, out16(0x604, 0x2400) + SAY_UP + POWER_OFF)
    assert (done.returncode, done.stdout) == (0, "up")
