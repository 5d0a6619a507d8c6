# SPDX-License-Identifier: Apache-2.0
"""Which features go together (virtio 1.2, 5.1.3.1), and what they mean to the host."""

from __future__ import annotations

from qdevpy.backend.netdev import Offload
from qdevpy_virtio_net import numbers as n

#: feature -> those of which it needs one
NEEDS = {
    n.F_GSO: (n.F_CSUM,),
    n.F_HOST_TSO4: (n.F_CSUM,),
    n.F_HOST_TSO6: (n.F_CSUM,),
    n.F_HOST_UFO: (n.F_CSUM,),
    n.F_HOST_ECN: (n.F_HOST_TSO4, n.F_HOST_TSO6),
    n.F_GUEST_TSO4: (n.F_GUEST_CSUM,),
    n.F_GUEST_TSO6: (n.F_GUEST_CSUM,),
    n.F_GUEST_UFO: (n.F_GUEST_CSUM,),
    n.F_GUEST_ECN: (n.F_GUEST_TSO4, n.F_GUEST_TSO6),
    n.F_CTRL_RX: (n.F_CTRL_VQ,),
    n.F_CTRL_VLAN: (n.F_CTRL_VQ,),
    n.F_CTRL_RX_EXTRA: (n.F_CTRL_RX,),
    n.F_GUEST_ANNOUNCE: (n.F_CTRL_VQ,),
    n.F_MQ: (n.F_CTRL_VQ,),
    n.F_CTRL_MAC_ADDR: (n.F_CTRL_VQ,),
    n.F_CTRL_GUEST_OFFLOADS: (n.F_CTRL_VQ,),
}

#: features that need a virtio_net_hdr on the host's side -> what the host must offer for it
OFFLOADS = {
    n.F_CSUM: Offload.CSUM,
    n.F_GSO: Offload.CSUM | Offload.TSO4 | Offload.TSO6,
    n.F_HOST_TSO4: Offload.TSO4,
    n.F_HOST_TSO6: Offload.TSO6,
    n.F_HOST_ECN: Offload.ECN,
    n.F_HOST_UFO: Offload.UFO,
    n.F_GUEST_CSUM: Offload.CSUM,
    n.F_GUEST_TSO4: Offload.TSO4,
    n.F_GUEST_TSO6: Offload.TSO6,
    n.F_GUEST_ECN: Offload.ECN,
    n.F_GUEST_UFO: Offload.UFO,
    n.F_CTRL_GUEST_OFFLOADS: Offload.CSUM,
}

#: the guest's side of them: what may reach it undone
GUEST_OFFLOADS = {
    n.F_GUEST_CSUM: Offload.CSUM,
    n.F_GUEST_TSO4: Offload.TSO4,
    n.F_GUEST_TSO6: Offload.TSO6,
    n.F_GUEST_ECN: Offload.ECN,
    n.F_GUEST_UFO: Offload.UFO,
}


def offered(wanted: int, host: Offload) -> int:
    """The features of WANTED that HOST can serve and whose requirements are among them, too."""
    for feature, needed in OFFLOADS.items():
        if needed & host != needed:
            wanted &= ~(1 << feature)
    before = None
    while before != wanted:
        before = wanted
        for feature, any_of in NEEDS.items():
            if not any(wanted >> other & 1 for other in any_of):
                wanted &= ~(1 << feature)
    return wanted


def guest_offloads(features: int) -> Offload:
    """What the driver takes undone, by its features or a bit mask of the same numbers."""
    found = Offload(0)
    for feature, offload in GUEST_OFFLOADS.items():
        if features >> feature & 1:
            found |= offload
    return found
