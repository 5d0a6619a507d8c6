# SPDX-License-Identifier: Apache-2.0
"""How long a device has each chain of a queue, and the bytes that go which way (``qd_meter.h``)."""

from __future__ import annotations

from typing import Any

from qdevpy.native.core import ffi, lib


class Meter:
    """Measures one queue from its making to :meth:`remove`. All with the VM lock held.

    :param vq: ``struct qd_vq *``; a queue that is closed takes the meter off by itself
    :raises MemoryError: the host has none left
    """

    def __init__(self, vq: Any) -> None:
        self._vq = vq
        self._meter = ffi.new("struct qd_meter *")
        lib.qd_meter_init(self._meter)
        if lib.qd_vq_add_tap(vq, ffi.addressof(self._meter, "tap")):
            raise MemoryError

    def remove(self) -> None:
        """Take it off the queue, which is not closed."""
        lib.qd_vq_remove_tap(self._vq, ffi.addressof(self._meter, "tap"))

    @property
    def read_bytes(self) -> int:
        """What drivers gave the device to read."""
        return int(self._meter.read_bytes)

    @property
    def written_bytes(self) -> int:
        """What the device wrote."""
        return int(self._meter.written_bytes)

    def latencies(self) -> dict[int, int]:
        """Chains by nanoseconds between pop and push: the lowest value of each bucket, and how many; empty ones left out."""
        counts = ffi.unpack(self._meter.buckets, lib.QD_METER_BUCKETS)
        return {lib.qd_meter_lowest(bucket): count for bucket, count in enumerate(counts) if count}
