# SPDX-License-Identifier: Apache-2.0
"""What faults need to know of a device. A device's plugin says it by deriving from :class:`FaultTarget` and giving that
back from :meth:`~qdevpy.virtio.device.VirtIODevice.fault_target`; without, requests have numbers and no kinds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from qdevpy.faults.effects import EFFECTS, GENERIC

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qdevpy.native.tap import Chain
    from qdevpy.virtio.device import VirtIODevice


class Description(NamedTuple):
    """What a request asks for, as its driver put it; nothing of it is trusted.

    :ivar kind: one of the target's ``kinds``; empty: none of them
    :ivar sector: the first one; None: the request has none
    :ivar sectors: how many
    """

    kind: str = ""
    sector: int | None = None
    sectors: int = 0


class FaultTarget:
    """A device with virtqueues, as faults see it.

    :cvar kinds: of requests, for ``requests:``
    :cvar has_sectors: whether requests have sectors, for ``sectors:``
    :cvar offers: effects beside those that every device can have
    :cvar status_length: bytes at the end of the writable part that a short transfer leaves as they are
    """

    kinds: ClassVar[Sequence[str]] = ()
    has_sectors: ClassVar[bool] = False
    offers: ClassVar[Sequence[str]] = ()
    status_length: ClassVar[int] = 0

    def __init__(self, device: VirtIODevice) -> None:
        self.device: Any = device

    @property
    def effects(self) -> tuple[str, ...]:
        """What may stand behind ``what:``."""
        return tuple(name for name in EFFECTS if name in GENERIC or name in self.offers)

    def refusal(self) -> str | None:
        """Override: why this device can have no faults at all (its queues are served outside); None: it can."""
        return None

    def describe(self, queue: int, chain: Chain) -> Description:
        """Override: what CHAIN asks for. Called with the queue's lock held: look at CHAIN, and at nothing that moves."""
        return Description()

    def fail(self, queue: int, chain: Chain) -> int:
        """Override, for ``io-error``: write the answer that refuses CHAIN; its used length. With the queue's lock held."""
        raise NotImplementedError

    def refuse(self, queue: int, chain: Chain) -> int | None:
        """For ``backend-gone``: as :meth:`fail`, for each request meanwhile; None: it waits until the back end is back."""
        return self.fail(queue, chain)

    def short_length(self, chain: Chain) -> int:
        """Override, for ``short`` without a length: how much of the answer is there."""
        return (chain.in_len - self.status_length) // 2

    def set_link(self, up: bool) -> None:
        """Override, for ``link-down``: plug the cable in or out. With the VM lock held."""
        raise NotImplementedError
