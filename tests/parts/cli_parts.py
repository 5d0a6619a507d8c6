# SPDX-License-Identifier: Apache-2.0
"""What tests of the command line hand around."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Result(NamedTuple):
    """How a command line ended, and what it printed."""

    status: int
    out: str
    err: str


Program = Callable[..., Result]
