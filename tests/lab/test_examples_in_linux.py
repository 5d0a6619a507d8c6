# SPDX-License-Identifier: Apache-2.0
"""Debian's stock kernel and the devices of ``examples/``, installed as their users install them."""

import json
import subprocess
import sys
from pathlib import Path

import lab_examples
import lab_linux
import pytest
from conftest import SECONDS_IN_LAB

from qdevpy.testing.initramfs import File, initramfs
from qdevpy.testing.kernel import GUEST_MODULES

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
STEPS = ("registers", "interrupts", "dma", "message", "delivered", "hwrng")


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
    """The user-space driver, linked statically."""
    program = tmp_path / "edu_guest"
    subprocess.run(["cc", "-static", "-O1", "-Wall", "-Wextra", "-o", program, HERE / "edu_guest.c"], check=True)
    return program.read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_stock_kernel_drives_edu_and_reads_random_numbers(
    tmp_path, stock_kernel, run_where_kvm_is_complete, installed_examples, guest_program
):
    files = {
        "init": File(lab_examples.INIT.encode(), 0o755),
        "bin/busybox": File(lab_linux.BUSYBOX.read_bytes(), 0o755),
        "bin/edu_guest": File(guest_program, 0o755),
    }
    modules = stock_kernel.modules((*GUEST_MODULES, "uio_pci_generic", "virtio_rng"))
    initrd = tmp_path / "initrd.gz"
    initrd.write_bytes(initramfs(files | modules))
    wanted = {"kernel": str(stock_kernel.image), "initrd": str(initrd), "timeout": SECONDS_IN_LAB}
    (tmp_path / "examples.json").write_text(json.dumps(wanted))

    status, output = run_where_kvm_is_complete([sys.executable, str(HERE / "lab_examples.py"), "{out}"])

    assert status == 0, output
    result = json.loads((tmp_path / "result.json").read_text())
    console = (tmp_path / "console").read_text(errors="replace").replace("\r", "")
    assert result["failure"] is None, f"{result['failure']}\n{console}"
    assert result["status"] == 0, console
    for step in STEPS:
        assert f"hot: ok {step}" in console, console
    assert "hot: rng virtio_rng.0" in console
