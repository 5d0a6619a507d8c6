# SPDX-License-Identifier: Apache-2.0
"""QEMU's other qtest programs, as far as they test what we have."""

import re

import pytest
from qemu_programs import NOT_RUN, PROGRAMS


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_passes(run_program, name):
    left_out = [word for test in PROGRAMS[name] for word in ("-s", test)]
    output = run_program(name, *left_out, timeout=600)
    results = re.findall(r"^(not ok|ok) \d+ (\S+)", output, re.MULTILINE)
    assert results, output
    assert [test for result, test in results if result != "ok"] == []


@pytest.mark.parametrize("name", [name for name, left_out in PROGRAMS.items() if left_out])
def test_program_has_the_tests_that_are_left_out(run_program, name):
    offered = run_program(name, "-l").splitlines()
    assert [test for test in PROGRAMS[name] if test not in offered] == []


def test_programs_are_run_or_left_out_for_a_reason():
    assert not set(PROGRAMS) & set(NOT_RUN)
    assert all(NOT_RUN.values())
