# SPDX-License-Identifier: Apache-2.0
"""A VM with nothing in it but a vCPU, a serial port and ioeventfds: what KVM itself takes for a kick.

    python -m qdevpy_machine.bare KERNEL SERIAL-SOCKET

KERNEL is the demo guest, in bench mode. A write of the number 0, 2 bytes wide, to QUIET signals an eventfd that nobody waits for,
and one to AWAITED (memory or port alike) one that a thread waits for, as the one behind a device's queue does.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections import deque
from contextlib import ExitStack

from qdevpy.accel.base import IoEvent, StopReason
from qdevpy.accel.kvm.accelerator import KVMAccelerator
from qdevpy.definition.model import BootDefinition, Position, Value
from qdevpy.native.memory import GuestMemory
from qdevpy.native.space import AddressSpace
from qdevpy_machine.loader import load_kernel

MEMORY_SIZE = 128 << 20
SERIAL, SERIAL_SIZE = 0x3F8, 8
DATA, LINE_STATUS = 0, 5
DATA_READY, TRANSMITTER_EMPTY = 0x01, 0x60
POWER_OFF = 0x604

#: where kicks go
QUIET = {"mmio": 0xFE00_0000, "pio": 0xD000}
AWAITED = {"mmio": 0xFE00_1000, "pio": 0xD010}
WIDTH = 2


class _Serial:
    """A 16550A as far as the guest looks: its other end is a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received: deque[int] = deque()
        threading.Thread(target=self._receive, daemon=True).start()

    def _receive(self) -> None:
        while data := self._connection.recv(4096):
            self._received.extend(data)

    def read(self, offset: int, size: int) -> int:
        if offset == DATA:
            return self._received.popleft() if self._received else 0
        if offset == LINE_STATUS:
            return TRANSMITTER_EMPTY | (DATA_READY if self._received else 0)
        return 0

    def write(self, offset: int, value: int, size: int) -> None:
        if offset == DATA:
            self._connection.sendall(bytes([value & 0xFF]))


def _wait_for_kicks(fd: int) -> None:
    while True:
        os.eventfd_read(fd)


def run(kernel: str, serial_path: str) -> int:
    """Run the guest until it powers off.

    :returns: exit status
    :raises QdevpyError: no KVM, or the kernel cannot be loaded
    """
    ended = threading.Event()
    stops: list[StopReason] = []

    def stopped(stop: StopReason) -> None:
        stops.append(stop)
        ended.set()

    with ExitStack() as stack:
        connection = stack.enter_context(socket.socket(socket.AF_UNIX))
        connection.connect(serial_path)
        memory, space, accel = GuestMemory(), AddressSpace(), KVMAccelerator()
        stack.callback(memory.close)
        stack.callback(space.close)
        stack.callback(accel.close)
        serial = _Serial(connection)
        memory.add_ram(0, MEMORY_SIZE)
        space.map("pio", SERIAL, SERIAL_SIZE, serial.read, serial.write)
        space.map("pio", POWER_OFF, 4, lambda offset, size: 0, lambda offset, value, size: ended.set())
        accel.open(memory, space)
        accel.on_stop = stopped
        for places in (QUIET, AWAITED):
            for bus, address in places.items():
                fd = os.eventfd(0, os.EFD_CLOEXEC)
                accel.assign_ioevent(IoEvent(bus, address, WIDTH, 0, fd))
                if places is AWAITED:
                    threading.Thread(target=_wait_for_kicks, args=[fd], daemon=True).start()
        accel.create_vcpus(1)
        here = Position(__file__, 0, 0)
        boot = BootDefinition(kernel=Value(kernel, here), cmdline=Value("bench", here))
        accel.set_boot_state(load_kernel(memory, MEMORY_SIZE, boot, rsdp=0))
        accel.resume()
        ended.wait()
        accel.pause()
    for stop in stops:
        print(f"bare machine: {stop.message}", file=sys.stderr)
    return 1 if stops else 0


if __name__ == "__main__":
    sys.exit(run(*sys.argv[1:]))
