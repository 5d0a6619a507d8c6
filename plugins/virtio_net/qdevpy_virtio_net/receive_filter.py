# SPDX-License-Identifier: Apache-2.0
"""Which frames the driver wants to see (virtio 1.2, 5.1.6.5.1 to 5.1.6.5.3): kept here, applied in C."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qdevpy_virtio_net import numbers as n
from qdevpy_virtio_net._native import ffi, lib

if TYPE_CHECKING:
    from qdevpy.backend.card import ReceiveState, RxState

#: receive mode command -> field of ``struct qn_filter``
MODES = {
    n.CTRL_RX_PROMISC: "promisc",
    n.CTRL_RX_ALLMULTI: "allmulti",
    n.CTRL_RX_ALLUNI: "alluni",
    n.CTRL_RX_NOMULTI: "nomulti",
    n.CTRL_RX_NOUNI: "nouni",
    n.CTRL_RX_NOBCAST: "nobcast",
}
ENTRIES: int = lib.QN_MAC_ENTRIES


class ReceiveFilter:
    """The driver's wishes; each change is in force when the method returns.

    :param dev: ``struct qn_dev *``
    """

    def __init__(self, dev: Any) -> None:
        self._dev = dev
        self._native: Any = ffi.new("struct qn_filter *")
        self._modes = dict.fromkeys(MODES.values(), False)
        # more addresses than the table holds: let all of that sort in, the driver's system sorts them out
        self._unicast_overflow = self._multicast_overflow = False

    def reset(self, mac: bytes) -> None:
        """After power-on everything gets in, until the driver says otherwise."""
        self._modes = dict.fromkeys(MODES.values(), False) | {"promisc": True}
        self._native.mac = mac
        self.set_all_vlans(True)
        self.set_table([], [])

    def set_mode(self, command: int, on: bool) -> bool:
        """A receive mode command; False: there is none of that number."""
        if command not in MODES:
            return False
        self._modes[MODES[command]] = on
        self._apply()
        return True

    def set_mac(self, mac: bytes) -> None:
        """The card's own address."""
        self._native.mac = mac
        self._apply()

    def set_table(self, unicast: Sequence[bytes], multicast: Sequence[bytes]) -> None:
        """Further addresses, six bytes each."""
        self._unicast_overflow = len(unicast) > ENTRIES
        kept = [] if self._unicast_overflow else list(unicast)
        self._multicast_overflow = len(kept) + len(multicast) > ENTRIES
        others = [] if self._multicast_overflow else list(multicast)
        self._native.n_unicast, self._native.n_multicast = len(kept), len(others)
        for i, mac in enumerate([*kept, *others]):
            self._native.table[i] = mac
        self._apply()

    def set_vlan(self, vlan: int, wanted: bool) -> None:
        """Frames with VLAN id 0 to 4095."""
        mask = 1 << vlan % 8
        kept = self._native.vlans[vlan // 8] & ~mask
        self._native.vlans[vlan // 8] = kept | mask if wanted else kept
        self._apply()

    def set_all_vlans(self, wanted: bool) -> None:
        """Every VLAN id."""
        ffi.buffer(self._native.vlans)[:] = (b"\xff" if wanted else b"\0") * 512
        self._apply()

    def state(self, *, all_vlans: bool) -> ReceiveState:
        """For who asks; ALL_VLANS: the driver does not filter by VLAN."""
        from qdevpy.backend.card import ReceiveState

        def state_of(none: str, every: str) -> RxState:
            return "none" if self._modes[none] else "all" if self._modes[every] else "normal"

        unicast = self._native.n_unicast
        table = [bytes(self._native.table[i]) for i in range(unicast + self._native.n_multicast)]
        vlans = [number for number in range(4096) if self._native.vlans[number // 8] >> number % 8 & 1]
        return ReceiveState(
            promiscuous=self._modes["promisc"],
            broadcast=not self._modes["nobcast"],
            unicast=state_of("nouni", "alluni"),
            multicast=state_of("nomulti", "allmulti"),
            vlan="all" if all_vlans else "normal" if vlans else "none",
            overflow=(self._unicast_overflow, self._multicast_overflow),
            mac=bytes(self._native.mac),
            unicast_table=table[:unicast],
            multicast_table=table[unicast:],
            vlan_table=vlans,
        )

    def _apply(self) -> None:
        for mode, on in self._modes.items():
            setattr(self._native, mode, on)
        self._native.alluni = self._modes["alluni"] or self._unicast_overflow
        self._native.allmulti = self._modes["allmulti"] or self._multicast_overflow
        lib.qn_dev_set_filter(self._dev, self._native)
