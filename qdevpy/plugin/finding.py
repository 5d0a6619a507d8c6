# SPDX-License-Identifier: Apache-2.0
"""What ``qdevpy doctor`` prints a line of."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """One thing that was looked at.

    :ivar found: what there is, or why there is none
    :ivar advice: what to do where ``ok`` is false
    :ivar required: nothing boots without it
    """

    name: str
    ok: bool
    found: str
    advice: str = ""
    required: bool = False
