# SPDX-License-Identifier: Apache-2.0
"""The simplest device in Python, for ``qdevpy bench``: it takes every buffer and does nothing with it.

No entry point of qdevpy's names this plugin; :mod:`qdevpy_machine.bench` declares one for the process that it measures.
"""

from __future__ import annotations

from typing import ClassVar

from qdevpy.plugin import hookimpl
from qdevpy.qdev.device import Device, Notification
from qdevpy.virtio.device import VirtIODevice
from qdevpy.virtio.queue import VirtQueue

#: of no device that virtio defines
DEVICE_ID = 63


class Sink(VirtIODevice):
    """Takes buffers."""

    type_name: ClassVar[str] = "virtio-bench-sink-device"
    base_name: ClassVar[str] = "virtio-bench-sink"
    description: ClassVar[str] = "takes every buffer"
    device_id: ClassVar[int] = DEVICE_ID
    ioeventfd: ClassVar[Notification | None] = Notification.ALLOWED

    def do_realize(self) -> None:
        """One queue."""
        self.add_queue(256)

    def handle_output(self, queue: VirtQueue) -> None:
        """Give everything back."""
        while (element := queue.pop()) is not None:
            queue.push(element, 0)
        queue.flush()


@hookimpl
def qdevpy_devices() -> list[type[Device]]:
    """The device."""
    return [Sink]
