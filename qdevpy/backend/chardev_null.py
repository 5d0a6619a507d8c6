# SPDX-License-Identifier: Apache-2.0
"""``{type: null}``: takes everything, gives nothing."""

from __future__ import annotations

from typing import ClassVar

from qdevpy.backend.chardev import Chardev


class NullChardev(Chardev):
    """Nowhere."""

    type_name: ClassVar[str] = "null"
    description: ClassVar[str] = "discards output, has no input"

    def open(self) -> None:
        """Nothing can go wrong."""
        self.is_open = True
