# SPDX-License-Identifier: Apache-2.0
"""Virtio devices for tests of transports: one whose queues C serves, one served by Python, one that forbids ioeventfds."""

from __future__ import annotations

from typing import ClassVar

import attrs

from qdevpy.native._core import lib
from qdevpy.qdev import property as prop
from qdevpy.qdev.device import Notification
from qdevpy.virtio.device import VirtIODevice
from qdevpy.virtio.queue import NativeHandler, VirtQueue


class NullDevice(VirtIODevice):
    """Every second queue is served by C, which completes everything; the others answer with what they got, reversed.

    :ivar log: what happened, in order
    """

    type_name: ClassVar[str] = "null-device"
    base_name: ClassVar[str] = "null"
    description: ClassVar[str] = "completes everything"
    device_id: ClassVar[int] = 42
    transitional_id: ClassVar[int | None] = 0x10FF
    ioeventfd: ClassVar[Notification | None] = Notification.ALLOWED

    num_queues: int = prop.uint16(3, minimum=1, maximum=1024, help="queues")
    feature_five: bool = prop.bit("features", 5, True, help="offer bit 5")
    feature_high: bool = prop.bit("features", 55, True, help="offer bit 55")

    log: list[object] = attrs.field(factory=list, init=False)
    contents: bytearray = attrs.field(factory=lambda: bytearray(range(10)), init=False)

    def do_realize(self) -> None:
        for index in range(self.num_queues):
            native = None if index & 1 else NativeHandler(lib.qd_null_ops)
            self.add_queue(64, native=native, name=f"q{index}")

    def handle_output(self, queue: VirtQueue) -> None:
        while (element := queue.pop()) is not None:
            data = element.read()
            self.log.append(("served", queue.index, data))
            queue.push(element, element.write(data[::-1]))
        queue.flush()

    def features_acked(self, features: int) -> None:
        self.log.append(("features", features))

    def status_set(self, old: int, new: int) -> None:
        self.log.append(("status", old, new))

    def do_reset(self) -> None:
        self.log.append(("reset", [queue.state.value for queue in self.queues]))

    def get_config(self) -> bytes:
        return bytes(self.contents)

    def set_config(self, offset: int, data: bytes) -> None:
        self.contents[offset : offset + len(data)] = data


class SpinDevice(NullDevice):
    """Drivers spin on its queues."""

    type_name: ClassVar[str] = "spin-device"
    base_name: ClassVar[str] = "spin"
    ioeventfd: ClassVar[Notification | None] = Notification.FORBIDDEN


class ModernOnlyDevice(NullDevice):
    """Newer than legacy drivers."""

    type_name: ClassVar[str] = "young-device"
    base_name: ClassVar[str] = "young"
    transitional_id: ClassVar[int | None] = None
