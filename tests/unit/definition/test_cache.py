# SPDX-License-Identifier: Apache-2.0
"""Kept definitions are what parsing would give, or nothing at all."""

from __future__ import annotations

import marshal
import os
import sys
from pathlib import Path

import pytest

from qdevpy.definition import cache
from qdevpy.definition.cache import parse_cached
from qdevpy.definition.nodes import Node
from qdevpy.definition.problems import Problems
from qdevpy.definition.syntax import parse_yaml

TEXT = "machine: pc\nboot: {kernel: ./k, cmdline: ''}\ndevices:\n- virtio-blk-pci: {id: d, serial: }\n- a\nempty: []\n"


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where definitions are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "qdevpy"


def read(text: str, file: str = "m.yaml") -> Node | None:
    problems = Problems()
    root = parse_cached(text, file, problems)
    assert not problems
    return root


def parsed(text: str, file: str = "m.yaml") -> Node | None:
    return parse_yaml(text, file, Problems())


def test_second_reading_gives_the_same_nodes_without_parsing(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = parsed(TEXT)
    assert read(TEXT) == expected
    monkeypatch.setattr("qdevpy.definition.syntax.parse_yaml", lambda *args: None)

    assert read(TEXT) == expected


def test_kept_nodes_name_the_file_as_it_is_called_now(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    read(TEXT, "m.yaml")

    assert read(TEXT, str(tmp_path / "m.yaml")) == parsed(TEXT, str(tmp_path / "m.yaml"))
    assert len(list(kept.iterdir())) == 1


def test_changed_text_is_parsed_and_replaces_what_was_kept(kept: Path) -> None:
    read(TEXT)

    assert read("cpus: 2\n") == parsed("cpus: 2\n")
    assert len(list(kept.iterdir())) == 1


def test_text_with_problems_is_not_kept(kept: Path) -> None:
    problems = Problems()
    parse_cached("a: 1\na: 2\n", "m.yaml", problems)

    assert problems
    assert not kept.exists()


def test_aliases_are_not_kept(kept: Path) -> None:
    assert read("a: &x {b: c}\nd: *x\n") == parsed("a: &x {b: c}\nd: *x\n")
    assert not kept.exists()


@pytest.mark.parametrize("junk", [b"", b"junk", marshal.dumps((1, 2)), marshal.dumps(3), marshal.dumps((0, TEXT, ("x",)))])
def test_junk_is_as_good_as_nothing(kept: Path, junk: bytes) -> None:
    read(TEXT)
    (file,) = kept.iterdir()
    file.write_bytes(junk)

    assert read(TEXT) == parsed(TEXT)
    assert file.read_bytes() != junk


def test_file_that_others_may_write_is_not_trusted(kept: Path) -> None:
    read(TEXT)
    (file,) = kept.iterdir()
    file.write_bytes(marshal.dumps((cache.FORMAT, TEXT, (1, 1, "forged", False))))
    file.chmod(0o666)

    assert read(TEXT) == parsed(TEXT)


def test_what_is_kept_is_for_its_owner_alone(kept: Path) -> None:
    read(TEXT)
    (file,) = kept.iterdir()

    assert (kept.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)


def test_place_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))

    assert read(TEXT) == parsed(TEXT)


def test_disk_that_is_full_leaves_nothing_behind(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)

    assert read(TEXT) == parsed(TEXT)
    assert list(kept.iterdir()) == []


def test_place_is_below_home_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")

    assert cache._place("m.yaml").startswith("/home/somebody/.cache/qdevpy/")
    assert cache._place("m.yaml").endswith(str(sys.implementation.cache_tag))
