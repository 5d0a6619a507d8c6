# SPDX-License-Identifier: Apache-2.0
"""A kernel with vhost-net, as far as ioctls show: it holds callers to the order and the layouts of linux/vhost.h."""

import errno
import os
import struct

from qdevpy.vhost import kernel

FEATURES = 1 << 15 | 1 << 24 | 1 << 28 | 1 << 29 | 1 << 32


class FakeKernel:
    """To be put in place of ``kernel.ioctl`` and ``kernel.open_device``.

    :ivar fails: name of a request that is refused
    """

    def __init__(self, features=FEATURES):
        self.features = features
        self.fails = None
        self.calls = []
        self.devices = {}

    def open_device(self, inherited=None):
        fd = os.eventfd(0) if inherited is None else os.dup(inherited)
        self.devices[fd] = {"owner": False, "rings": {0: {}, 1: {}}, "memory": None, "features": None}
        return fd

    def ioctl(self, fd, what, argument):
        name = kernel._NAMES[what]
        self.calls.append(name)
        if fd not in self.devices:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        device = self.devices[fd]
        if name == self.fails:
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
        if isinstance(argument, bytes) and name != "VHOST_SET_MEM_TABLE":
            assert len(argument) == what >> 16 & 0x3FFF, f"{name}: {len(argument)} bytes"
        if name != "VHOST_SET_OWNER" and name != "VHOST_GET_FEATURES" and not device["owner"]:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        return getattr(self, name)(device, argument)

    def VHOST_SET_OWNER(self, device, argument):  # noqa: N802
        if device["owner"]:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        device["owner"] = True
        return 0

    def VHOST_GET_FEATURES(self, device, argument):  # noqa: N802
        return struct.pack("=Q", self.features)

    def VHOST_SET_FEATURES(self, device, argument):  # noqa: N802
        (device["features"],) = struct.unpack("=Q", argument)
        assert device["features"] & ~self.features == 0
        return argument

    def VHOST_SET_MEM_TABLE(self, device, argument):  # noqa: N802
        count, padding = struct.unpack_from("=II", argument)
        assert padding == 0
        assert len(argument) == 8 + 32 * count
        device["memory"] = [struct.unpack_from("=QQQQ", argument, 8 + 32 * n) for n in range(count)]
        return argument

    def _ring(self, device, argument, layout, name):
        index, *values = struct.unpack(layout, argument)
        ring = device["rings"][index]
        if name not in ("kick", "call", "err", "backend"):
            assert ring.get("backend", -1) < 0, "a ring that is served is not changed"
        ring[name] = values[0] if len(values) == 1 else values
        return argument

    def VHOST_SET_VRING_NUM(self, device, argument):  # noqa: N802
        return self._ring(device, argument, "=II", "num")

    def VHOST_SET_VRING_BASE(self, device, argument):  # noqa: N802
        return self._ring(device, argument, "=II", "base")

    def VHOST_SET_VRING_ADDR(self, device, argument):  # noqa: N802
        return self._ring(device, argument, "=IIQQQQ", "addresses")

    def VHOST_SET_VRING_KICK(self, device, argument):  # noqa: N802
        return self._ring(device, argument, "=Ii", "kick")

    def VHOST_SET_VRING_CALL(self, device, argument):  # noqa: N802
        return self._ring(device, argument, "=Ii", "call")

    def VHOST_SET_VRING_ERR(self, device, argument):  # noqa: N802
        return self._ring(device, argument, "=Ii", "err")

    def VHOST_NET_SET_BACKEND(self, device, argument):  # noqa: N802
        index, tap = struct.unpack("=Ii", argument)
        ring = device["rings"][index]
        if tap >= 0 and not {"num", "base", "addresses", "kick", "call"} <= ring.keys():
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
        return self._ring(device, argument, "=Ii", "backend")

    def VHOST_GET_VRING_BASE(self, device, argument):  # noqa: N802
        index, _ = struct.unpack("=II", argument)
        return struct.pack("=II", index, device["rings"][index]["base"])
