# SPDX-License-Identifier: Apache-2.0
"""What this plugin offers."""

from __future__ import annotations

from qdevpy.plugin import hookimpl
from qdevpy.qdev.device import Device


@hookimpl
def qdevpy_devices() -> list[type[Device]]:
    """The network card."""
    from qdevpy_virtio_net.device import VirtIONet

    return [VirtIONet]


@hookimpl
def qdevpy_benches() -> list[str]:
    """Frames of a card."""
    return ["qdevpy_virtio_net.bench"]
