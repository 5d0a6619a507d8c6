# SPDX-License-Identifier: Apache-2.0
"""``{type: vhost-user}``: another program serves a card's queues (DPDK, a switch). As QEMU's ``net/vhost-user.c``.

The netdev has no ports: frames never come here. A card that can hand its queues over asks for :attr:`NetDev.vhost`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import attrs

from qdevpy.backend.netdev import NetDev
from qdevpy.errors import VhostError
from qdevpy.qdev import property as prop
from qdevpy.vhost.link import UserLink

if TYPE_CHECKING:
    from qdevpy.backend.chardev import Chardev
    from qdevpy.vhost.user import VhostUser


class VhostUserNetDev(NetDev):
    """A vhost-user back end behind a chardev; the link is up while it is there."""

    type_name: ClassVar[str] = "vhost-user"
    required: ClassVar[Sequence[str]] = ("chardev",)
    description: ClassVar[str] = "another program serves the card's queues, over a UNIX socket"

    chardev: str | None = prop.string(help="the UNIX socket, an entry of chardevs:, at whose other end it is")
    queues: int = prop.uint16(1, minimum=1, maximum=256, help="queue pairs; more than 1 needs mq=on at the card")
    vhostforce: bool = prop.boolean(help="taken, and without effect: whoever serves the queues, it is never us")

    _chardev: Chardev = attrs.field(default=None, init=False)
    _link: UserLink | None = attrs.field(default=None, init=False)
    _coming: bool = attrs.field(default=False, init=False)
    _failure: VhostError | None = attrs.field(default=None, init=False)

    def open(self) -> None:
        """Wait for the back end, as QEMU does.

        :raises BackendError: there is no such chardev, it is no UNIX socket or in use, or nobody comes
        """
        from qdevpy.backend.chardev import Chardev

        self.link_up = False
        chardev = self.machine.backends.get(("chardevs", self.chardev or ""))
        if not isinstance(chardev, Chardev):
            raise self.fail(f"there is no chardev '{self.chardev}'; write the name of an entry of chardevs:")
        chardev.take(f"netdev '{self.name}'")
        self._chardev = chardev
        self._link = UserLink(self.machine.loop, f"netdev '{self.name}'", self._came, self._went)
        try:
            self._link.attach(chardev)
            self._link.wait(self.hotplugged)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Leave the chardev."""
        if self._link is not None:
            self._link.close()
            self._link = None
            self._chardev.release()

    # -- for cards

    @property
    def ports(self) -> int:
        """Queue pairs that the back end is asked to serve."""
        return self.queues

    @property
    def serves_queues(self) -> bool:
        """Always."""
        return True

    @property
    def summary(self) -> str:
        """As QEMU's."""
        return f"vhost-user0 to {self.chardev}" if self.vhost is not None else ""

    def vhost_failed(self, error: VhostError) -> None:
        """Hang up; the chardev may make another connection, or take one."""
        self.vhost = None
        if self._coming:
            self._failure = error
        elif self._link is not None:
            self._link.hang_up(error)
            self.set_link(False)

    # -- the back end

    def _came(self, backend: VhostUser) -> None:
        if backend.max_queues < self.queues:
            raise VhostError(f"serves {backend.max_queues} queue pairs; {self.queues} are wanted")
        self.vhost = backend
        self._coming, self._failure = True, None
        try:
            self.set_link(True)
        finally:
            self._coming = False
        if self._failure is not None:
            self.link_up = False
            raise self._failure

    def _went(self) -> None:
        self.vhost = None
        self.set_link(False)
