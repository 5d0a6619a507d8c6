"""virtio-rng (virtio 1.2, 5.4): random bytes of the host's kernel, at most so many in a period, as QEMU's."""

import os
from collections.abc import Iterable
from typing import ClassVar

from qdevpy.plugin import hookimpl
from qdevpy.qdev import property as prop
from qdevpy.qdev.device import Device, Notification
from qdevpy.virtio.device import VirtIODevice
from qdevpy.virtio.queue import VirtQueue


class VirtIORng(VirtIODevice):
    """The device; its only queue takes buffers to fill."""

    base_name: ClassVar[str] = "virtio-rng"
    description: ClassVar[str] = "random numbers of the host's kernel"
    category: ClassVar[str] = "Misc"
    device_id: ClassVar[int] = 4
    transitional_id: ClassVar[int | None] = 0x1005
    ioeventfd: ClassVar[Notification | None] = Notification.ALLOWED
    max_bytes: int = prop.uint64((1 << 63) - 1, maximum=(1 << 63) - 1, help="bytes in a period")
    period: int = prop.uint32(1 << 16, minimum=1, help="milliseconds that max-bytes is for")

    def do_realize(self) -> None:
        """The queue, and the timer of the period."""
        self.add_queue(8)
        self.period_timer = self.timer(self.next_period)
        self.left = self.max_bytes

    def do_reset(self) -> None:
        """A period begins with the first request."""
        self.left = self.max_bytes

    def handle_output(self, queue: VirtQueue) -> None:
        """Fill what the driver offers, for as long as the period's bytes last."""
        if self.period_timer.when is None:
            self.period_timer.start(self.period / 1000)
        while self.left and (element := queue.pop()) is not None:
            count = min(element.in_len, self.left)
            self.left -= count
            queue.push(element, element.write(os.urandom(count)))
        queue.flush()

    def next_period(self) -> None:
        """New bytes for who waits."""
        self.left = self.max_bytes
        self.queues[0].kick()


@hookimpl
def qdevpy_devices() -> Iterable[type[Device]]:
    """The device, on every transport."""
    return [VirtIORng]
