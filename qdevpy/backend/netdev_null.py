# SPDX-License-Identifier: Apache-2.0
"""``{type: null}``: a network without anybody; frames are dropped, none arrive, the link is up."""

from __future__ import annotations

from typing import ClassVar

from qdevpy.backend.netdev import NetDev


class NullNetDev(NetDev):
    """Drops everything."""

    type_name: ClassVar[str] = "null"
    description: ClassVar[str] = "drops every frame"
