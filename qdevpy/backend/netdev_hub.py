# SPDX-License-Identifier: Apache-2.0
"""``{type: hubport, hubid: N}``: two cards of one machine, wired to each other, as QEMU's ``-netdev hubport``.

QEMU's hubs have any number of ports; ours have two and are a socket pair, so that no frame passes
through Python. A port whose hub has no other one drops its frames.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import ClassVar

import attrs

from qdevpy.backend.netdev import NetDev, Port, PortKind
from qdevpy.qdev import property as prop


class HubPortNetDev(NetDev):
    """One of the two ports of hub ``hubid``. The first to be opened makes the wire and keeps the other's end for it."""

    type_name: ClassVar[str] = "hubport"
    description: ClassVar[str] = "port of a hub that wires two cards of this machine"
    required: ClassVar[Sequence[str]] = ("hubid",)

    hubid: int = prop.int32(0, help="number of the hub; two ports of one number are wired")

    _ours: socket.socket | None = attrs.field(default=None, init=False)
    _spare: socket.socket | None = attrs.field(default=None, init=False)

    def open(self) -> None:
        """Find the other port, or make the wire.

        :raises BackendError: the hub has two ports already
        """
        others = [port for port in self.machine.backends.values() if isinstance(port, HubPortNetDev) and port.hubid == self.hubid]
        if len(others) > 1:
            names = " and ".join(port.name for port in others)
            raise self.fail(f"hub {self.hubid} wires {names}, and a hub here has two ports; take another hubid")
        if others:
            self._ours, others[0]._spare = others[0]._spare, None
        else:
            self._ours, self._spare = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def close(self) -> None:
        """Hang up."""
        for end in (self._ours, self._spare):
            if end is not None:
                end.close()
        self._ours = self._spare = None

    def port(self, index: int) -> Port | None:
        """Our end; nobody while the hub has no other port."""
        if self._ours is None or self._spare is not None:
            return None
        return Port(PortKind.DGRAM, self._ours.fileno())
