# SPDX-License-Identifier: Apache-2.0
"""ARCHITECTURE.md's arrows, held against the imports; and the house rules that a program can check."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SOURCES = sorted(
    path
    for top in ("qdevpy", "plugins", "machine", "tests")
    for path in (ROOT / top).rglob("*")
    if path.suffix in (".py", ".c", ".h", ".S") and "build" not in path.parts and path.name not in ("_core.c", "_native.c")
)
PYTHON = [path for path in SOURCES if path.suffix == ".py"]

#: package below qdevpy -> packages that it must never import
FORBIDDEN = {
    "native": {"qdev", "vm", "cli", "plugin", "definition", "virtio", "pci", "backend"},
    "qdev": {"cli", "plugin", "definition", "virtio", "pci", "backend", "native", "accel"},
    "pci": {"cli", "plugin", "definition", "virtio", "backend"},
    "virtio": {"cli", "plugin", "definition", "backend"},
    "backend": {"cli", "plugin", "definition", "virtio", "pci", "accel"},
    "accel": {"cli", "plugin", "definition", "virtio", "pci", "backend", "qdev", "vm"},
    "definition": {"cli", "vm", "native", "accel"},
    "vhost": {"cli", "plugin", "definition", "pci", "accel", "monitor"},
    "vm": {"cli"},
}

#: the clock is made by the accelerator that moves it, and imports nothing of ours; qtest's server is a monitor of sorts,
#: which finds devices by their QOM paths and talks over a chardev
EXCEPTED = {"accel": {"qdevpy.vm.clock", "qdevpy.qdev", "qdevpy.qdev.device", "qdevpy.backend.chardev"}}


def imports(path):
    """Modules that a file imports when it runs; what stands under TYPE_CHECKING does not count."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_framework_imports_no_plugin_and_no_board():
    wrong = [(str(p), m) for p in PYTHON if ROOT / "qdevpy" in p.parents for m in imports(p) if m.startswith("qdevpy_")]
    assert wrong == []


@pytest.mark.parametrize("package", FORBIDDEN)
def test_package_imports_nothing_above_it(package):
    wrong = []
    for path in (ROOT / "qdevpy" / package).rglob("*.py"):
        for module in imports(path):
            parts = module.split(".")
            if module in EXCEPTED.get(package, ()):
                continue
            if parts[0] == "qdevpy" and len(parts) > 1 and parts[1] in FORBIDDEN[package]:
                wrong.append((path.name, module))
    assert wrong == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_file_has_a_licence_line_and_fewer_than_600_lines(path):
    lines = path.read_text().splitlines()
    assert len(lines) < 600
    assert not lines or any("SPDX-License-Identifier: Apache-2.0" in line for line in lines[:3])


def test_no_star_imports():
    assert [
        str(p) for p in PYTHON if "import *" in "\n".join(x for x in p.read_text().splitlines() if x.startswith("from"))
    ] == []
