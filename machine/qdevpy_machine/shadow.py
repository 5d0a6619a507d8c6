# SPDX-License-Identifier: Apache-2.0
"""Shadow RAM: what CPUs find from 0xC0000 to 0xFFFFF, as the 440FX's PAM registers say (82441FX, 3.2.18).

For each of thirteen segments two bits: reads come from RAM or from the PCI bus, and so do writes. On the PCI bus there
is the firmware's ROM at the end, and nothing else. Unlike QEMU's, a segment that is written to RAM and read from ROM
is just that: firmware may copy itself in place.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from qdevpy.native.overlay import Overlay
from qdevpy_machine import layout

if TYPE_CHECKING:
    from qdevpy.native.overlay import HostPages
    from qdevpy.native.space import Mapping
    from qdevpy.vm.machine import Machine

READ_RAM, WRITE_RAM = 1, 2
ALL_RAM = READ_RAM | WRITE_RAM
#: the configuration registers PAM0 to PAM6
REGISTERS = range(0x59, 0x60)
#: segments' first address and size; segment N is governed by bits 0 and 1 of nibble N + 1, PAM0's low nibble being unused
SEGMENTS = ((0xF_0000, 0x1_0000), *((0xC_0000 + n * 0x4000, 0x4000) for n in range(12)))


class Segment(NamedTuple):
    """A segment as it is now; MAPPING catches writes that go to RAM while reads do not."""

    mode: int
    overlay: Overlay
    mapping: Mapping | None


class ShadowRam:
    """The segments of one machine.

    :param rom: the firmware; its last 128 KiB are seen below 1 MiB. None: nothing is
    """

    def __init__(self, machine: Machine, rom: HostPages | None) -> None:
        self._machine = machine
        self._rom = rom
        self._segments: dict[int, Segment] = {}
        hole = Overlay(layout.VGA_HOLE, SEGMENTS[1][0] - layout.VGA_HOLE)
        machine.memory.change_overlays(add=[hole])

    def update(self, registers: bytes) -> None:
        """Make memory what PAM0 to PAM6 say."""
        gone, new = [], []
        for index in range(len(SEGMENTS)):
            nibble = index + 1
            mode = registers[nibble // 2] >> nibble % 2 * 4 & ALL_RAM
            before = self._segments.get(index)
            if before is not None:
                if before.mode == mode:
                    continue
                gone.append(before.overlay)
                if before.mapping is not None:
                    before.mapping.unmap()
            self._segments[index] = segment = self._make(index, mode)
            new.append(segment.overlay)
        if gone or new:
            self._machine.memory.change_overlays(remove=gone, add=new)

    def _make(self, index: int, mode: int) -> Segment:
        gpa, size = SEGMENTS[index]
        if mode & READ_RAM:
            ram = self._machine.memory.regions[0]
            data = ram.data[gpa : gpa + size]
            return Segment(mode, Overlay(gpa, size, ram.hva + gpa, data, mode == ALL_RAM), None)
        overlay = self._from_rom(gpa, size)
        if mode == WRITE_RAM:
            write = partial(self._write, gpa)
            mapping = self._machine.space.map("mmio", gpa, size, lambda offset, size: -1, write)
            return Segment(mode, overlay, mapping)
        return Segment(mode, overlay, None)

    def _from_rom(self, gpa: int, size: int) -> Overlay:
        offset = 0 if self._rom is None else self._rom.size - (layout.TABLES_END - gpa)
        if self._rom is None or offset < 0 or gpa < layout.TABLES:
            return Overlay(gpa, size)
        return Overlay(gpa, size, self._rom.hva + offset, self._rom.data[offset : offset + size])

    def _write(self, gpa: int, offset: int, value: int, size: int) -> None:
        self._machine.memory.write(gpa + offset, value.to_bytes(size, "little"))
