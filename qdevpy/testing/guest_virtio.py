# SPDX-License-Identifier: Apache-2.0
"""A virtio driver for :class:`GuestProgram`: modern registers, split rings, polled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qdevpy.virtio import defs, pci_modern
from qdevpy.virtio.pci import COMMON, DEVICE, MODERN_BAR, NOTIFY

if TYPE_CHECKING:
    from qdevpy.testing.guest import GuestProgram

SIZE = 8  #: entries of the ring
NEXT, WRITE = 1, 2


class GuestVirtIO:
    """A virtio-pci function and the first of its queues, driven by a guest program.

    :param slot: where it is on PCI bus 0
    :param features: what the driver accepts beside VERSION_1
    :ivar config: address of the device's config space
    """

    def __init__(self, program: GuestProgram, slot: int, features: int = 0) -> None:
        self._program = program
        self._bar = program.place_bar(slot, MODERN_BAR, wide=True)
        self.config = self._bar + DEVICE
        self._desc = program.room(16 * SIZE, 16)
        self._avail = program.room(6 + 2 * SIZE, 2)
        self._used = program.room(6 + 8 * SIZE, 4)
        self._offered = 0
        self._start(features | 1 << defs.F_VERSION_1)

    def _write(self, register: int, value: int, size: int) -> None:
        self._program.store(self._bar + COMMON + register, value, size)

    def _start(self, features: int) -> None:
        """Virtio 1.2, 3.1.1, with queue 0."""
        status = 0
        self._write(pci_modern.DEVICE_STATUS, 0, 1)
        for bit in (defs.STATUS_ACKNOWLEDGE, defs.STATUS_DRIVER):
            status |= bit
            self._write(pci_modern.DEVICE_STATUS, status, 1)
        for half in (0, 1):
            self._write(pci_modern.DRIVER_FEATURE_SELECT, half, 4)
            self._write(pci_modern.DRIVER_FEATURE, features >> 32 * half & 0xFFFF_FFFF, 4)
        status |= defs.STATUS_FEATURES_OK
        self._write(pci_modern.DEVICE_STATUS, status, 1)
        self._program.expect(self._bar + COMMON + pci_modern.DEVICE_STATUS, status, 1)
        self._write(pci_modern.QUEUE_SELECT, 0, 2)
        self._write(pci_modern.QUEUE_SIZE, SIZE, 2)
        rings = (
            (pci_modern.QUEUE_DESC, self._desc),
            (pci_modern.QUEUE_DRIVER, self._avail),
            (pci_modern.QUEUE_DEVICE, self._used),
        )
        for register, address in rings:
            self._write(register, address, 8)
        self._write(pci_modern.QUEUE_ENABLE, 1, 2)
        self._write(pci_modern.DEVICE_STATUS, status | defs.STATUS_DRIVER_OK, 1)

    def request(self, readable: bytes, room: int, written: int) -> int:
        """Offer READABLE and ROOM bytes for the device, kick, wait, and expect that it says it wrote WRITTEN.

        :returns: the address of the room
        """
        program = self._program
        assert self._offered < SIZE, f"{SIZE} requests at most"
        source, target = program.room(max(len(readable), 1)), program.room(max(room, 1))
        program.store_bytes(source, readable)
        for index, (address, length, flags) in enumerate(((source, len(readable), NEXT), (target, room, WRITE))):
            at = self._desc + 16 * index
            program.store(at, address, 8)
            program.store(at + 8, length)
            program.store(at + 12, flags, 2)
            program.store(at + 14, 1, 2)
        program.store(self._avail + 4 + 2 * self._offered, 0, 2)
        self._offered += 1
        program.store(self._avail + 2, self._offered, 2)
        program.store(self._bar + NOTIFY, 0, 2)
        program.wait_for(self._used + 2, self._offered, 2)
        program.expect(self._used + 4 + 8 * (self._offered - 1) + 4, written)
        return target
