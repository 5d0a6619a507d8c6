# SPDX-License-Identifier: Apache-2.0
"""Queues that come to a back end through a relay in C (``native/csrc/relay.h``), which knows what is in flight.

For a back end that may die and come back, and keeps no memory of what it has begun. It costs two hops over an I/O thread.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from qdevpy.errors import QdevpyError
from qdevpy.native.core import ffi, lib
from qdevpy.vhost.handover import Handover, ring_addresses
from qdevpy.vhost.messages import Region, RingAddresses
from qdevpy.virtio import defs
from qdevpy.virtio.queue import NativeHandler

if TYPE_CHECKING:
    from qdevpy.virtio.device import VirtIODevice
    from qdevpy.virtio.queue import VirtQueue

#: "guest-physical" address of the shadow rings: beyond what any guest has; no descriptor can name it
SHADOW_GPA = 1 << 52


class Relayed(Handover):
    """The relays of one device's first COUNT queues.

    :param broken: called with the index of a queue whose back end used what was not in flight
    :raises QdevpyError: the host has no memory or descriptors left
    """

    #: the rest is between the driver and the relay
    features = 1 << defs.F_RING_INDIRECT_DESC | 1 << defs.F_VERSION_1 | 1 << defs.F_ACCESS_PLATFORM
    withheld = Handover.withheld | 1 << defs.F_RING_PACKED | 1 << defs.F_IN_ORDER

    def __init__(self, device: VirtIODevice, count: int, broken: Callable[[int], None]) -> None:
        super().__init__()
        self._device = device
        self._size = count * lib.QD_RELAY_BYTES
        self._fd = os.memfd_create("qdevpy-vhost-rings", os.MFD_CLOEXEC)
        os.ftruncate(self._fd, self._size)
        self._mapped = mmap.mmap(self._fd, self._size, flags=mmap.MAP_SHARED)
        self._start = ffi.from_buffer("uint8_t[]", self._mapped, require_writable=True)
        self._errs: list[int] = []
        self._relays: list[Any] = []
        for index in range(count):
            self._add(index, broken)

    def _add(self, index: int, broken: Callable[[int], None]) -> None:
        err = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._errs.append(err)
        relay = lib.qd_relay_new(self._start + index * lib.QD_RELAY_BYTES, err)
        if relay == ffi.NULL:
            raise QdevpyError(f"no relay for queue {index}: {os.strerror(ffi.errno)}")
        self._relays.append(relay)

        def found() -> None:
            os.eventfd_read(err)
            broken(index)

        self._device.machine.loop.add_reader(err, found)

    def close(self) -> None:
        """The queues are idle, and the device's ``queues`` may be gone."""
        for relay in self._relays:
            lib.qd_relay_free(relay)
        self._relays.clear()
        for err in self._errs:
            self._device.machine.loop.remove_reader(err)
            os.close(err)
        self._errs.clear()
        ffi.release(self._start)
        self._mapped.close()
        os.close(self._fd)

    def handler(self, index: int) -> NativeHandler:
        """For :meth:`VirtIODevice.add_queue`; :meth:`bind` follows."""
        return NativeHandler(lib.qd_relay_ops(), self._relays[index])

    def bind(self, queue: VirtQueue) -> None:
        """The queue that has the handler."""
        lib.qd_relay_bind(self._relays[queue.index], queue.pointer)

    # -- Handover

    def regions(self) -> Sequence[Region]:
        """The shadow rings."""
        return [Region(SHADOW_GPA, self._size, self._address(0), self._fd)]

    def _address(self, index: int) -> int:
        return int(ffi.cast("uintptr_t", self._start)) + index * lib.QD_RELAY_BYTES

    def take(self, queue: VirtQueue) -> None:
        """The queue stays the device's, whose core checks its ring; the back end has the relay's eventfds."""
        self._descriptors(queue)
        self.kicks[queue.index] = self._relays[queue.index].kick_fd

    def _descriptors(self, queue: VirtQueue) -> RingAddresses:
        n = queue.size
        return ring_addresses(self._device.machine.memory.address_of, queue, (16 * n, 16), (6 + 2 * n, 2), (6 + 8 * n, 4))

    def give_back(self) -> None:
        """What is in flight stays so."""
        for index in self.kicks:
            lib.qd_relay_disconnect(self._relays[index])
        self.kicks.clear()

    def call(self, index: int) -> int:
        """The relay's."""
        return int(self._relays[index].call.fd)

    def begin(self, queue: VirtQueue, *, successor: bool) -> tuple[RingAddresses, int]:
        """A successor is offered what is in flight, from entry 0 on."""
        base = lib.qd_relay_connect(self._relays[queue.index], queue.size, successor)
        shadow = self._address(queue.index)
        ring = RingAddresses(self._descriptors(queue).desc, shadow, shadow + lib.QD_RELAY_USED)
        return ring, base

    def stopped(self, queue: VirtQueue, base: int) -> None:
        """The relay knows."""
        lib.qd_relay_disconnect(self._relays[queue.index])

    def lost(self, queue: VirtQueue) -> str | None:
        """The relay knows."""
        lib.qd_relay_disconnect(self._relays[queue.index])
        return None

    def forget(self, queue: VirtQueue) -> None:
        """The relay's own part stops first."""
        queue.stop()
        lib.qd_relay_forget(self._relays[queue.index])

    def in_flight(self, index: int) -> int:
        """Requests that the guest waits for."""
        return lib.qd_relay_inflight(self._relays[index])
