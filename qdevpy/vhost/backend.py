# SPDX-License-Identifier: Apache-2.0
"""What serves queues in a device's stead: a program (``user.py``) or the host's kernel (``kernel.py``), behind one interface.

::

    set_features, set_memory                       once, before the first vring
    start_vring(n, Vring) -> enable(n)             from then on the back end serves vring n
    set_call(n, fd)                                any time in between: interrupts go there
    stop_vring(n) -> base                          on return it does not touch vring n any more

Every method raises :class:`VhostError` where the back end refuses, breaks a rule, or is gone; what it was told is then void.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import attrs

from qdevpy.vhost.messages import Region, RingAddresses


class Vring(NamedTuple):
    """All that a back end needs to serve a queue.

    :ivar size: entries
    :ivar base: next entry of the available ring to serve
    :ivar kick, call, err: eventfds: the driver kicks; the back end interrupts; it found the ring broken
    """

    size: int
    base: int
    ring: RingAddresses
    kick: int
    call: int
    err: int


@attrs.define
class Inflight:
    """Memory in which a back end notes what it has begun, for the one that comes after it. Never read by us.

    :ivar fd: ours until :meth:`close`
    """

    fd: int
    size: int
    offset: int
    queues: int
    queue_size: int

    def close(self) -> None:
        """Nothing is in flight any more."""
        os.close(self.fd)


class VhostBackend(ABC):
    """A connection to a back end.

    :ivar features: virtio features that it offers
    :ivar max_queues: queues that it can serve (network back ends: pairs)
    """

    features: int = 0
    max_queues: int = 1

    @abstractmethod
    def set_features(self, features: int) -> None:
        """What was negotiated, of :attr:`features`."""

    @abstractmethod
    def set_memory(self, regions: Sequence[Region]) -> None:
        """All guest memory."""

    @abstractmethod
    def start_vring(self, index: int, vring: Vring) -> None:
        """Set a vring up."""

    @abstractmethod
    def set_call(self, index: int, fd: int) -> None:
        """Interrupts of a vring go to another eventfd from now on."""

    @abstractmethod
    def enable(self, index: int, enabled: bool) -> None:
        """Serve a vring that is set up, or pause."""

    @abstractmethod
    def stop_vring(self, index: int) -> int:
        """Stop serving a vring; the next entry of the available ring that it would have taken."""

    def make_inflight(self, queues: int, queue_size: int) -> Inflight | None:
        """Override: new memory for requests in flight, for QUEUES queues of at most QUEUE_SIZE entries; None: not supported."""
        return None

    def use_inflight(self, inflight: Inflight) -> None:  # noqa: B027 -- most have none
        """Override: note there what is in flight, and begin with what is noted there. Before the first vring starts."""

    def set_status(self, status: int) -> None:  # noqa: B027 -- few want to know
        """Override: the driver's device status; 0: it has reset the device. Where the back end wants to know."""

    @abstractmethod
    def close(self) -> None:
        """Hang up; a vring that is not stopped may be served still."""
