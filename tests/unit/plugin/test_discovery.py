# SPDX-License-Identifier: Apache-2.0
"""Finding entry points, as importlib.metadata would."""

from __future__ import annotations

import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from qdevpy.plugin.discovery import EntryPoint, find_entry_points

ENTRIES = """
[console_scripts]
tool = elsewhere:main

[qdevpy]
# a comment
lamp = lab_parts.plugin
buzzer = lab_parts.buzzer:plugin [extra]
"""


def distribution(folder: Path, name: str, entries: str, info: str = "dist-info", metadata_name: str = "METADATA") -> None:
    where = folder / f"{name.replace('-', '_')}-1.0.{info}"
    where.mkdir(parents=True)
    (where / "entry_points.txt").write_text(entries)
    (where / metadata_name).write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")


def test_entries_of_the_group_are_found_sorted(tmp_path: Path) -> None:
    distribution(tmp_path, "Lab-Parts", ENTRIES)

    assert find_entry_points([str(tmp_path)]) == [
        EntryPoint("buzzer", "lab_parts.buzzer:plugin", "Lab-Parts"),
        EntryPoint("lamp", "lab_parts.plugin", "Lab-Parts"),
    ]


def test_entries_are_those_of_importlib_metadata(tmp_path: Path) -> None:
    distribution(tmp_path, "Lab-Parts", ENTRIES)
    expected = {(p.name, p.value.partition(" ")[0]) for p in metadata.distributions(path=[str(tmp_path)]) for p in p.entry_points}

    found = {(p.name, p.value) for p in find_entry_points([str(tmp_path)])}

    assert found == {(n, v) for n, v in expected if n != "tool"}


def test_own_distribution_comes_first(tmp_path: Path) -> None:
    distribution(tmp_path, "aaa", "[qdevpy]\nx = x\n")
    distribution(tmp_path, "qdevpy", "[qdevpy]\npc = pc\n")

    assert [p.distribution for p in find_entry_points([str(tmp_path)])] == ["qdevpy", "aaa"]


def test_distribution_twice_on_the_path_counts_once(tmp_path: Path) -> None:
    distribution(tmp_path / "a", "lab-parts", "[qdevpy]\nnew = new\n")
    distribution(tmp_path / "b", "lab.parts", "[qdevpy]\nold = old\n")

    found = find_entry_points([str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "a"), str(tmp_path / "missing")])

    assert [p.name for p in found] == ["new"]


def test_egg_info_of_a_development_install_is_read(tmp_path: Path) -> None:
    distribution(tmp_path, "lab-parts", "[qdevpy]\nx = x\n", info="egg-info", metadata_name="PKG-INFO")

    assert [p.distribution for p in find_entry_points([str(tmp_path)])] == ["lab-parts"]


def test_distribution_without_metadata_has_its_folders_name(tmp_path: Path) -> None:
    distribution(tmp_path, "parts", "[qdevpy]\nx = x\n", metadata_name="OTHER")

    assert [p.distribution for p in find_entry_points([str(tmp_path)])] == ["parts"]


def test_zip_archive_on_the_path_is_read(tmp_path: Path) -> None:
    archive = tmp_path / "parts.zip"
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("parts-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: parts\nVersion: 1.0\n")
        out.writestr("parts-1.0.dist-info/entry_points.txt", "[qdevpy]\nx = x\n")

    assert find_entry_points([str(archive)]) == [EntryPoint("x", "x", "parts")]


def test_unreadable_entry_points_are_passed_over(tmp_path: Path) -> None:
    distribution(tmp_path, "parts", "")
    (tmp_path / "parts-1.0.dist-info" / "entry_points.txt").write_bytes(b"\xff\xfe")

    assert find_entry_points([str(tmp_path)]) == []


def test_source_tree_without_installation_offers_its_own_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [str(tmp_path)])

    assert {p.name for p in find_entry_points()} >= {"pc", "virtio_blk", "virtio_console", "virtio_net"}
