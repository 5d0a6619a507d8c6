# SPDX-License-Identifier: Apache-2.0
"""Debian packages for the tests: what is missing is installed before the build, or named."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "debian.py"


@pytest.fixture
def debian(tmp_path):
    """Runs the script on a host of shell scripts that lacks MISSING and whose apt-get, and sudo, end with a status."""

    def program(name, text):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)

    def run(missing, status=0):
        program("dpkg-query", f'case "$*" in *{missing}) exit 1;; esac; printf installed')
        program("apt-get", f'echo "$@" >>{tmp_path}/calls; exit {status}')
        program("sudo", 'shift; exec "$@"')
        (tmp_path / "stamp").touch()
        command = [sys.executable, str(SCRIPT), "--outdates", str(tmp_path / "stamp")]
        return subprocess.run(command, env={"PATH": f"{tmp_path}:/bin"}, capture_output=True, text=True, check=True).stdout

    return run


def test_missing_package_is_installed_and_outdates_the_build(debian, tmp_path):
    debian("liburing-dev")

    assert "install -q -y --no-install-recommends liburing-dev\n" in (tmp_path / "calls").read_text()
    assert not (tmp_path / "stamp").exists()


def test_package_that_cannot_be_installed_is_named_with_its_purpose(debian, tmp_path):
    assert "  liburing-dev: aio=io_uring\n" in debian("liburing-dev", status=100)
    assert (tmp_path / "stamp").exists()


def test_nothing_missing_leaves_the_build_alone(debian, tmp_path):
    assert debian("nothing-like-it") == ""
    assert not (tmp_path / "calls").exists()
    assert (tmp_path / "stamp").exists()
