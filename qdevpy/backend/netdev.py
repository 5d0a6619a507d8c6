# SPDX-License-Identifier: Apache-2.0
"""Network back ends: the host's side of a network card.

A card asks for :class:`Port` objects, one a queue pair, and moves the frames itself, in C; a back end opens
and closes what the ports name, follows connections, and sets the host's offloads.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import attrs

from qdevpy.backend.base import Backend
from qdevpy.errors import BackendError

if TYPE_CHECKING:
    from qdevpy.errors import VhostError
    from qdevpy.vhost.backend import VhostBackend


class PortKind(enum.IntEnum):
    """What a port's descriptor is; the numbers are those of ``enum qn_kind`` in virtio-net's C part."""

    TAP = 1  #: one frame per read or write
    DGRAM = 2  #: UNIX datagram socket, one frame per datagram
    STREAM = 3  #: frames behind 32 bits of length, big endian


class Offload(enum.IntFlag):
    """What a card's driver takes from the host undone; the numbers are ``TUN_F_*`` of linux/if_tun.h."""

    CSUM = 1
    TSO4 = 2
    TSO6 = 4
    ECN = 8
    UFO = 16


class Port(NamedTuple):
    """Where one queue pair's frames come from and go to.

    :ivar fd: the card makes its own duplicate
    :ivar dest: path of the UNIX socket to send datagrams to; None: the socket is connected
    """

    kind: PortKind
    fd: int
    dest: str | None = None


class NetDev(Backend):
    """Base class of network back ends.

    :ivar link_up: whether there is somebody at the other end
    :ivar vhost: who serves the card's queues in its stead, where :attr:`serves_queues`, and is there now
    """

    section: ClassVar[str] = "netdevs"

    link_up: bool = attrs.field(default=True, init=False)
    vhost: VhostBackend | None = attrs.field(default=None, init=False)
    _changed: Callable[[], None] | None = attrs.field(default=None, init=False)

    # -- for cards

    @property
    def ports(self) -> int:
        """Queue pairs it has a port for."""
        return 1

    @property
    def vnet_header(self) -> bool:
        """Whether frames carry a ``virtio_net_hdr``; without one there are no offloads."""
        return False

    @property
    def offloads(self) -> Offload:
        """What the host can leave undone."""
        return Offload(0)

    def port(self, index: int) -> Port | None:
        """Port of queue pair INDEX; None: nobody is there, drop the frames."""
        return None

    @property
    def serves_queues(self) -> bool:
        """Whether the card is to hand its queues over to :attr:`vhost`, instead of moving frames itself."""
        return False

    def vhost_failed(self, error: VhostError) -> None:
        """The card had an error from :attr:`vhost`, and has given it up."""

    def configure(self, header_length: int, offloads: Offload) -> None:
        """The driver settled on a header of 10 or 12 bytes and on what it takes undone. No port is in use."""

    def enable_port(self, index: int, enabled: bool) -> None:
        """The driver uses queue pair INDEX, or not any more; port 0 is always enabled. The port is not in use.

        :raises BackendError: the host refuses
        """

    def attach(self, changed: Callable[[], None]) -> None:
        """A card listens: CHANGED is called, on the main loop, when ports or the link have changed."""
        self._changed = changed

    def detach(self) -> None:
        """The card is gone."""
        self._changed = None

    def peer_gone(self) -> None:
        """The card found a port hung up; on the main loop. The card has stopped using it."""
        self.set_link(False)

    @property
    def summary(self) -> str:
        """What the human monitor's ``info network`` says of it."""
        return ""

    # -- coming and going

    def removable(self) -> None:
        """Always, as in QEMU: a card that has it stays without a network."""

    def removed(self) -> None:
        """The card's link goes down for good."""
        self.set_link(False)

    # -- for back ends

    def set_link(self, up: bool) -> None:
        """Somebody came or went."""
        self.link_up = up
        if self._changed is not None:
            self._changed()

    def fail(self, why: str) -> BackendError:
        """An error that names this entry."""
        return BackendError(f"netdev '{self.name}': {why}")
