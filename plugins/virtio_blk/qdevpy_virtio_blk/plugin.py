# SPDX-License-Identifier: Apache-2.0
"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from qdevpy.plugin import hookimpl
from qdevpy.qdev.device import Device
from qdevpy_virtio_blk.device import VirtIOBlock
from qdevpy_virtio_blk.vhost_user import VhostUserBlock


@hookimpl
def qdevpy_devices() -> Iterable[type[Device]]:
    """virtio-blk and vhost-user-blk, on every transport."""
    return [VirtIOBlock, VhostUserBlock]


@hookimpl
def qdevpy_benches() -> Iterable[str]:
    """Requests of a disk."""
    return ["qdevpy_virtio_blk.bench"]


@hookimpl
def qdevpy_doctors() -> Iterable[str]:
    """Which engines there are."""
    return ["qdevpy_virtio_blk.doctor"]
