# SPDX-License-Identifier: Apache-2.0
"""Boot a machine from the network, once for each word of the command line (``on``, ``off``: ioeventfd); prints what came of it.

SeaBIOS runs the card's option ROM, iPXE, which polls virtio-net: it asks our DHCP server for an address and a file name,
and our TFTP server for the file, and starts it. That is a few bytes which end the machine with a status.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

GOOD = 0x15
#: mov dx, 0x501; mov al, GOOD; out dx, al; hlt
PROGRAM = b"\xba\x01\x05\xb0" + bytes([GOOD]) + b"\xee\xf4"
FILE = "program"
SERVER, CLIENT = bytes([10, 0, 2, 2]), bytes([10, 0, 2, 15])
SERVER_MAC = b"\x52\x54\x00\x00\x00\x02"
BROADCAST = b"\xff" * 6
ARP, IPV4, UDP = 0x0806, 0x0800, 17
DHCP_SERVER, DHCP_CLIENT, TFTP = 67, 68, 69
MAGIC = b"\x63\x82\x53\x63"
DISCOVER, OFFER, REQUEST, ACK = 1, 2, 3, 5

DEFINITION = """
machine: pc
accel: kvm
memory: 64M
boot: {order: n}
netdevs:
  lan: {type: dgram, local.path: ./guest, remote.path: ./server}
chardevs:
  com1: {type: file, path: ./serial.txt}
devices:
  - isa-serial: {chardev: com1}
  - isa-debug-exit: {}
  - virtio-net-pci: {id: nic0, netdev: lan, ioeventfd: %s}
machine-options: {graphics: off}
"""


def checksum(data: bytes) -> int:
    """Of the internet protocols (RFC 1071)."""
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def udp(mac: bytes, to: bytes, source: int, target: int, payload: bytes) -> bytes:
    """A frame with a UDP datagram from the server."""
    datagram = struct.pack(">HHHH", source, target, 8 + len(payload), 0) + payload
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(datagram), 0, 0, 64, UDP, 0, SERVER, to)
    head = head[:10] + checksum(head).to_bytes(2, "big") + head[12:]
    return mac + SERVER_MAC + IPV4.to_bytes(2, "big") + head + datagram


def answer(frame: bytes) -> Iterator[bytes]:
    """The frames that answer a frame of the guest's."""
    mac, kind = frame[6:12], int.from_bytes(frame[12:14], "big")
    if kind == ARP and frame[38:42] == SERVER:
        yield mac + SERVER_MAC + frame[12:20] + b"\0\2" + SERVER_MAC + SERVER + mac + frame[28:32]
    elif kind == IPV4 and frame[23] == UDP:
        start = 14 + (frame[14] & 15) * 4
        source, target, length = struct.unpack_from(">HHH", frame, start)
        payload = frame[start + 8 : start + length]
        if target == DHCP_SERVER:
            yield from dhcp(payload)
        elif target == TFTP and payload[:2] == b"\0\1":  # a read request; its options are refused by silence
            yield udp(mac, CLIENT, TFTP, source, b"\0\3\0\1" + PROGRAM)


def dhcp(request: bytes) -> Iterator[bytes]:
    """Offer or confirm the one address (RFC 2131)."""
    at = request.index(MAGIC) + 4
    options = {}
    while request[at] != 255:
        if request[at]:
            options[request[at]] = request[at + 2 : at + 2 + request[at + 1]]
            at += request[at + 1] + 1
        at += 1
    kind = {DISCOVER: OFFER, REQUEST: ACK}.get(options[53][0])
    if kind is not None:
        head = b"\2" + request[1:4] + request[4:12] + bytes(4) + CLIENT + SERVER + bytes(4) + request[28:44]
        head += bytes(64) + FILE.encode().ljust(128, b"\0")
        words = bytes([53, 1, kind, 54, 4]) + SERVER + b"\x33\4\0\0\x0e\x10" + b"\1\4\xff\xff\xff\0" + b"\3\4" + SERVER + b"\xff"
        yield udp(BROADCAST, b"\xff" * 4, DHCP_SERVER, DHCP_CLIENT, head + MAGIC + words)


def serve(channel: socket.socket, guest: str) -> None:
    """Answer until the socket is closed."""
    while frame := channel.recv(65536):
        for reply in answer(frame):
            try:
                channel.sendto(reply, guest)
            except OSError:  # the guest is gone
                return


def boot(ioeventfd: str) -> None:
    """One boot, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        os.chdir(folder)
        Path("machine.yaml").write_text(DEFINITION % ioeventfd)
        channel.bind("server")
        thread = threading.Thread(target=serve, args=(channel, "guest"), daemon=True)
        thread.start()
        done = subprocess.run(
            [sys.executable, "-m", "qdevpy", "boot", "-v", "machine.yaml"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=110,
        )  # fmt: skip
        channel.shutdown(socket.SHUT_RDWR)
        thread.join()
        print(Path("serial.txt").read_text(errors="replace")[-600:])
        print(done.stdout)
        print(f"ioeventfd {ioeventfd}: status {done.returncode}", flush=True)
        os.chdir("/")


if __name__ == "__main__":
    for word in sys.argv[1:]:
        boot(word)
