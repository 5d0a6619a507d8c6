# SPDX-License-Identifier: Apache-2.0
"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from qdevpy.plugin import hookimpl
from qdevpy.qdev.device import Device


@hookimpl
def qdevpy_devices() -> Iterable[type[Device]]:
    """The controller, and the two sorts of ports that plug into it."""
    from qdevpy_virtio_console.device import VirtIOSerial
    from qdevpy_virtio_console.port import VirtConsole, VirtSerialPort

    return [VirtIOSerial, VirtConsole, VirtSerialPort]


@hookimpl
def qdevpy_benches() -> list[str]:
    """Bytes of a console."""
    return ["qdevpy_virtio_console.bench"]
