# SPDX-License-Identifier: Apache-2.0
"""What MSI and MSI-X have in common: an eventfd a vector, which the accelerator turns into a message.

Whoever interrupts signals the vector's eventfd and knows nothing else. While the vector may fire, the accelerator turns
signals into its message; while it is masked they stay in the eventfd, which is what its pending bit is read from, and
the accelerator delivers them when it is assigned again.
"""

from __future__ import annotations

import logging
import os
import select
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qdevpy.accel.base import Accelerator, MsiMessage

log = logging.getLogger(__name__)


def _is_signalled(fd: int) -> bool:
    """Whether an eventfd has something; it keeps it."""
    poll = select.poll()  # not select(), which ends at descriptor 1023
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


class Vectors:
    """The eventfds of a function's vectors, and the messages they send now.

    :param kind: ``MSI`` or ``MSI-X``, for messages
    :param accel: delivers the messages
    """

    def __init__(self, kind: str, count: int, accel: Accelerator) -> None:
        self._kind = kind
        self._accel = accel
        self._fds = [os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(count)]
        self._assigned: dict[int, tuple[int, MsiMessage]] = {}
        self._warned = False

    def __len__(self) -> int:
        return len(self._fds)

    def fd(self, vector: int) -> int:
        """The vector's eventfd, or -1 where there is no such vector."""
        return self._fds[vector] if 0 <= vector < len(self._fds) else -1

    def signal(self, vector: int) -> None:
        """Interrupt, now or when the vector may fire."""
        with suppress(BlockingIOError):  # full, so it is signalled
            os.eventfd_write(self._fds[vector], 1)

    def is_pending(self, vector: int) -> bool:
        """Whether a signal waits for the vector to be unmasked."""
        # one that is assigned belongs to the accelerator, and is never pending for the guest
        return vector not in self._assigned and _is_signalled(self._fds[vector])

    def drain(self, vector: int) -> None:
        """Forget what is pending."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._fds[vector])

    def send(self, vector: int, message: MsiMessage | None) -> None:
        """From now on the vector sends MESSAGE; None: its signals wait."""
        handle, before = self._assigned.get(vector, (0, None))
        if message == before:
            return
        try:
            if message is None:
                del self._assigned[vector]
                self._accel.deassign_irqfd(handle)
            elif before is None:
                self._assigned[vector] = (self._accel.assign_irqfd(self._fds[vector], message), message)
            else:
                self._accel.update_irqfd(handle, message)
                self._assigned[vector] = (handle, message)
        except OSError as error:  # out of routes, or a message that the accelerator cannot send: the guest's loss
            # once: a guest that masks and unmasks in a loop must not fill our log
            level = logging.DEBUG if self._warned else logging.WARNING
            self._warned = True
            log.log(level, "%s vector %d, message %s: %s; its interrupts are lost", self._kind, vector, message, error)

    def close(self) -> None:
        """Deassign everything and close the eventfds; nobody signals them any more."""
        for handle, _ in self._assigned.values():
            self._accel.deassign_irqfd(handle)
        self._assigned.clear()
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()
