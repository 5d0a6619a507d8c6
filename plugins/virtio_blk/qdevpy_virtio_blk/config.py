# SPDX-License-Identifier: Apache-2.0
"""Numbers of virtio 1.2, section 5.2, and the layout of the disk's config space."""

from __future__ import annotations

import struct
from typing import NamedTuple

# 5.2.3 Feature bits
F_SIZE_MAX = 1
F_SEG_MAX = 2
F_GEOMETRY = 4
F_RO = 5
F_BLK_SIZE = 6
F_FLUSH = 9
F_TOPOLOGY = 10
F_CONFIG_WCE = 11
F_MQ = 12
F_DISCARD = 13
F_WRITE_ZEROES = 14

SECTOR = 512
WRITEBACK_OFFSET = 32

_LAYOUT = struct.Struct("<QII HBB I BBHI BxH III II B3x")


class Geometry(NamedTuple):
    """Cylinders, heads and sectors a track, for who still asks."""

    cylinders: int
    heads: int
    sectors: int

    @classmethod
    def guess(cls, capacity: int) -> Geometry:
        """Of a disk of CAPACITY sectors: 16 heads, 63 sectors, 2 to 16383 cylinders, as QEMU's hd-geometry.c ends up with."""
        return cls(min(max(capacity // (16 * 63), 2), 16383), 16, 63)


class BlockConfig(NamedTuple):
    """``struct virtio_blk_config`` (5.2.4).

    :ivar capacity: in sectors of 512 bytes, like all that is called sectors
    :ivar block_size, physical_block_size, min_io_size, opt_io_size: bytes
    """

    capacity: int
    seg_max: int
    geometry: Geometry
    block_size: int
    physical_block_size: int
    min_io_size: int
    opt_io_size: int
    writeback: bool
    num_queues: int
    max_discard_sectors: int
    discard_sector_alignment: int
    max_write_zeroes_sectors: int
    write_zeroes_may_unmap: bool

    def pack(self) -> bytes:
        """The config space; 60 bytes."""
        return _LAYOUT.pack(
            self.capacity,
            0,  # size_max: not offered
            self.seg_max,
            self.geometry.cylinders,
            self.geometry.heads,
            self.geometry.sectors,
            self.block_size,
            (self.physical_block_size // self.block_size).bit_length() - 1,
            0,  # alignment_offset
            self.min_io_size // self.block_size,
            self.opt_io_size // self.block_size,
            self.writeback,
            self.num_queues,
            self.max_discard_sectors,
            1,  # max_discard_seg
            self.discard_sector_alignment,
            self.max_write_zeroes_sectors,
            1,  # max_write_zeroes_seg
            self.write_zeroes_may_unmap,
        )
