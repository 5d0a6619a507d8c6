# SPDX-License-Identifier: Apache-2.0
"""``x-query-virtio-rings``: the queues of a virtio device, with what both sides have written into the guest's memory.

QEMU's ``x-query-virtio-queue-status`` has neither flags nor events, and packed rings have more of them; ``qdevpy inspect`` shows
all of it.
"""

from __future__ import annotations

import struct
from typing import Literal, NamedTuple

from qdevpy.errors import GuestAddressError
from qdevpy.monitor.command import Context, UInt16, UInt32, UInt64, command
from qdevpy.monitor.commands.virtio import find_device, is_packed, short_name
from qdevpy.native.memory import GuestMemory
from qdevpy.virtio import defs
from qdevpy.virtio.device import VirtIODevice
from qdevpy.virtio.queue import VirtQueue

#: bytes of an entry of the available ring (2.7.6), and of the used ring (2.7.8)
AVAIL_ENTRY, USED_ENTRY = 2, 8


class RingArea(NamedTuple):
    """What one side writes for the other: the head of an available or used ring, or the event suppression of a packed one.

    ``idx``: of a split ring. ``event``: where the other side is to notify; of a packed ring with its wrap counter in bit 15.
    """

    flags: UInt16
    idx: UInt16 | None = None
    event: UInt16 | None = None


class RingStatus(NamedTuple):
    """A queue that the driver has set up. Addresses are guest-physical; positions as in ``x-query-virtio-queue-status``.

    ``driver``, ``device``: absent where the address is not memory. ``vector``: absent where the driver gave none.
    ``served-by``: an I/O thread's name; absent: Python serves it, on the main loop or in the exit.
    """

    index_: UInt16
    name: str
    state: Literal["idle", "started", "attached"]
    layout: Literal["split", "packed"]
    size: UInt16
    size_max: UInt16
    desc: UInt64
    avail: UInt64
    used: UInt64
    next_avail: UInt16
    next_used: UInt16
    inflight: UInt32
    driver: RingArea | None = None
    device: RingArea | None = None
    vector: UInt16 | None = None
    served_by: str | None = None


class VirtioRings(NamedTuple):
    """All of a device's queues that are set up; ``broken``: why it asks its driver for a reset."""

    name: str
    num_vqs: int
    queues: list[RingStatus]
    broken: str | None = None


def read_area(memory: GuestMemory, address: int, entries: int, *, has_event: bool) -> RingArea | None:
    """The head of a split ring at ADDRESS, and behind its ENTRIES bytes of entries the event index (2.7.6, 2.7.8)."""
    try:
        flags, idx = struct.unpack("<HH", memory.read(address, 4))
        event = struct.unpack("<H", memory.read(address + 4 + entries, 2))[0] if has_event else None
    except GuestAddressError:
        return None
    return RingArea(flags, idx, event)


def read_suppression(memory: GuestMemory, address: int) -> RingArea | None:
    """An event suppression structure (2.8.14)."""
    try:
        event, flags = struct.unpack("<HH", memory.read(address, 4))
    except GuestAddressError:
        return None
    return RingArea(flags & 3, event=event)


def ring_areas(device: VirtIODevice, queue: VirtQueue) -> tuple[RingArea | None, RingArea | None]:
    """The driver's, then the device's."""
    memory = device.machine.memory
    if is_packed(device):
        return read_suppression(memory, queue.avail), read_suppression(memory, queue.used)
    has_event = device.has_feature(defs.F_RING_EVENT_IDX)
    return (
        read_area(memory, queue.avail, AVAIL_ENTRY * queue.size, has_event=has_event),
        read_area(memory, queue.used, USED_ENTRY * queue.size, has_event=has_event),
    )


def ring_status(device: VirtIODevice, queue: VirtQueue) -> RingStatus:
    """One queue."""
    driver, own = ring_areas(device, queue)
    next_avail, next_used = queue.positions
    return RingStatus(
        index_=queue.index,
        name=queue.name,
        state=queue.state.value,
        layout="packed" if is_packed(device) else "split",
        size=queue.size,
        size_max=queue.size_max,
        desc=queue.desc,
        avail=queue.avail,
        used=queue.used,
        next_avail=next_avail,
        next_used=next_used,
        inflight=queue.inflight,
        driver=driver,
        device=own,
        vector=None if queue.vector == defs.NO_VECTOR else queue.vector,
        served_by=queue.iothread.name if queue.is_native and queue.iothread is not None else None,
    )


@command("x-query-virtio-rings", features=("unstable",))
def x_query_virtio_rings(ctx: Context, *, path: str) -> VirtioRings:
    """Addresses, positions, flags and events of a device's queues; those of a running one are of a moment."""
    device = find_device(ctx.machine, path)
    rings = [ring_status(device, queue) for queue in device.queues if queue.enabled]
    return VirtioRings(short_name(device), len(device.queues), rings, device.broken)


COMMANDS = (x_query_virtio_rings,)
