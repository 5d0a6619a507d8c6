# SPDX-License-Identifier: Apache-2.0
"""Requests of a disk as faults see them: what their header says, and how they are refused (virtio 1.2, 5.2.6)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from qdevpy.faults.target import Description, FaultTarget
from qdevpy_virtio_blk.config import SECTOR

if TYPE_CHECKING:
    from qdevpy.native.tap import Chain

S_IOERR = 1
_HEADER = struct.Struct("<IIQ")
_RANGE = struct.Struct("<QII")
_KINDS = {0: "read", 1: "write", 4: "flush", 8: "get-id", 11: "discard", 13: "write-zeroes"}


class BlockTarget(FaultTarget):
    """A disk. A request of several ranges (discard, write-zeroes) is known by the first one."""

    kinds: ClassVar[Sequence[str]] = tuple(_KINDS.values())
    has_sectors: ClassVar[bool] = True
    offers: ClassVar[Sequence[str]] = ("io-error", "backend-gone")
    status_length: ClassVar[int] = 1

    def describe(self, queue: int, chain: Chain) -> Description:
        """Of its header; of one that is too short nothing is known."""
        header = chain.read(0, _HEADER.size)
        if len(header) < _HEADER.size:
            return Description()
        number, _, sector = _HEADER.unpack(header)
        kind = _KINDS.get(number, "")
        if kind == "read":
            return Description(kind, sector, max(chain.in_len - 1, 0) // SECTOR)
        if kind == "write":
            return Description(kind, sector, (chain.out_len - _HEADER.size) // SECTOR)
        if kind in ("discard", "write-zeroes"):
            ranges = chain.read(_HEADER.size, _RANGE.size)
            if len(ranges) == _RANGE.size:
                sector, sectors, _ = _RANGE.unpack(ranges)
                return Description(kind, sector, sectors)
        return Description(kind)

    def fail(self, queue: int, chain: Chain) -> int:
        """VIRTIO_BLK_S_IOERR in the last byte; all of the writable part counts as written, as for the device itself."""
        chain.write(bytes([S_IOERR]), -1)
        return min(chain.in_len, 0xFFFF_FFFF)

    def short_length(self, chain: Chain) -> int:
        """Half of the data, in whole sectors."""
        return (chain.in_len - 1) // SECTOR // 2 * SECTOR


class VhostUserTarget(FaultTarget):
    """A disk that another program serves."""

    def refusal(self) -> str | None:
        """Always."""
        return "another program serves its queues (vhost-user), so nothing can happen to them here; use virtio-blk-pci"
