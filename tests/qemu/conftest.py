# SPDX-License-Identifier: Apache-2.0
"""QEMU's programs, and ours under a name that they accept."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from qemu_programs import PROGRAMS
from qemu_source import SourceError, built_programs


@pytest.fixture(scope="session")
def programs():
    """The folder with QEMU's test programs; built where they are not there yet."""
    try:
        return built_programs(["qos-test", *PROGRAMS])
    except SourceError as error:
        print(f"tests/qemu: not run: {error}", file=sys.__stderr__)
        pytest.skip(str(error))


@pytest.fixture
def run_program(programs, tmp_path):
    """Run one of QEMU's programs against us; its output. Fails the test where it fails."""
    ours = tmp_path / "qdevpy-system-x86_64"  # they take the architecture from the name
    ours.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m qdevpy.cli.qemu "$@"\n')
    ours.chmod(0o755)

    def run(name: str, *arguments: str, timeout: float = 120) -> str:
        # a short folder: paths of UNIX sockets have at most 107 bytes
        environment = os.environ | {"QTEST_QEMU_BINARY": str(ours), "TMPDIR": "/tmp", "PYTHONDONTWRITEBYTECODE": "1"}
        process = subprocess.Popen(
            [programs / name, *arguments],
            cwd=Path(__file__).parent.parent.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)  # the machine that it started as well
            output, _ = process.communicate()
            pytest.fail(f"{name}: not done within {timeout} s\n{output[-4000:]}")
        assert process.returncode == 0, f"{name} {' '.join(arguments)}: {process.returncode}\n{output[-4000:]}"
        return output

    return run
