# SPDX-License-Identifier: Apache-2.0
"""The C core: rings, queues, I/O threads, address spaces, the vCPU loop; and its Python side."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def include_dir() -> Path:
    """Where the core's headers are, for the build scripts of plugins with C of their own."""
    from pathlib import Path  # slow to import, and only build scripts ask

    return Path(__file__).parent / "include"
