# SPDX-License-Identifier: Apache-2.0
"""Control messages (virtio 1.2, 5.3.6.2): what device and driver tell each other about ports.

::

    driver                               device
    DEVICE_READY 1            -->
                              <--        PORT_ADD        for each port
    PORT_READY 1              -->
                              <--        CONSOLE_PORT    where it is a console
                              <--        RESIZE          where its size is known (F_SIZE)
                              <--        PORT_NAME       where it has one
                              <--        PORT_OPEN 1     where the host's side is open
    PORT_OPEN 1, 0           <-->        PORT_OPEN 1, 0  whenever a side opens or closes
                              <--        PORT_REMOVE     the port is unplugged
"""

from __future__ import annotations

import struct
from typing import NamedTuple

DEVICE_READY = 0
PORT_ADD = 1
PORT_REMOVE = 2
PORT_READY = 3
CONSOLE_PORT = 4
RESIZE = 5
PORT_OPEN = 6
PORT_NAME = 7

_HEADER = struct.Struct("<IHH")
_SIZE = struct.Struct("<HH")
HEADER_SIZE = _HEADER.size


class ControlMessage(NamedTuple):
    """One message.

    :ivar port: the port's number
    :ivar event: one of the numbers above
    :ivar value: 1 or 0; what it says depends on the event
    :ivar payload: what follows the header: a name, a size
    """

    port: int
    event: int
    value: int
    payload: bytes = b""

    @classmethod
    def decode(cls, data: bytes) -> ControlMessage | None:
        """The message in a buffer of the driver's; None where the buffer is too small for one."""
        if len(data) < HEADER_SIZE:
            return None
        port, event, value = _HEADER.unpack_from(data)
        return cls(port, event, value, data[HEADER_SIZE:])

    def encode(self) -> bytes:
        """As it lies in a buffer."""
        return _HEADER.pack(self.port, self.event, self.value) + self.payload


def name_message(port: int, name: str) -> ControlMessage:
    """PORT_NAME. With a terminating zero byte, which the specification leaves out and QEMU sends; drivers cope
    with it, and old ones need it.
    """
    return ControlMessage(port, PORT_NAME, 1, name.encode() + b"\0")


def resize_message(port: int, columns: int, rows: int) -> ControlMessage:
    """RESIZE, in the specification's order (Linux takes the two the other way round up to 6.14)."""
    return ControlMessage(port, RESIZE, 1, _SIZE.pack(columns & 0xFFFF, rows & 0xFFFF))
