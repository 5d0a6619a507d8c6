# SPDX-License-Identifier: Apache-2.0
"""What the tests of split and packed rings against their models share."""

from __future__ import annotations

from typing import Any

from vring_model import BrokenRingError, Chain

from qdevpy.native.core import ffi, lib
from qdevpy.native.memory import GuestMemory
from qdevpy.native.vdev import VDev

RAM = 1 << 20
HIGH = 1 << 32  # a second piece of RAM, so that addresses above 4 GiB and holes occur
#: of the descriptors, of indirect tables, of buffers
DESC, TABLE, DATA = 0x1000, 0x10000, 0x40000


def make_memory() -> GuestMemory:
    memory = GuestMemory()
    memory.add_ram(0, RAM)
    memory.add_ram(HIGH, 0x1000)
    return memory


class TwoMemories:
    """The C ring and a model, each with its memory; a driver writes to both.

    :param features: bits that were negotiated
    """

    def __init__(self, num: int, features: set[int]) -> None:
        self.num = num
        self.c_memory, self.model_memory = make_memory(), make_memory()
        self.vdev = VDev(self.c_memory)
        self.vdev.features = sum(1 << bit for bit in features)
        self.queue: Any = self.vdev.add_queue()
        self.elem = ffi.new("struct qd_elem *")
        self.model: Any = None

    def write(self, gpa: int, data: bytes) -> None:
        self.c_memory.write(gpa, data)
        self.model_memory.write(gpa, data)

    def pop(self) -> Chain | None:
        """Pop from both and compare; what the model said.

        :raises BrokenRingError: both say so
        """
        found = lib.qd_vq_pop(self.queue, self.elem, False)
        try:
            expected = self.model.pop()
        except BrokenRingError:
            assert found == -1
            assert self.queue.ring.error != ffi.NULL
            raise
        if expected is None:
            assert found == 0
            return None
        assert found == 1, ffi.string(self.queue.ring.error)
        assert self.popped() == expected
        return expected

    def popped(self) -> Chain:
        """What C put into the element, as guest addresses."""
        elem = self.elem
        buffers = [self.gpa_of(elem.iov[i]) for i in range(elem.out_num + elem.in_num)]
        readable, writable = buffers[: elem.out_num], buffers[elem.out_num :]
        assert elem.out_len == sum(n for _, n in readable)
        assert elem.in_len == sum(n for _, n in writable)
        return Chain(elem.head, readable, writable)

    def gpa_of(self, iov: Any) -> tuple[int, int]:
        hva = int(ffi.cast("uintptr_t", iov.iov_base))
        region = next(r for r in self.c_memory.regions if r.hva <= hva < r.hva + r.size)
        assert hva + iov.iov_len <= region.hva + region.size
        return hva - region.hva + region.gpa, iov.iov_len

    def close(self) -> None:
        self.vdev.close()
        self.c_memory.close()
        self.model_memory.close()
