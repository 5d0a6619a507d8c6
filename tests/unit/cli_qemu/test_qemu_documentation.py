# SPDX-License-Identifier: Apache-2.0
"""docs/qemu-command-line.md has the table of options as it is."""

from __future__ import annotations

from pathlib import Path

from qdevpy.cli.qemu.help import options_table

PAGE = (Path(__file__).parents[3] / "docs" / "qemu-command-line.md").read_text()


def test_table_of_options_is_the_program_s() -> None:
    shown = PAGE.partition("<!-- table -->\n")[2].partition("<!-- end of table -->")[0]

    assert shown == options_table(), "docs: paste what qdevpy.cli.qemu.help.options_table() returns between the two comments"
