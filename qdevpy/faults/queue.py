# SPDX-License-Identifier: Apache-2.0
"""The faults of one queue: what is done to its chains on their way to the device and back."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import attrs

from qdevpy.faults.effects import Stage
from qdevpy.faults.schedule import Firing, Request
from qdevpy.native.tap import Chain, QueueTap

if TYPE_CHECKING:
    from qdevpy.faults.device import DeviceFaults
    from qdevpy.faults.target import Description
    from qdevpy.virtio.queue import VirtQueue

#: no chain's head
NO_HEAD = 0xFFFF
#: bytes of an answer that a short transfer puts back as they were; beyond that only the used length is short
MAX_SAVED = 16 << 20


@attrs.define(eq=False)
class Pending:
    """A chain that something happens to.

    :ivar head: by which it is given back
    :ivar returning: what happens to it on its way back
    :ivar saved: for a short transfer: the bytes that are not to be there, as they were
    """

    head: int
    returning: dict[str, Firing]
    short: int = 0
    saved: bytes = b""


class QueueFaults(QueueTap):
    """A tap of one queue. Its methods run with the queue's lock held, but those that say otherwise.

    :ivar kept: chains that a delay or a back end that is gone keeps, by head
    """

    def __init__(self, device: DeviceFaults, queue: VirtQueue) -> None:
        super().__init__(queue.pointer)
        self.device = device
        self.queue = queue
        self.number = 0
        self.kept: dict[int, Pending] = {}
        self._pending: dict[int, Pending] = {}
        self._lose_interrupt = False

    # -- on the way to the device

    def popped(self, chain: Chain) -> bool:
        """A request: which faults hit it is decided here, and here alone."""
        self.number += 1
        firings = self.device.arrived(self, chain)
        pending = Pending(chain.head, {each.effect.name: each for each in firings if each.effect.stage is Stage.RETURN})
        if "short" in pending.returning:
            self._save(pending, chain)
        if pending.returning:
            self._pending[chain.head] = pending
        kept = False
        for firing in firings:
            kept |= self._keep(firing, pending, chain)
        if not kept and self.device.gone:
            self._refuse(pending, chain)
            kept = True
        return not kept

    def _keep(self, firing: Firing, pending: Pending, chain: Chain) -> bool:
        """Carry out what does not wait for the way back; whether the device is to see nothing of the chain."""
        match firing.effect.name:
            case "io-error":
                self._answer(pending, self.device.target.fail(self.queue.index, chain))
            case "delay":
                self.kept[pending.head] = pending
                self.device.later(firing.duration or 0, partial(self.release, pending))
            case "never-complete" | "needs-reset":
                pass
            case _:
                return False
        return True

    def _refuse(self, pending: Pending, chain: Chain) -> None:
        """The back end is gone."""
        length = self.device.target.refuse(self.queue.index, chain)
        if length is None:
            self.kept[pending.head] = pending
        else:
            self._answer(pending, length)

    def _answer(self, pending: Pending, length: int) -> None:
        """In the device's stead; what happens on the way back happens to this, too."""
        self.complete_now(pending.head, self.pushed(pending.head, length))

    def release(self, pending: Pending) -> None:
        """Let the device have what was kept; not where the queue was reset meanwhile. On the main loop, with the VM lock held."""
        if self.kept.get(pending.head) is pending:
            del self.kept[pending.head]
            if self.hand_over(pending.head) and not self.queue.is_native:
                self.queue.kick()

    def release_all(self) -> None:
        """As :meth:`release`, of all that are kept, also by a callback that is on its way."""
        self.hand_over(NO_HEAD)  # takes the queue's lock: such a callback has ended when this returns
        for pending in list(self.kept.values()):
            self.release(pending)

    # -- and back

    def pushed(self, head: int, length: int) -> int:
        """The device is done with a chain."""
        pending = self._pending.pop(head, None)
        if pending is None:
            return length
        if "short" in pending.returning:
            length = self._shorten(pending, length)
        if "used-length" in pending.returning:
            length = pending.returning["used-length"].length or 0
        if "lost-interrupt" in pending.returning:
            self._lose_interrupt = True
        if "complete-twice" in pending.returning:
            self.complete_now(head, length)
        return length

    def _save(self, pending: Pending, chain: Chain) -> None:
        """Remember what the device is going to write over, and the driver is not to get."""
        target, given = self.device.target, pending.returning["short"].length
        pending.short = max(0, target.short_length(chain)) if given is None else given
        size = chain.in_len - target.status_length - pending.short
        if 0 < size <= MAX_SAVED:
            pending.saved = chain.read_writable(pending.short, size)

    def _shorten(self, pending: Pending, length: int) -> int:
        chain = self.chain(pending.head)
        if chain is not None:
            chain.write(pending.saved, pending.short)
        return min(length, pending.short)

    def decided(self, interrupt: bool) -> bool:
        """Whether the driver is interrupted."""
        lost, self._lose_interrupt = self._lose_interrupt, False
        return interrupt and not lost

    def forgotten(self) -> None:
        """The driver has reset the queue: its chains are gone, what it has counted is not."""
        self.kept.clear()
        self._pending.clear()
        self._lose_interrupt = False

    def request(self, total: int, described: Description, occurrence: int) -> Request:
        """The request that was popped last."""
        return Request(self.queue.index, self.number, total, *described, occurrence)

    def close(self) -> None:
        """With the VM lock held: the device gets what is kept for a while, and the queue is as any other."""
        self.release_all()
        self.remove()
