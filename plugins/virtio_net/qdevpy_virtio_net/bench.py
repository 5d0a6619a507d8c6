# SPDX-License-Identifier: Apache-2.0
"""What ``qdevpy bench`` measures of network cards."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from qdevpy.bench.guest import Guest
from qdevpy.bench.measurement import P50, PACKETS, THROUGHPUT, Measurement
from qdevpy.bench.program import clean_environment
from qdevpy.bench.suite import PEER, QDEVPY, Place, Rig, Row, Setting, Start, Suite, Target

#: frames' sizes, and 64 KiB that the host cuts into TCP segments
SIZES = (64, 1500)
LARGE, SEGMENT = 65535, 1448

SETTINGS = {QDEVPY: [Setting("default")], PEER: [Setting("main loop")]}

# linux/sockios.h, linux/if.h
SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8913, 0x8914
IFF_UP = 1


# -- over datagrams


class FloodedGuest(Guest):
    """A guest that gets frames while it is asked to receive.

    :ivar source: what :mod:`qdevpy_virtio_net.flood` is told, before the frame's size
    """

    source: tuple[str, ...] = ()

    def measure(self, step: str) -> Measurement:
        """As any guest, flooded where STEP is to receive."""
        words = dict(word.partition("=")[::2] for word in step.split())
        if words.get("op") != "receive":
            return super().measure(step)
        frame = [words["size"], words.get("segment", "0")]
        command = [sys.executable, "-m", "qdevpy_virtio_net.flood", *self.source, *frame]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=clean_environment()) as flood:
            assert flood.stdout is not None
            flood.stdout.read(1)  # its first word, or nothing where it failed: then the guest gets nothing, and says so
            try:
                return super().measure(step)
            finally:
                flood.kill()


class UDPGuest(Guest):
    """A guest whose frames go to a UDP socket that nobody reads: the kernel takes all of them and drops them."""

    @classmethod
    def of(cls, start: Start) -> UDPGuest:
        """As :meth:`Guest.of`."""
        with ExitStack() as stack:
            sink, sender = (stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2))
            sink.bind(("127.0.0.1", 0))
            sender.connect(sink.getsockname())
            devices = [
                "-netdev",
                f"dgram,id=net,local.type=fd,local.str={sender.fileno()}",
                "-device",
                "virtio-net-pci,netdev=net",
            ]
            guest = cls(start.program, start.rig, devices, start.kernel, inherited=[sender.fileno()])
            guest.keep(stack.pop_all())
            return guest


def _receiver(start: Start) -> FloodedGuest:
    local, remote = start.place.memory / "net.sock", start.place.memory / "peer.sock"
    local.unlink(missing_ok=True)
    addresses = f"local.type=unix,local.path={local},remote.type=unix,remote.path={remote}"
    devices = ["-netdev", f"dgram,id=net,{addresses}", "-device", "virtio-net-pci,netdev=net"]
    guest = FloodedGuest(start.program, start.rig, devices, start.kernel)
    guest.source = ("unix", str(local))
    return guest


def _pair(setting: Setting, place: Place) -> Sequence[str]:
    paths = [place.memory / f"net{number}.sock" for number in range(2)]
    options = []
    for number, path in enumerate(paths):
        path.unlink(missing_ok=True)
        addresses = f"local.type=unix,local.path={path},remote.type=unix,remote.path={paths[1 - number]}"
        options += ["-netdev", f"dgram,id=net{number},{addresses}", "-device", f"virtio-net-pci,netdev=net{number}"]
    return options


def _nothing(setting: Setting, place: Place) -> Sequence[str]:
    return ()


SENDER = Rig("net-dgram-send", _nothing, SETTINGS, session=UDPGuest.of)
RECEIVER = Rig("net-dgram-receive", _nothing, SETTINGS, session=_receiver)
PAIR = Rig("net-dgram-pair", _pair, SETTINGS)


# -- over a tap interface


def _tap(start: Start) -> FloodedGuest:
    name = f"qdb{os.getpid()}"
    devices = ["-netdev", f"tap,id=net,ifname={name},script=no,downscript=no", "-device", "virtio-net-pci,netdev=net"]
    guest = FloodedGuest(start.program, start.rig, devices, start.kernel)
    guest.source = ("tap", name)
    bring_up(name)
    return guest


def bring_up(name: str) -> None:
    """``ip link set NAME up``.

    :raises OSError: not allowed, or no such interface
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as anything:
        request = fcntl.ioctl(anything, SIOCGIFFLAGS, struct.pack("16sH22x", name.encode(), 0))
        flags = struct.unpack_from("16xH", request)[0] | IFF_UP
        fcntl.ioctl(anything, SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), flags))


def why_no_tap(folder: Path) -> str | None:
    """Why this process cannot make tap interfaces; None: it can."""
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return f"/dev/net/tun: {error.strerror}"
    os.close(fd)
    return None if os.geteuid() == 0 else "tap interfaces need root"


TAP = Rig("net-tap", _nothing, SETTINGS, session=_tap, why_not=why_no_tap)


def _frames(op: str, size: int) -> str:
    return f"net op={op} size={size} depth=64 indirect=on" + (f" segment={SEGMENT}" if size == LARGE else "")


def _rows() -> Iterator[Row]:
    yield Row("net-kick", PAIR, "kick sort=1 count=2000", P50)
    for size in SIZES:
        yield Row(f"net-dgram-send-{size}", SENDER, _frames("send", size), PACKETS)
        yield Row(f"net-dgram-receive-{size}", RECEIVER, _frames("receive", size), PACKETS)
        yield Row(f"net-dgram-pair-{size}", PAIR, _frames("pair", size), PACKETS)
    for op in ("send", "receive"):
        for size in SIZES:
            yield Row(f"net-tap-{op}-{size}", TAP, _frames(op, size), PACKETS)
        yield Row(f"net-tap-{op}-64k", TAP, _frames(op, LARGE), THROUGHPUT)


def _targets() -> Iterator[Target]:
    for op, word in (("send", "transmit"), ("receive", "receive")):
        for size in SIZES:
            row = f"net-dgram-{op}-{size}"
            yield Target(f"net {word}, dgram, {size} bytes, packets/s, over QEMU's", row, row, PEER, 1.3, at_least=True)


def suite() -> Suite:
    """Rows and targets of network cards."""
    return Suite(list(_rows()), list(_targets()))
