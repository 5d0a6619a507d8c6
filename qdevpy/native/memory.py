# SPDX-License-Identifier: Apache-2.0
"""Guest memory: memfds, mapped shared, so that vhost-user back ends and KVM see the same pages."""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import attrs

from qdevpy.errors import GuestAddressError, QdevpyError
from qdevpy.native.core import ffi, lib

if TYPE_CHECKING:
    from qdevpy.native.overlay import HostPages, Overlay

#: numbers that one access reads or writes: bytes, and their format
WORDS: dict[int, Literal["H", "I", "Q"]] = {2: "H", 4: "I", 8: "Q"}
#: memory that a CPU reaches without leaving the guest: guest-physical address, bytes, address in this process,
#: and whether it may be written (else a write leaves the guest)
Slot = tuple[int, int, int, bool]


class RamRegion(NamedTuple):
    """A contiguous piece of guest RAM.

    :ivar gpa: first guest-physical address
    :ivar size: bytes
    :ivar hva: address of the same bytes in this process
    :ivar fd: the memfd; its offset 0 is ``gpa``
    :ivar data: the bytes, writable
    """

    gpa: int
    size: int
    hva: int
    fd: int
    name: str
    data: memoryview = attrs.field(repr=False)


class GuestMemory:
    """The guest's physical memory. Filled before the first vCPU runs, and fixed from then on.

    :ivar pointer: ``struct qd_mem *`` for the core and for plugins' C
    :ivar overlays: what CPUs see instead, the later over the earlier; see :mod:`.overlay`
    :ivar on_overlays_changed: who runs the CPUs, once there are any
    """

    def __init__(self) -> None:
        self.pointer: Any = ffi.new("struct qd_mem *")
        self._regions: list[RamRegion] = []
        self._maps: list[tuple[mmap.mmap, Any]] = []
        self._pages: list[HostPages] = []
        self.overlays: tuple[Overlay, ...] = ()
        self.on_overlays_changed: Callable[[], None] | None = None

    @property
    def regions(self) -> Sequence[RamRegion]:
        """All RAM, in the order it was added."""
        return self._regions

    @property
    def size(self) -> int:
        """Bytes of RAM."""
        return sum(region.size for region in self._regions)

    def add_ram(self, gpa: int, size: int, name: str = "ram") -> RamRegion:
        """Add SIZE bytes at GPA, both multiples of 4096; pages are allocated when first touched.

        :raises QdevpyError: the host has not got the address space, or there are too many regions
        """
        assert gpa % 4096 == size % 4096 == 0 < size, f"RAM at {gpa:#x}, {size:#x} bytes: not whole pages"
        assert not any(gpa < r.gpa + r.size and r.gpa < gpa + size for r in self._regions), f"RAM at {gpa:#x} overlaps"
        if self.pointer.n == lib.QD_MEM_MAX:
            raise QdevpyError(f"memory: more than {lib.QD_MEM_MAX} pieces of RAM")
        fd = os.memfd_create(f"qdevpy-{name}", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, size)
            mapped = mmap.mmap(fd, size, flags=mmap.MAP_SHARED)
        except (OSError, ValueError) as error:
            os.close(fd)
            raise QdevpyError(f"memory: the host gives no {size >> 20} MiB: {error}; set a smaller 'memory:'") from error
        for hint in (mmap.MADV_DONTDUMP, mmap.MADV_HUGEPAGE):
            with suppress(OSError):  # only a hint
                mapped.madvise(hint)
        start = ffi.from_buffer("uint8_t[]", mapped, require_writable=True)
        self._maps.append((mapped, start))
        region = RamRegion(gpa, size, int(ffi.cast("uintptr_t", start)), fd, name, memoryview(mapped))
        self._regions.append(region)
        entry = self.pointer.ram[self.pointer.n]
        entry.gpa, entry.size, entry.hva = gpa, size, start
        self.pointer.n += 1
        return region

    def view(self, gpa: int, n: int) -> memoryview:
        """A writable view of N bytes at GPA.

        :raises GuestAddressError: any of them is not RAM
        """
        for region in self._regions:
            offset = gpa - region.gpa
            if 0 <= offset < region.size and 0 <= n <= region.size - offset:
                return region.data[offset : offset + n]
        raise GuestAddressError(gpa, n)

    def address_of(self, gpa: int, n: int) -> int:
        """Where N bytes at GPA are in this process.

        :raises GuestAddressError: any of them is not RAM, or they are in several pieces of it
        """
        for region in self._regions:
            offset = gpa - region.gpa
            if 0 <= offset < region.size and 0 <= n <= region.size - offset:
                return region.hva + offset
        raise GuestAddressError(gpa, n)

    def host_view(self, hva: int, n: int) -> memoryview:
        """A writable view of N bytes at address HVA of this process, which the core has checked to be guest RAM."""
        for region in self._regions:
            offset = hva - region.hva
            if 0 <= offset < region.size:
                return region.data[offset : offset + n]
        raise GuestAddressError(hva, n)

    def read(self, gpa: int, n: int) -> bytes:
        """Copy N bytes out; 2, 4 or 8 in one access, as an index that somebody changes meanwhile has to be read.

        :raises GuestAddressError: any of them is not RAM
        """
        view = self.view(gpa, n)
        word = WORDS.get(n)
        if word is not None:  # memcpy() takes two bytes one by one, and may get halves of two numbers
            number: int = view.cast(word)[0]
            return number.to_bytes(n, sys.byteorder)
        return bytes(view)

    def write(self, gpa: int, data: bytes | bytearray | memoryview) -> None:
        """Copy DATA in; 2, 4 or 8 bytes in one access, as in :meth:`read`.

        :raises GuestAddressError: any of the bytes would not be RAM
        """
        view = self.view(gpa, len(data))
        word = WORDS.get(len(data))
        if word is not None:
            view.cast(word)[0] = int.from_bytes(data, sys.byteorder)
        else:
            view[:] = data

    # -- what CPUs see

    def add_pages(self, content: bytes) -> HostPages:
        """Pages for overlays to show; they are freed with the memory, if not before."""
        from qdevpy.native.overlay import HostPages

        pages = HostPages(content)
        self._pages.append(pages)
        return pages

    def remove_pages(self, pages: HostPages) -> None:
        """Free pages that no overlay shows any more."""
        if pages in self._pages:
            self._pages.remove(pages)
            pages.close()

    def change_overlays(self, *, remove: Iterable[Overlay] = (), add: Iterable[Overlay] = ()) -> None:
        """Take overlays away and put others on top, in one step. Whole pages. With the VM lock held."""
        gone = list(remove)
        added = tuple(add)
        assert all(over.gpa % 4096 == over.size % 4096 == 0 < over.size for over in added), f"{added}: not whole pages"
        self.overlays = tuple(over for over in self.overlays if not any(over is other for other in gone)) + added
        if self.on_overlays_changed is not None:
            self.on_overlays_changed()

    def slots(self) -> list[Slot]:
        """The memory that CPUs reach without leaving the guest, by address."""
        if not self.overlays:
            return [(ram.gpa, ram.size, ram.hva, True) for ram in self._regions]
        from qdevpy.native.overlay import flatten

        return flatten(self._regions, self.overlays)

    def cpu_pieces(self, gpa: int, n: int) -> Iterator[tuple[int, memoryview | None, bool, int]]:
        """What a CPU finds at N bytes from GPA, piece by piece: ``(address, bytes or None, may be written, size)``.

        None: not memory; the address space answers there.
        """
        while n > 0:
            data, writable, size = self._cpu_piece(gpa)
            size = min(size, n)
            yield gpa, None if data is None else data[:size], writable, size
            gpa += size
            n -= size

    def _cpu_piece(self, gpa: int) -> tuple[memoryview | None, bool, int]:
        """Bytes from GPA to where something else begins, whether a CPU may write them, and how many they are."""
        edges = [edge for over in self.overlays for edge in (over.gpa, over.gpa + over.size) if edge > gpa]
        edges += [edge for ram in self._regions for edge in (ram.gpa, ram.gpa + ram.size) if edge > gpa]
        size = min(edges, default=1 << 64) - gpa
        for over in reversed(self.overlays):
            if over.gpa <= gpa < over.gpa + over.size:
                return None if over.data is None else over.data[gpa - over.gpa :], over.writable, size
        for ram in self._regions:
            if ram.gpa <= gpa < ram.gpa + ram.size:
                return ram.data[gpa - ram.gpa :], True, size
        return None, False, size

    def clear(self) -> None:
        """All RAM reads as zeros again, and the host has its pages back."""
        for mapped, _ in self._maps:
            mapped.madvise(mmap.MADV_REMOVE)

    def close(self) -> None:
        """Unmap. A view that somebody still holds keeps its bytes alive, and nothing else. May be called twice."""
        self.pointer.n = 0
        self.overlays = ()
        self.on_overlays_changed = None
        for pages in self._pages:
            pages.close()
        self._pages.clear()
        for region in self._regions:
            region.data.release()
            os.close(region.fd)
        self._regions.clear()
        for mapped, start in self._maps:
            ffi.release(start)
            with suppress(BufferError):  # a view is alive; the last one unmaps
                mapped.close()
        self._maps.clear()
