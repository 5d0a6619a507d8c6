# SPDX-License-Identifier: Apache-2.0
"""A null device with its driver, and a record of who does what to its host notifiers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from null_device import NullDevice

from qdevpy.pci import config
from qdevpy.testing.driver import ModernDriver, PCIDriver
from qdevpy.testing.machine import FakeMachine
from qdevpy.virtio import defs
from qdevpy.virtio.pci import VirtIOPCI
from qdevpy.virtio.pci_types import device_types_for
from qdevpy.virtio.queue import QueueState

NATIVE, PYTHON = 0, 1  # queues of NullDevice
DRIVER = defs.STATUS_ACKNOWLEDGE | defs.STATUS_DRIVER
ALL_COMMAND = config.COMMAND_IO | config.COMMAND_MEMORY | config.COMMAND_MASTER


class Rig:
    """Machine, device and driver.

    :ivar patience: seconds that a wait may take; the mutation tests have less
    :ivar trace: calls since :meth:`record`, in order
    """

    patience = 10.0

    def __init__(self, driver_class: type[Any] = ModernDriver, **properties: Any) -> None:
        self.machine = FakeMachine()
        kind = device_types_for(NullDevice, "test")[0]
        self.proxy: VirtIOPCI = self.machine.plug_type(kind, id="null0", **properties)
        self.device = self.proxy.device
        self.driver: PCIDriver = driver_class(self.machine, self.proxy)
        self.trace: list[tuple[str, int]] = []

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, *exc: object) -> None:
        self.machine.close()

    def start(self, **options: Any) -> Rig:
        """All that a driver does up to DRIVER_OK."""
        self.driver.start(**options)
        return self

    def start_without_driver_ok(self) -> int:
        """All but the last step; returns the status that is the last step."""
        held: list[int] = []
        set_status = self.driver.set_status

        def hold(status: int) -> None:
            if status & defs.STATUS_DRIVER_OK:
                held.append(status)
            else:
                set_status(status)

        self.driver.set_status = hold
        try:
            self.driver.start()
        finally:
            self.driver.set_status = set_status
        return held[0]

    # -- looking

    @property
    def assigned(self) -> list[int]:
        """Queues that have an ioeventfd in the accelerator, by index."""
        fds = {n.fd: index for index, n in self.proxy.notifiers.notifiers.items()}
        return sorted(fds[event.fd] for event in self.machine.accelerator.ioevents)

    @property
    def attached(self) -> list[int]:
        """Queues whose handler waits for their eventfd."""
        return [queue.index for queue in self.device.queues if queue.state is QueueState.ATTACHED]

    @property
    def started(self) -> list[int]:
        """Queues that are served at all."""
        return [queue.index for queue in self.device.queues if queue.state is not QueueState.IDLE]

    def wait(self, condition: Callable[[], Any], what: str = "condition") -> None:
        """With the main loop running."""
        self.machine.wait_for(condition, what, self.patience)

    def round_trip(self, index: int) -> bytes:
        """One request with a kick: what came back."""
        queue = self.driver.queues[index]
        head = queue.add([b"ping"], [4])
        queue.kick()
        queue.wait(head, self.patience)
        return queue.read(head)

    def kicks(self, index: int) -> dict[str, int]:
        """A queue's counters."""
        return self.device.queues[index].counters()

    # -- recording

    def record(self) -> list[tuple[str, int]]:
        """Record assign, deassign, attach, detach and kick from now on, with the queue's index."""
        accel = self.machine.accelerator
        for name in ("assign_ioevent", "deassign_ioevent"):
            self._wrap(accel, name, lambda event: self._queue_of(event.fd))
        for queue in self.device.queues:
            for name in ("attach", "detach", "kick"):
                self._wrap(queue, name, lambda *args, index=queue.index: index)
        return self.trace

    def _queue_of(self, fd: int) -> int:
        return next(i for i, n in self.proxy.notifiers.notifiers.items() if n.fd == fd)

    def _wrap(self, target: Any, name: str, which: Callable[..., int]) -> None:
        original = getattr(target, name)

        def wrapped(*args: Any) -> Any:
            self.trace.append((name.removesuffix("_ioevent"), which(*args)))
            return original(*args)

        setattr(target, name, wrapped)

    def refuse(self, index: int) -> None:
        """From now on the accelerator has no room for queue INDEX."""
        accel = self.machine.accelerator
        original = accel.assign_ioevent

        def assign(event: Any) -> None:
            if self._queue_of(event.fd) == index:
                raise OSError(28, "No space left on device")
            original(event)

        accel.assign_ioevent = assign  # type: ignore[method-assign]


@contextmanager
def warnings_of_notifiers() -> Iterator[list[str]]:
    """What the host notifiers log inside."""
    found: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    logger = logging.getLogger("qdevpy.virtio.host_notifiers")
    handler = Handler()
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
