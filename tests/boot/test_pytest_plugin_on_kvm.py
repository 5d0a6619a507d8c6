# SPDX-License-Identifier: Apache-2.0
"""The pytest plugin's machines: booted, watched, shown where a test fails, and gone after it."""

import os
import signal
import time

import pytest

pytestmark = [pytest.mark.kvm, pytest.mark.needs_host("kvm")]

CONFTEST = '''
import pytest
from qdevpy.testing.guest import GuestProgram

MACHINE = """
machine: pc
memory: 16M
chardevs: {term: {type: stdio}}
devices:
  - isa-debug-exit: {iobase: 0x501}
  - isa-serial: {chardev: term}
"""

@pytest.fixture
def waiting(boot_machine, tmp_path):
    """A machine whose guest says hello and then waits for ever; its process id is left in a file."""
    program = GuestProgram()
    program.say("hello from the guest\\n")
    program.wait_for(0x200000, 1)
    program.save(tmp_path / "guest.elf")
    machine = boot_machine(MACHINE, boot={"kernel": tmp_path / "guest.elf"}, qmp=True)
    machine.expect("^hello from the guest$")
    with open("pids", "a") as pids:
        print(machine.pid, file=pids)
    return machine
'''


@pytest.fixture
def run_inner(pytester):
    """Run a file of tests that have CONFTEST's fixtures; the result."""

    def run(tests, *options):
        pytester.makeconftest(CONFTEST)
        pytester.makepyfile(tests)
        return pytester.runpytest_subprocess("-rs", *options)

    return run


def machines_are_gone(pytester):
    """Whether none of the processes that ``waiting`` has noted is left."""
    pids = [int(line) for line in (pytester.path / "pids").read_text().split()]
    assert pids
    return not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_program_that_passes_leaves_what_it_said(run_inner):
    run_inner(
        """
        from conftest import MACHINE, GuestProgram

        def test_it(run_program):
            program = GuestProgram()
            program.say("one\\r\\ntwo\\n")
            machine = run_program(MACHINE, program, memory="32M")
            machine.expect("^one\\ntwo$")
            assert not machine.is_running
        """
    ).assert_outcomes(passed=1)


def test_program_that_finds_something_else_names_the_check_and_has_console_and_log_in_its_report(run_inner):
    result = run_inner(
        """
        from conftest import MACHINE, GuestProgram

        def test_it(run_program):
            program = GuestProgram()
            program.say("looking\\n")
            program.expect(0x200000, 5)
            run_program(MACHINE, program)
        """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E * AssertionError: guest: check 1 of 1: at 0x200000, 4 bytes: not 0x5",
            "*- console of machine -*",
            "looking",
            "*- log of machine -*",
            "*isa-debug-exit: the guest wrote 0x1, status 3",
        ]
    )


def test_machine_is_closed_after_a_failure_and_shown_in_the_report(run_inner, pytester):
    result = run_inner(
        """
        def test_it(waiting):
            assert waiting.qmp.execute("query-status")["status"] == "running"
            raise KeyError("something unexpected")

        def test_pattern_that_does_not_come(waiting):
            waiting.expect("good bye", timeout=0.1)
        """
    )
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*- console of machine -*", "hello from the guest", "*- log of machine -*"])
    result.stdout.fnmatch_lines(["E *AssertionError: console of machine: expected 'good bye': not within 0.1 s*"])
    assert machines_are_gone(pytester)


@pytest.mark.parametrize("method", ["signal", "thread"])
def test_machine_is_gone_after_a_time_out(run_inner, pytester, method):
    run_inner(
        """
        def test_it(waiting):
            waiting.wait(60)
        """,
        "--timeout=3",
        f"--timeout-method={method}",
    )
    deadline = time.monotonic() + 30
    while not machines_are_gone(pytester):  # where the run leaves by os._exit the kernel ends the machine, soon
        assert time.monotonic() < deadline
        os.sched_yield()


def test_machine_is_closed_after_ctrl_c(run_inner, pytester):
    result = run_inner(
        f"""
        import os, signal

        def test_it(waiting):
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
            os.kill(os.getpid(), {int(signal.SIGINT)})
            waiting.wait(60)
        """
    )
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert machines_are_gone(pytester)


def test_machine_that_cannot_be_built_fails_with_its_message(run_inner):
    result = run_inner(
        """
        def test_it(boot_machine):
            boot_machine({"devices": ["no-such-device"]}, qmp=True)
        """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *machine ended with status 1, and did not connect chardev*", "E *no-such-device*"])


def test_workers_of_xdist_boot_machines_side_by_side(run_inner, pytester):
    result = run_inner(
        """
        import pytest

        @pytest.mark.parametrize("number", range(4))
        def test_it(waiting, number):
            assert waiting.qmp.execute("query-status")["running"]
            assert number != 3
        """,
        "-n2",
    )
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*- console of machine -*", "hello from the guest"])
    assert machines_are_gone(pytester)


def test_faults_are_keys_of_the_definition_like_any_other(boot_machine):
    rule = {"disk0": {"what": "io-error", "requests": "read", "nth": 1}}
    machine = boot_machine("demo", faults={"inject": [rule]})
    assert machine.wait() == 3
    machine.expect("FAILED: disk 0: read back")
