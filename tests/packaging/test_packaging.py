# SPDX-License-Identifier: Apache-2.0
"""What is shipped: every package is listed, the wheel holds everything and works away from the source tree."""

import subprocess
import tomllib
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_packages_in_the_tree_are_all_listed_in_pyproject():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    listed = set(setuptools["packages"])
    found = set()
    for top, folder in setuptools["package-dir"].items():
        for init in (ROOT / folder).rglob("__init__.py"):
            found.add(".".join([top, *init.parent.relative_to(ROOT / folder).parts]))
    assert found == listed


def test_wheel_holds_c_modules_guest_and_definitions(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in (
        "qdevpy/native/_core.abi3.so|qdevpy/native/_core.cpython",
        "qdevpy_virtio_blk/_native.",
        "qdevpy_virtio_net/_native.",
        "qdevpy_machine/guest/demo.elf",
        "qdevpy_machine/definitions/demo.yaml",
        "qdevpy/native/include/qd_queue.h",
        "qdevpy/py.typed",
        "qdevpy/scaffold/templates/any/.github/workflows/check.yml.in",
        "qdevpy/scaffold/templates/any/.gitignore.in",
        "qdevpy/scaffold/templates/any/@package@/py.typed.in",
        "qdevpy/scaffold/templates/native/csrc/handler.c.in",
    ):
        assert any(name.startswith(tuple(wanted.split("|"))) for name in names), wanted


def test_wheel_installed_elsewhere_checks_and_lists_its_devices(wheel, tmp_path):
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env/bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", str(wheel)], check=True)
    run = [str(tmp_path / "env/bin/qdevpy")]
    listed = subprocess.run([*run, "devices"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    for device in ("virtio-blk-pci", "virtio-net-pci", "virtio-serial-pci", "virtconsole", "isa-serial"):
        assert device in listed
    subprocess.run([*run, "tree", "demo"], cwd=tmp_path, check=True, capture_output=True)
