# SPDX-License-Identifier: Apache-2.0
"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from qdevpy.plugin import hookimpl
from qdevpy.qdev.device import Device
from qdevpy_virtio_blk.device import VirtIOBlock


@hookimpl
def qdevpy_devices() -> Iterable[type[Device]]:
    """virtio-blk, on every transport."""
    return [VirtIOBlock]


@hookimpl
def qdevpy_benches() -> Iterable[str]:
    """Requests of a disk."""
    return ["qdevpy_virtio_blk.bench"]
