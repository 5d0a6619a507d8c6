# SPDX-License-Identifier: Apache-2.0
"""Codes of the errors in a machine definition, and where they are gathered.

======  =======================================================================================
code    meaning
======  =======================================================================================
Q101    not YAML, or YAML that definitions do not use (tags, several documents)
Q102    a key stands twice in one map
Q103    unknown key
Q104    wrong type: text where a map is expected, a list where one value is, nothing at all
Q105    number out of range (``memory``, ``cpus``)
Q106    a required key is missing
Q107    ``include:`` goes round in a circle
Q108    ``--set``: no such path, or no value
Q201    unknown machine type
Q202    unknown accelerator
Q203    unknown device type, or one that is part of the board
Q204    unknown type of a netdev, chardev or object
Q301    unknown property of a device or back end
Q302    a value that the property does not take
Q303    a property that is forbidden on this device
Q401    a reference to a drive, netdev, chardev, object or bus that is not there
Q402    a back end given to two devices
Q403    a device id that stands twice
Q404    two devices in one slot
Q405    a bus of the wrong type, or no bus for the device
Q501    a file that is missing or cannot be read
======  =======================================================================================

docs/errors.md explains each with an example.
"""

from __future__ import annotations

from typing import Final

from qdevpy.definition.model import Position, Problem
from qdevpy.errors import DefinitionError

SYNTAX: Final = "Q101"
DUPLICATE_KEY: Final = "Q102"
UNKNOWN_KEY: Final = "Q103"
WRONG_TYPE: Final = "Q104"
OUT_OF_RANGE: Final = "Q105"
MISSING_KEY: Final = "Q106"
INCLUDE_CYCLE: Final = "Q107"
BAD_SET: Final = "Q108"
UNKNOWN_MACHINE: Final = "Q201"
UNKNOWN_ACCEL: Final = "Q202"
UNKNOWN_DEVICE: Final = "Q203"
UNKNOWN_BACKEND: Final = "Q204"
UNKNOWN_PROPERTY: Final = "Q301"
BAD_VALUE: Final = "Q302"
FORBIDDEN: Final = "Q303"
UNRESOLVED: Final = "Q401"
USED_TWICE: Final = "Q402"
DUPLICATE_ID: Final = "Q403"
SLOT_TAKEN: Final = "Q404"
WRONG_BUS: Final = "Q405"
MISSING_FILE: Final = "Q501"


class Problems:
    """Gathers what is wrong, so that all of it is reported and not just the first."""

    def __init__(self) -> None:
        self._found: list[Problem] = []

    def add(self, code: str, message: str, position: Position) -> None:
        """One more; the same one again is not kept."""
        problem = Problem(code, message, position)
        if problem not in self._found:
            self._found.append(problem)

    def __len__(self) -> int:
        return len(self._found)

    def in_order(self) -> list[Problem]:
        """By file, in the order files first went wrong, then by line and column."""
        files = list(dict.fromkeys(problem.position.file for problem in self._found))
        return sorted(self._found, key=lambda p: (files.index(p.position.file), p.position.line, p.position.column))

    def check(self) -> None:
        """:raises DefinitionError: something was added."""
        if self._found:
            raise DefinitionError(self.in_order())
