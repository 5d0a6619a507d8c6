# SPDX-License-Identifier: Apache-2.0
"""``{type: rng-builtin}`` of ``objects:``: random numbers of this process, for devices that hand them to the guest."""

from __future__ import annotations

import os
from typing import ClassVar

from qdevpy.backend.base import Backend


class BuiltinRng(Backend):
    """The host's random numbers. No device of ours takes them yet; a plugin's may."""

    type_name: ClassVar[str] = "rng-builtin"
    description: ClassVar[str] = "random numbers of the host's kernel"
    section: ClassVar[str] = "objects"

    def random_bytes(self, count: int) -> bytes:
        """COUNT random bytes; never waits."""
        return os.urandom(count)
