# SPDX-License-Identifier: Apache-2.0
"""Files that come with firmware: images, option ROMs. Looked for by name, as QEMU does with -L."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qdevpy.vm.machine import Machine


def folders(machine: Machine) -> Iterator[str]:
    """Where to look: what the definition says, then the board's own places."""
    yield from machine.definition.data_dirs
    yield from machine.board.data_folders


def find_data_file(machine: Machine, *names: str) -> str | None:
    """The first file of these names, in the first folder that has one; a name with a slash, or a file here, is a path."""
    for name in names:
        if os.path.isfile(name):
            return name
        for folder in folders(machine) if "/" not in name else ():
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                return path
    return None
