# SPDX-License-Identifier: Apache-2.0
"""``announce-self``: frames by which switches learn where a card is now. As QEMU's ``net/announce.c``."""

from __future__ import annotations

from collections.abc import Callable

from qdevpy.backend.card import NetCard
from qdevpy.vm.loop import MainLoop, Timer

_BROADCAST = bytes.fromhex("ffffffffffff")
#: RARP "who am I" over Ethernet for IPv4 (RFC 903): hardware, protocol, lengths, operation
_REQUEST = bytes.fromhex("8035 0001 0800 06 04 0003")


def rarp_frame(mac: bytes) -> bytes:
    """A RARP request from and about MAC, as long as the shortest Ethernet frame."""
    return (_BROADCAST + mac + _REQUEST + mac + bytes(4) + mac + bytes(4)).ljust(60, b"\0")


class Announcement:
    """Rounds of announcing, INITIAL milliseconds after the first, then STEP more each time up to LONGEST.

    :param announce_once: one round; called on the main loop's thread with the VM lock held
    :param rounds: how many, the first included
    """

    def __init__(
        self, loop: MainLoop, announce_once: Callable[[], None], *, initial: int, longest: int, rounds: int, step: int
    ) -> None:
        self._loop = loop
        self._announce_once = announce_once
        self._initial, self._longest, self._rounds, self._step = initial, longest, rounds, step
        self._done = 0
        self._timer: Timer | None = None

    @staticmethod
    def announce(card: NetCard) -> None:
        """One card's round."""
        card.send(rarp_frame(card.address))
        card.announce()

    def start(self) -> None:
        """The first round, now."""
        self._announce_once()
        self._done += 1
        if self._done >= self._rounds:
            return
        wait = self._initial + (self._done - 1) * self._step
        if not 0 <= wait <= self._longest:
            wait = self._longest
        self._timer = self._loop.call_later(max(wait, 0) / 1000, self.start)

    def cancel(self) -> None:
        """No further rounds."""
        if self._timer is not None:
            self._timer.cancel()
