# SPDX-License-Identifier: Apache-2.0
"""vhost-user messages: numbers and layouts (QEMU's docs/interop/vhost-user.rst, which specifies the protocol).

A message is a header (request, flags, bytes of payload) and a payload, in the machine's byte order; descriptors travel beside it.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from typing import NamedTuple

HEADER = struct.Struct("=III")
VERSION, VERSION_MASK = 1, 3
REPLY = 4  #: flag of an answer
NEED_REPLY = 8  #: flag of a request that wants one (REPLY_ACK)

#: of GET_FEATURES: there are protocol features; no virtio feature, never the driver's to see
F_PROTOCOL_FEATURES = 30
#: descriptors beside one message, and regions of one memory table (VHOST_MEMORY_BASELINE_NREGIONS)
MAX_FDS = 8
#: the vring's index has eight bits where a descriptor comes along
MAX_VRINGS = 256
#: instead of a descriptor
NO_FD = 0x100
#: of VRING_ADDR's flags: none; the back end does not log
NO_LOG = 0
#: SET_CONFIG: the driver wrote a field that it may write
CONFIG_WRITABLE = 0
MAX_CONFIG = 256


class Request(enum.IntEnum):
    """What the front end asks, as far as we do."""

    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    SET_MEM_TABLE = 5
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    SET_VRING_ERR = 14
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    SET_BACKEND_REQ_FD = 21
    GET_CONFIG = 24
    SET_CONFIG = 25
    GET_INFLIGHT_FD = 31
    SET_INFLIGHT_FD = 32
    RESET_DEVICE = 34
    SET_STATUS = 39
    GET_STATUS = 40


class BackendRequest(enum.IntEnum):
    """What a back end asks, as far as we answer."""

    CONFIG_CHANGE = 2


class Protocol(enum.IntFlag):
    """Protocol features, as far as we know them."""

    MQ = 1 << 0
    REPLY_ACK = 1 << 3
    BACKEND_REQ = 1 << 5
    CONFIG = 1 << 9
    INFLIGHT_SHMFD = 1 << 12
    RESET_DEVICE = 1 << 13
    STATUS = 1 << 16


U64 = struct.Struct("=Q")
VRING_STATE = struct.Struct("=II")
_VRING_ADDR = struct.Struct("=IIQQQQ")
_REGIONS = struct.Struct("=II")
_REGION = struct.Struct("=QQQQ")
CONFIG = struct.Struct("=III")
INFLIGHT = struct.Struct("=QQHH4x")


class Region(NamedTuple):
    """Guest memory for the back end to map.

    :ivar gpa: guest-physical address; ``hva``: the same bytes in this process, which rings' addresses are given in
    :ivar fd: a memory file; offset 0 is ``gpa``
    """

    gpa: int
    size: int
    hva: int
    fd: int


class RingAddresses(NamedTuple):
    """Where a vring's three parts are, as addresses of this process."""

    desc: int
    avail: int
    used: int


def memory_table(regions: Sequence[Region]) -> bytes:
    """Payload of SET_MEM_TABLE."""
    table = (_REGION.pack(region.gpa, region.size, region.hva, 0) for region in regions)
    return _REGIONS.pack(len(regions), 0) + b"".join(table)


def vring_addresses(index: int, ring: RingAddresses) -> bytes:
    """Payload of SET_VRING_ADDR, which is ``struct vhost_vring_addr`` of the kernel's, too."""
    return _VRING_ADDR.pack(index, NO_LOG, ring.desc, ring.used, ring.avail, 0)
