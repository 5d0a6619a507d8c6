# SPDX-License-Identifier: Apache-2.0
"""What a network card lets its user see and do, whatever its model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from qdevpy.backend.netdev import NetDev

RxState = Literal["normal", "none", "all"]


class ReceiveState(NamedTuple):
    """Which frames a card receives; addresses are six bytes.

    :ivar unicast, multicast: those of the tables, none, or all
    :ivar vlan: likewise, by VLAN id
    :ivar overflow: (unicast, multicast): the driver named more addresses than the tables hold
    """

    promiscuous: bool
    broadcast: bool
    unicast: RxState
    multicast: RxState
    vlan: RxState
    overflow: tuple[bool, bool]
    mac: bytes
    unicast_table: list[bytes]
    multicast_table: list[bytes]
    vlan_table: list[int]


class NetCard:
    """To be a base of devices that are network cards, beside their device class.

    :ivar netdev: what the card is plugged into, a property of the device
    """

    netdev: NetDev | None

    @property
    def address(self) -> bytes:
        """The MAC address it has now."""
        raise NotImplementedError

    def set_link(self, up: bool) -> None:
        """Plug the cable in or out; the driver is told. With the VM lock held."""
        raise NotImplementedError

    def announce(self) -> bool:
        """Ask the driver to tell the network where it is now; False: it cannot."""
        return False

    def send(self, frame: bytes) -> bool:
        """Send FRAME to the host's side as if the driver had; False: it was dropped."""
        return False

    def receive_state(self) -> ReceiveState | None:
        """The receive filter; None: there is none. The next change of it emits NIC_RX_FILTER_CHANGED."""
        return None
