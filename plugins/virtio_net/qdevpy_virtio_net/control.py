# SPDX-License-Identifier: Apache-2.0
"""The control virtqueue (virtio 1.2, 5.1.6.5): rare commands, so in Python.

A command is class, command and data in readable buffers, and one byte for the answer in writable ones. What
was not negotiated, is malformed or unknown is answered with an error, as the specification wants it.
"""

from __future__ import annotations

import logging
import struct
from typing import TYPE_CHECKING

from qdevpy_virtio_net import numbers as n

if TYPE_CHECKING:
    from qdevpy.virtio.queue import VirtQueue
    from qdevpy_virtio_net.device import VirtIONet

log = logging.getLogger(__name__)

#: longest command: two MAC tables of any sensible length; more is refused unread
MAX_COMMAND = 1 << 16


class ControlQueue:
    """Carries out the driver's commands on one card."""

    def __init__(self, device: VirtIONet) -> None:
        self._device = device
        self._classes = {
            n.CTRL_RX: (n.F_CTRL_RX, self._receive_mode),
            n.CTRL_MAC: (n.F_CTRL_VQ, self._mac),
            n.CTRL_VLAN: (n.F_CTRL_VLAN, self._vlan),
            n.CTRL_ANNOUNCE: (n.F_GUEST_ANNOUNCE, self._announce),
            n.CTRL_MQ: (n.F_MQ, self._queue_pairs),
            n.CTRL_GUEST_OFFLOADS: (n.F_CTRL_GUEST_OFFLOADS, self._offloads),
        }

    def serve(self, queue: VirtQueue) -> None:
        """A ring's worth of what is available."""
        for _ in range(queue.size):
            element = queue.pop()
            if element is None:
                break
            if element.in_len < 1 or element.out_len < 2:
                self._device.mark_broken("control command without room for its class, command or answer")
                return
            done = element.out_len <= MAX_COMMAND and self.command(element.read())
            element.write(bytes([n.OK if done else n.ERR]))
            queue.push(element, 1)
        else:  # another vCPU keeps on adding: let others have the lock
            self._device.machine.loop.call_once_soon(queue.kick)
        queue.flush()

    def command(self, request: bytes) -> bool:
        """One command; False: refused, and nothing has changed."""
        feature, handler = self._classes.get(request[0], (None, None))
        if feature is None or handler is None or not self._device.has_feature(feature):
            log.debug("%s: control class %d is unknown or not negotiated", self._device.label, request[0])
            return False
        return handler(request[1], request[2:])

    def _receive_mode(self, command: int, data: bytes) -> bool:
        """5.1.6.5.1 Packet Receive Filtering."""
        if len(data) != 1:
            return False
        if command > n.CTRL_RX_ALLMULTI and not self._device.has_feature(n.F_CTRL_RX_EXTRA):
            return False
        if not self._device.filter.set_mode(command, bool(data[0])):
            return False
        self._device.filter_changed()
        return True

    def _mac(self, command: int, data: bytes) -> bool:
        """5.1.6.5.2 Setting MAC Address Filtering."""
        if command == n.CTRL_MAC_ADDR_SET:
            if len(data) != 6 or not self._device.has_feature(n.F_CTRL_MAC_ADDR):
                return False
            self._device.set_mac(data)
            return True
        if command != n.CTRL_MAC_TABLE_SET or not self._device.has_feature(n.F_CTRL_RX):
            return False
        unicast, rest = read_table(data)
        multicast, rest = read_table(rest) if rest is not None else (None, None)
        if unicast is None or multicast is None or rest:
            return False
        self._device.filter.set_table(unicast, multicast)
        self._device.filter_changed()
        return True

    def _vlan(self, command: int, data: bytes) -> bool:
        """5.1.6.5.3 VLAN Filtering."""
        if len(data) != 2 or command not in (n.CTRL_VLAN_ADD, n.CTRL_VLAN_DEL):
            return False
        (vlan,) = struct.unpack("<H", data)
        if vlan >= 4096:
            return False
        self._device.filter.set_vlan(vlan, command == n.CTRL_VLAN_ADD)
        self._device.filter_changed()
        return True

    def _announce(self, command: int, data: bytes) -> bool:
        """5.1.6.5.4 Gratuitous Packet Sending."""
        if command != n.CTRL_ANNOUNCE_ACK or data:
            return False
        return self._device.announced()

    def _queue_pairs(self, command: int, data: bytes) -> bool:
        """5.1.6.5.5 Device operation in multiqueue mode."""
        if command != n.CTRL_MQ_VQ_PAIRS_SET or len(data) != 2:
            return False
        return self._device.set_queue_pairs(struct.unpack("<H", data)[0])

    def _offloads(self, command: int, data: bytes) -> bool:
        """5.1.6.5.6.1 Setting Offloads State."""
        if command != n.CTRL_GUEST_OFFLOADS_SET or len(data) != 8:
            return False
        return self._device.set_guest_offloads(struct.unpack("<Q", data)[0])


def read_table(data: bytes) -> tuple[list[bytes] | None, bytes | None]:
    """A MAC table (``le32 entries; u8 macs[entries][6]``) and what follows it; None where it is cut short."""
    if len(data) < 4:
        return None, None
    (entries,) = struct.unpack_from("<I", data)
    end = 4 + 6 * entries
    if end > len(data):
        return None, None
    return [data[i : i + 6] for i in range(4, end, 6)], data[end:]
