# SPDX-License-Identifier: Apache-2.0
"""Tests that run with Debian's stock kernel where KVM is complete, by means of our own pytest plugin: those in ``inside/``."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
INSIDE = HERE / "inside"
EXAMPLES = HERE.parents[1] / "examples"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def run_inside(tmp_path, stock_kernel, run_where_kvm_is_complete):
    """Run a file of ``inside/`` in a folder with what is in ``tmp_path``; its tests must pass, and none be skipped."""

    def run(name):
        options = [
            "-c",
            INSIDE / "pytest.ini",
            "--confcutdir",
            INSIDE,
            "--basetemp",
            "inside",
            "--qdevpy-kernel",
            stock_kernel.image,
        ]
        command = " ".join(map(str, [sys.executable, "-m", "pytest", *options, INSIDE / f"inside_{name}.py"]))
        status, output = run_where_kvm_is_complete(["sh", "-c", f"cd {{out}} && {command}"])
        assert status == 0, output
        assert "skipped" not in output

    return run


@pytest.fixture
def installed_examples(tmp_path, monkeypatch):
    """Both, in a folder that Python looks into; built from copies, which keep the sources clean."""
    sources = [tmp_path / name for name in ("edu", "virtio_rng")]
    for source in sources:
        subprocess.run(["cp", "-r", EXAMPLES / source.name, source], check=True)
    target = tmp_path / "installed"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", target, *sources]
    subprocess.run(command, check=True)
    monkeypatch.setenv("PYTHONPATH", str(target))


@pytest.fixture
def guest_program(tmp_path):
    """The user-space driver of edu, linked statically."""
    program = tmp_path / "edu_guest"
    subprocess.run(["cc", "-static", "-O1", "-Wall", "-Wextra", "-o", program, HERE / "edu_guest.c"], check=True)


def test_stock_kernel_drives_edu_and_reads_random_numbers(run_inside, installed_examples, guest_program):
    run_inside("examples")


def test_stock_kernel_reads_smbios_and_hears_the_power_button(run_inside):
    run_inside("power")


def test_fixtures_of_the_pytest_plugin_boot_a_stock_kernel(run_inside):
    run_inside("fixtures")
