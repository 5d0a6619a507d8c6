# SPDX-License-Identifier: Apache-2.0
"""A card as faults see it: a chain is a frame to send, room for one to receive, or a command (virtio 1.2, 5.1.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from qdevpy.faults.target import Description, FaultTarget

if TYPE_CHECKING:
    from qdevpy.native.tap import Chain

#: 5.1.6.5: the status of a command that failed
ERR = 1


class NetTarget(FaultTarget):
    """Frames are ``send``, room for them is ``receive``, commands are ``control``."""

    kinds: ClassVar[Sequence[str]] = ("receive", "send", "control")
    offers: ClassVar[Sequence[str]] = ("io-error", "link-down", "backend-gone")

    def refusal(self) -> str | None:
        """With vhost the queues are served elsewhere."""
        if self.device.vhost is None:
            return None
        return f"vhost serves its queues (netdev '{self.device.netdev.name}'), so nothing can happen to them here"

    def describe(self, queue: int, chain: Chain) -> Description:
        """By queue; beyond that no frame is like another."""
        return Description(self._kind(queue))

    def _kind(self, queue: int) -> str:
        if not self.device.queues[queue].is_native:
            return "control"
        return "send" if queue & 1 else "receive"

    def fail(self, queue: int, chain: Chain) -> int:
        """A frame is lost: sent or received, nobody gets it. A command is answered with an error."""
        if self._kind(queue) == "control":
            return chain.write(bytes([ERR]), -1)
        return 0

    def refuse(self, queue: int, chain: Chain) -> int | None:
        """Frames to send go nowhere, and room for others waits, since none comes."""
        return None if self._kind(queue) == "receive" else self.fail(queue, chain)

    def set_link(self, up: bool) -> None:
        """The cable."""
        self.device.set_link(up)
