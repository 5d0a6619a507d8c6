# SPDX-License-Identifier: Apache-2.0
"""A card whose data queues somebody else serves: the netdev's vhost back end. The control queue stays the card's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qdevpy.backend.netdev import Offload
from qdevpy.errors import VhostError
from qdevpy.vhost.frontend import Frontend
from qdevpy.virtio import defs
from qdevpy_virtio_net import numbers as n
from qdevpy_virtio_net.features import OFFLOADS, offered

if TYPE_CHECKING:
    from qdevpy.backend.netdev import NetDev
    from qdevpy_virtio_net.device import VirtIONet

#: features that whoever moves the frames must have; the rest is the control queue's and the config space's
FRAME_FEATURES = 1 << n.F_MRG_RXBUF | 1 << n.F_MTU
#: and those that another program must have, too, where with a kernel's vhost the tap answers for them
PROGRAM_FEATURES = (
    FRAME_FEATURES
    | sum(1 << feature for feature in OFFLOADS if feature != n.F_CTRL_GUEST_OFFLOADS)
    | 1 << n.F_GUEST_ANNOUNCE
    | 1 << n.F_MQ
    | 1 << defs.F_ANY_LAYOUT
)
EVERY_OFFLOAD = Offload.CSUM | Offload.TSO4 | Offload.TSO6 | Offload.ECN | Offload.UFO


class VhostQueues:
    """The card's side of its netdev's back end."""

    def __init__(self, card: VirtIONet, netdev: NetDev) -> None:
        self._card = card
        self._netdev = netdev
        wanted = FRAME_FEATURES if netdev.vnet_header else PROGRAM_FEATURES
        self.frontend = Frontend(card, 2 * card.pairs, wanted, netdev.vhost_failed, self._is_used)
        if netdev.vhost is not None:
            self.frontend.came(netdev.vhost)

    def _is_used(self, index: int) -> bool:
        return self._card.link_wanted and index // 2 < self._card.active_pairs

    def offered(self, wanted: int) -> int:
        """Of the features that the card WANTED to offer, those that it can."""
        if not self._netdev.vnet_header:  # the back end knows the offloads; which of them depend on each other is the same
            wanted &= ~(1 << n.F_CTRL_GUEST_OFFLOADS)
            return offered(self.frontend.offered(wanted), EVERY_OFFLOAD)
        return self.frontend.offered(offered(wanted, self._netdev.offloads))

    def features_acked(self, features: int) -> None:
        """Without MQ queue 2 is the control queue (5.1.2), and there is one pair."""
        self.frontend.count = 2 * self._card.pairs if features >> n.F_MQ & 1 else 2

    def pairs_changed(self) -> None:
        """The driver uses more pairs, or fewer; or the user plugged the cable in, or out."""
        for index in range(self.frontend.count):
            self.frontend.set_enabled(index, self._is_used(index))

    def netdev_changed(self) -> None:
        """The back end came or went."""
        there = self._netdev.vhost
        if self.frontend.backend not in (None, there):
            self.frontend.went()
        if there is not None and self.frontend.backend is None:
            try:
                self.frontend.came(there)
            except VhostError as error:
                self._netdev.vhost_failed(error)
