# SPDX-License-Identifier: Apache-2.0
"""Sends the same frame again and again, as fast as whoever gets it takes it: for ``qdevpy bench``.

python -m qdevpy_virtio_net.flood unix PATH SIZE
python -m qdevpy_virtio_net.flood tap INTERFACE SIZE [SEGMENT]
"""

from __future__ import annotations

import errno
import signal
import socket
import struct
import sys
from contextlib import suppress

READY = "!"
#: seconds, should whoever started it be gone
LONGEST = 60
#: a queue is full: the next frame may find room
FULL = (errno.EAGAIN, errno.ENOBUFS)

ETHERNET, IP, TCP = 14, 20, 20
HEADERS = ETHERNET + IP + TCP

# linux/if_packet.h
SOL_PACKET = 263
PACKET_VNET_HDR = 15
# virtio 1.2, 5.1.6
NEEDS_CHECKSUM, GSO_NONE, GSO_TCPV4 = 1, 0, 1
TCP_CHECKSUM = 16


def frame_of(size: int) -> bytes:
    """A TCP segment of IPv4 of SIZE bytes in all, to an address that no card has, its TCP checksum left to others."""
    ip_length = size - ETHERNET
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, ip_length, 0, 0, 64, 6, 0, bytes([10, 99, 0, 2]), bytes([10, 99, 0, 3]))
    pseudo = _sum(ip[12:20]) + 6 + ip_length - IP
    tcp = struct.pack(">HHIIBBHHH", 9, 9, 0, 0, TCP // 4 << 4, 0x10, 0, _fold(pseudo), 0)
    ip = ip[:10] + struct.pack(">H", ~_fold(_sum(ip)) & 0xFFFF) + ip[12:]
    return (bytes.fromhex("020000000003 020000000002 0800") + ip + tcp).ljust(size, b"\0")[:size]


def offload_header(segment: int) -> bytes:
    """``struct virtio_net_hdr``: cut into TCP segments of SEGMENT bytes; 0: nothing is left to do."""
    if not segment:
        return bytes(10)
    return struct.pack("<BBHHHH", NEEDS_CHECKSUM, GSO_TCPV4, HEADERS, segment, ETHERNET + IP, TCP_CHECKSUM)


def _sum(data: bytes) -> int:
    return sum(struct.unpack(f">{len(data) // 2}H", data))


def _fold(total: int) -> int:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _open(sort: str, where: str, segment: int) -> tuple[socket.socket, bytes]:
    if sort == "unix":
        sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sender.connect(where)
        return sender, b""
    sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sender.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    sender.bind((where, 0))
    return sender, offload_header(segment)


def main(sort: str, where: str, size: str, segment: str = "0") -> None:
    """Say READY, and send until nobody is there any more, for a minute at most."""
    signal.alarm(LONGEST)
    sender, header = _open(sort, where, int(segment))
    data = header + frame_of(int(size))
    send = sender.send
    sys.stdout.write(READY)
    sys.stdout.flush()
    with suppress(ConnectionError):
        while True:
            try:
                send(data)
            except OSError as error:
                if error.errno not in FULL:
                    raise


if __name__ == "__main__":
    main(*sys.argv[1:])
