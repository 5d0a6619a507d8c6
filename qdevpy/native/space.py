# SPDX-License-Identifier: Apache-2.0
"""Port and MMIO address spaces, and the VM lock. The work is done in ``csrc/space.c``."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qdevpy.native.core import ffi, lib

if TYPE_CHECKING:
    from qdevpy.accel.base import IoEvent
    from qdevpy.native.vdev import VDev

log = logging.getLogger(__name__)

Read = Callable[[int, int], int]
Write = Callable[[int, int, int], None]

BUSES = {"pio": lib.QD_PIO, "mmio": lib.QD_MMIO}


@ffi.def_extern(error=0xFFFF_FFFF_FFFF_FFFF)  # type: ignore[untyped-decorator]
def qd_py_read(handle: Any, offset: int, size: int) -> int:
    """A read of a Python region, from C with the VM lock held; a failing device reads as ones."""
    mapping: Mapping = ffi.from_handle(handle)
    try:
        return mapping.read(offset, size) & ((1 << 8 * size) - 1)
    except Exception:  # a device's failure must not end the machine
        log.exception("%s: read of %d bytes at offset %#x", mapping, size, offset)
        return 0xFFFF_FFFF_FFFF_FFFF


@ffi.def_extern()  # type: ignore[untyped-decorator]
def qd_py_write(handle: Any, offset: int, value: int, size: int) -> None:
    """A write to a Python region, from C with the VM lock held."""
    mapping: Mapping = ffi.from_handle(handle)
    try:
        mapping.write(offset, value, size)
    except Exception:  # as above
        log.exception("%s: write of %#x, %d bytes, at offset %#x", mapping, value, size, offset)


class VMLock:
    """The lock that orders device-model state between vCPU exits and the main loop; recursive, a context manager.

    Taken before the GIL (cffi drops that one around the call): never wait for another thread with it held that may
    want either.
    """

    def __init__(self, pointer: Any) -> None:
        self._pointer = pointer

    def __enter__(self) -> VMLock:
        lib.qd_space_lock(self._pointer)
        return self

    def __exit__(self, *exc: object) -> None:
        lib.qd_space_unlock(self._pointer)


class Mapping:
    """A mapped range; made by :meth:`AddressSpace.map`.

    :ivar owner: whose registers they are, for who looks from outside: the object whose method answers, if nobody says else
    """

    def __init__(self, space: AddressSpace, bus: str, base: int, size: int, read: Read, write: Write) -> None:
        self.space = space
        self.bus = bus
        self.base = base
        self.size = size
        self.read = read
        self.write = write
        self.owner: object = getattr(read, "__self__", None)
        self.handle: Any = ffi.new_handle(self)
        self.id = 0

    @property
    def accesses(self) -> int:
        """How many it has answered since it was mapped. With the VM lock held."""
        return lib.qd_space_accesses(self.space.pointer, self.id)

    def unmap(self) -> None:
        """Nobody answers there from now on, as far as this mapping goes. Also from its own callback; may be called twice."""
        if self.id:
            with self.space.lock:
                lib.qd_space_unmap(self.space.pointer, self.id)
                self.space.mappings.discard(self)
                self.id = 0

    def __repr__(self) -> str:
        return f"{self.bus} {self.base:#x}+{self.size:#x}"


class AddressSpace:
    """Who answers at a port or an MMIO address.

    :ivar lock: the VM lock
    :ivar pointer: ``struct qd_space *``
    :ivar on_map: called with every new mapping, with the VM lock held
    """

    def __init__(self) -> None:
        self.pointer: Any = lib.qd_space_new()
        if self.pointer == ffi.NULL:
            raise MemoryError
        self.lock = VMLock(self.pointer)
        self.mappings: set[Mapping] = set()  # keeps the handles alive that C holds
        self.on_map: Callable[[Mapping], None] | None = None

    def map(self, bus: str, base: int, size: int, read: Read, write: Write, *, priority: int = 0) -> Mapping:
        """Have READ(offset, size) and WRITE(offset, value, size) answer at BASE, with the VM lock held.

        Where mappings overlap the higher priority answers, then the later one.

        :param bus: ``"pio"`` or ``"mmio"``
        :param size: bytes
        :raises ValueError: the range is empty or leaves the bus
        """
        mapping = Mapping(self, bus, base, size, read, write)
        with self.lock:
            found = lib.qd_space_map_python(self.pointer, BUSES[bus], base, size, priority, mapping.handle)
            return self._keep(mapping, found)

    def map_notify(
        self,
        bus: str,
        base: int,
        size: int,
        vdev: VDev,
        *,
        multiplier: int | None,
        read: Read,
        write: Write,
        priority: int = 10,
    ) -> Mapping:
        """Map a virtqueue notify register: a write kicks a native queue right in C; READ and WRITE get all else.

        :param multiplier: bytes between queues' registers (4.1.4.4); None: the written value is the queue's index
        :raises ValueError: the range is empty or leaves the bus, or MULTIPLIER is below 2
        """
        mapping = Mapping(self, bus, base, size, read, write)
        how = lib.QD_QUEUE_BY_VALUE if multiplier is None else lib.QD_QUEUE_BY_OFFSET
        with self.lock:
            found = lib.qd_space_map_notify(
                self.pointer, BUSES[bus], base, size, priority, vdev.pointer, how, multiplier or 0, mapping.handle
            )
            return self._keep(mapping, found)

    def map_native(
        self, bus: str, base: int, size: int, ops: Any, opaque: Any, *, read: Read, write: Write, priority: int = 0
    ) -> Mapping:
        """Have C answer: OPS is a ``struct qd_region_ops *``; READ and WRITE only serve the mapping's description.

        :raises ValueError: the range is empty or leaves the bus
        """
        mapping = Mapping(self, bus, base, size, read, write)
        with self.lock:
            return self._keep(mapping, lib.qd_space_map(self.pointer, BUSES[bus], base, size, priority, ops, opaque))

    def _keep(self, mapping: Mapping, found: int) -> Mapping:
        if found < 0:
            raise ValueError(f"{mapping}: cannot be mapped: {os.strerror(-found)}")
        mapping.id = found
        self.mappings.add(mapping)
        if self.on_map is not None:
            self.on_map(mapping)
        return mapping

    def unanswered(self, bus: str) -> int:
        """Accesses on BUS that nobody answered. With the VM lock held."""
        return lib.qd_space_unanswered(self.pointer, BUSES[bus])

    def read(self, bus: str, address: int, size: int) -> int:
        """One read access of 1, 2, 4 or 8 bytes, as a CPU's; all ones where nobody answers."""
        value = ffi.new("uint64_t *")
        lib.qd_space_access(self.pointer, BUSES[bus], address, value, size, False)
        return int(value[0])

    def write(self, bus: str, address: int, value: int, size: int) -> None:
        """One write access of 1, 2, 4 or 8 bytes, as a CPU's."""
        cell = ffi.new("uint64_t *", value & ((1 << 8 * size) - 1))
        lib.qd_space_access(self.pointer, BUSES[bus], address, cell, size, True)

    def add_eventfd(self, event: IoEvent) -> None:
        """Have matching writes signal an eventfd, as KVM_IOEVENTFD does.

        :raises OSError: EEXIST, ENOSPC
        """
        self._check(self._call(lib.qd_space_add_eventfd, event))

    def del_eventfd(self, event: IoEvent) -> None:
        """Undo :meth:`add_eventfd`.

        :raises OSError: ENOENT
        """
        self._check(self._call(lib.qd_space_del_eventfd, event))

    def _call(self, function: Any, event: IoEvent) -> int:
        match = event.datamatch is not None
        with self.lock:
            return int(function(self.pointer, BUSES[event.bus], event.address, event.size, match, event.datamatch or 0, event.fd))

    @staticmethod
    def _check(result: int) -> None:
        if result < 0:
            raise OSError(-result, f"ioeventfd: {os.strerror(-result)} ({errno.errorcode[-result]})")

    def close(self) -> None:
        """Free it; no thread is in it. May be called twice."""
        if self.pointer != ffi.NULL:
            lib.qd_space_free(self.pointer)
            self.pointer = ffi.NULL
            for mapping in self.mappings:
                mapping.id = 0
            self.mappings.clear()
