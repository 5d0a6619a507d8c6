# SPDX-License-Identifier: Apache-2.0
"""A card with the test at the other end, the same way for datagrams, streams and taps."""

import fcntl
import socket
import struct

from net_rig import ALL, NetRig
from net_tap import Tap, ip

from qdevpy.backend.netdev_dgram import DgramNetDev
from qdevpy.backend.netdev_stream import StreamNetDev

PATIENCE = 30.0  # seconds
SIOCOUTQ = 0x5411  # unix(7): bytes that the other end has not read


class SocketWire:
    """One end of a socket pair, the card on the other."""

    netdev, prefix, kind = DgramNetDev, "local", socket.SOCK_DGRAM

    def __init__(self, **options):
        self.peer, theirs = socket.socketpair(socket.AF_UNIX, self.kind)
        self.peer.settimeout(PATIENCE)
        netdev = self.netdev(id="lan")
        netdev.set_property(f"{self.prefix}.type", "fd")
        netdev.set_property(f"{self.prefix}.str", theirs.detach())
        self.rig = NetRig(netdev, **options)

    def send(self, data):
        """To the card; False: it takes no more now."""
        return self._send_now(data) == len(data)

    def _send_now(self, data):
        self.peer.setblocking(False)  # MSG_DONTWAIT is not enough: Python waits where a timeout is set
        try:
            return self.peer.send(data)
        except BlockingIOError:
            return 0
        finally:
            self.peer.settimeout(PATIENCE)

    def all_read(self):
        """Whether the card has taken everything that was sent."""
        return fcntl.ioctl(self.peer, SIOCOUTQ, bytes(4)) == bytes(4)

    def recv(self):
        """The next frame from the card."""
        return self.peer.recv(1 << 17)

    def close(self):
        self.peer.close()
        self.rig.close()


class StreamWire(SocketWire):
    """Frames behind their length; a stream takes part of one, so the rest waits here."""

    netdev, prefix, kind = StreamNetDev, "addr", socket.SOCK_STREAM
    rest = b""

    def send(self, data):
        if not self.finish():
            return False
        self.rest = struct.pack(">I", len(data)) + data
        self.finish()
        return True

    def finish(self):
        """Send what waits; False: not all of it."""
        while self.rest and (sent := self._send_now(self.rest)):
            self.rest = self.rest[sent:]
        return not self.rest

    def recv(self):
        (length,) = struct.unpack(">I", self._exactly(4))
        return self._exactly(length)

    def _exactly(self, size):
        data = b""
        while len(data) < size:
            part = self.peer.recv(size - len(data))
            assert part, "the card hung up"
            data += part
        return data


class TapWire(Tap):
    """An interface that takes long frames, and a packet socket that sees what passes."""

    def __init__(self, features=ALL, **options):
        super().__init__(features=features, up=False, **options)
        ip("link", "set", "t0", "mtu", "16000")
        self.up()
        self.packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)

    def send(self, data):
        return self.packets.send(data) == len(data)

    def recv(self):
        while (data := self.packets.recv(1 << 17))[12:14] != b"\x88\xb5":
            pass  # the host's own
        return data


WIRES = {"dgram": SocketWire, "stream": StreamWire, "tap": TapWire}
