# SPDX-License-Identifier: Apache-2.0
"""Guests that are written in Python drive devices under KVM, and say what is not as they expect it."""

import pytest

from qdevpy.testing.guest import LAST_STEP, GuestProgram, run_guest

pytestmark = [pytest.mark.kvm, pytest.mark.needs_host("kvm")]

MACHINE = """
machine: pc
memory: 16M
devices:
  - isa-debug-exit: {iobase: 0x501}
  - virtio-net-pci: {netdev: lan, mac: "52:54:00:12:34:56", addr: 4}
netdevs:
  lan: {type: null}
"""
MAC = bytes.fromhex("525400123456")


@pytest.fixture
def machine(tmp_path):
    path = tmp_path / "machine.yaml"
    path.write_text(MACHINE)
    return path


def test_program_reads_a_device_and_powers_off(run_program):
    program = GuestProgram()
    bar = program.place_bar(4, 4, wide=True)
    program.expect_bytes(bar + 0x2000, MAC)
    program.wait_for(bar + 0x2000, 0x52, 1)
    program.expect(bar + 0x2000, 0x50, 1, mask=0xF0)
    run_program(MACHINE, program)
    assert len(program.steps) == 4


def test_program_that_finds_something_else_names_the_check(machine):
    program = GuestProgram()
    room = program.room(4)
    program.store(room, 0x12345678)
    program.expect(room, 0x12345678)
    program.expect(room, 0x5678, 2)
    program.expect(room + 1, 0x57, 1)
    with pytest.raises(AssertionError, match=rf"guest: check 3 of 3: at {room + 1:#x}, 1 bytes: not 0x57"):
        run_guest(machine, program)


def test_machine_that_cannot_be_built_is_told_with_its_message(machine):
    with pytest.raises(AssertionError, match=r"the machine ended with status 1(.|\n)*no-such-device"):
        run_guest(machine, GuestProgram(), options=["--set=devices.x=no-such-device"])


def test_program_with_more_checks_than_statuses_is_refused():
    program = GuestProgram()
    for _ in range(LAST_STEP):
        program.expect(0x1000, 0)
    with pytest.raises(ValueError, match="126 things at most"):
        program.expect(0x1000, 0)
