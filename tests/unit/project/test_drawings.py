# SPDX-License-Identifier: Apache-2.0
"""The drawings of the documentation are what their script draws."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

DOCS = Path(__file__).resolve().parents[3] / "docs"


def test_drawings_are_what_the_script_writes(tmp_path):
    (tmp_path / "drawings").mkdir()
    for source in (DOCS / "drawings").glob("*.py"):
        (tmp_path / "drawings" / source.name).write_text(source.read_text())
    subprocess.run([sys.executable, tmp_path / "drawings/draw.py"], check=True)
    drawn = list((tmp_path / "images").glob("*.svg"))
    assert drawn
    for picture in drawn:
        ElementTree.parse(picture)
        there = DOCS / "images" / picture.name
        assert there.read_text() == picture.read_text(), f"{there.name}: run: python docs/drawings/draw.py"
