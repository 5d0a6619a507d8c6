# SPDX-License-Identifier: Apache-2.0
"""``qdevpy new-plugin``: names, what is refused, and what is written. What comes of it is seen in tests/packaging."""

import subprocess
import sys

import pytest

from qdevpy.cli.app import run
from qdevpy.scaffold.package import LONGEST, Names, render
from qdevpy.scaffold.package import write as write_files


def write(tmp_path, *words):
    return run(["new-plugin", "--directory", str(tmp_path / "made"), *words])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("MyLamp", "'mylamp' would do"),
        ("my_lamp", "'my-lamp' would do"),
        ("3d-lamp", "'d-lamp' would do"),
        ("lamp--x", "'lamp-x' would do"),
        ("-", "'my-device' would do"),
        ("l" * 33, "at most 32 lower-case letters"),
        ("qdevpy-lamp", "leave 'qdevpy-' out"),
        ("virtio-lamp", "leave 'virtio-' out"),
        ("net", "there is a device type 'virtio-net-pci' already, of qdevpy; choose another name"),
    ],
)
def test_name_that_cannot_be_is_refused_with_one_that_can(tmp_path, capsys, name, message):
    assert write(tmp_path, "--kind", "virtio", "--", name) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


def test_unknown_kind_is_wrong_usage_and_names_the_kinds(tmp_path, capsys):
    assert write(tmp_path, "lamp", "--kind", "isa") == 2
    assert "'pci', 'virtio'" in capsys.readouterr().err


def test_native_needs_a_queue(tmp_path, capsys):
    assert write(tmp_path, "lamp", "--kind", "pci", "--native") == 1
    assert "C serves virtqueues, and a device of kind pci has none; use --kind virtio" in capsys.readouterr().err


def test_nothing_is_overwritten(tmp_path, capsys):
    (tmp_path / "made").mkdir()
    assert write(tmp_path, "lamp", "--kind", "pci") == 0, "an empty folder is as good as none"
    mine = tmp_path / "made/README.md"
    mine.write_text("mine")
    assert write(tmp_path, "lamp", "--kind", "pci") == 1
    assert "exists already, and nothing is overwritten; remove it, or choose another --directory" in capsys.readouterr().err
    assert mine.read_text() == "mine"


def test_folder_that_cannot_be_made_is_named(tmp_path, capsys):
    (tmp_path / "made").write_text("a file")
    assert run(["new-plugin", "lamp", "--kind", "pci", "--directory", str(tmp_path / "made/below")]) == 1
    assert "made/below" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "native"), [("pci", False), ("virtio", False), ("virtio", True)])
def test_files_are_complete_and_no_word_is_left_open(kind, native):
    files = render(Names.of("long-name", kind), native=native)
    assert {"pyproject.toml", "README.md", "machine.yaml", "guest.py", ".gitignore", ".github/workflows/check.yml"} <= set(files)
    assert {"qdevpy_long_name/device.py", "qdevpy_long_name/plugin.py", "qdevpy_long_name/py.typed"} <= set(files)
    assert ("csrc/handler.c" in files) == native
    assert "class LongName(" in files["qdevpy_long_name/device.py"]
    for path, text in files.items():
        assert "@package" not in text + path
        if path.endswith(".py"):
            compile(text, path, "exec")


@pytest.mark.parametrize("name", ["a", "l" * LONGEST, "-".join("l" * (LONGEST // 2))])
@pytest.mark.parametrize(("kind", "native"), [("pci", False), ("virtio", False), ("virtio", True)])
def test_files_are_tidy_whatever_the_length_of_the_name(tmp_path, kind, native, name):
    write_files(render(Names.of(name, kind), native=native), tmp_path)
    for words in (["check"], ["format", "--check"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
