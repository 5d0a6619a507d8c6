# SPDX-License-Identifier: Apache-2.0
"""docs/definition.md says everything that a definition may say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qdevpy.backend import BUILT_IN
from qdevpy.definition.keys import BOOT, KEYS
from qdevpy.definition.load import ACCELS
from qdevpy.plugin.manager import load_plugins
from qdevpy.qdev.property import properties_of

PAGE = (Path(__file__).parents[3] / "docs" / "definition.md").read_text()
TYPES = [(section, name) for section, types in BUILT_IN.items() for name in types]


def test_every_key_is_documented() -> None:
    assert [key for key in (*KEYS, *BOOT, *ACCELS, "id", "bus") if f"`{key}`" not in PAGE] == []


@pytest.mark.parametrize(("section", "name"), TYPES)
def test_every_option_of_a_back_end_is_documented(section: str, name: str) -> None:
    chapter = PAGE.partition(f"### {section}")[2].partition("\n### ")[0]
    part = (
        chapter if section == "drives" else re.split(r"^`type: ", chapter.partition(f"`type: {name}`")[2], flags=re.MULTILINE)[0]
    )

    if section == "chardevs":
        part += chapter.partition("`type: ")[0]  # what all have
    options = properties_of(load_plugins([]).backend_type(section, name))

    assert part
    assert [option for option in options if f"`{option}`" not in part] == []
