# SPDX-License-Identifier: Apache-2.0
"""``{type: tap}``: a tap interface of the host, with offloads and several queues. As QEMU's ``net/tap-linux.c``."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import struct
from typing import ClassVar

import attrs

from qdevpy.backend.netdev import NetDev, Offload, Port, PortKind
from qdevpy.errors import VhostError
from qdevpy.qdev import property as prop

log = logging.getLogger(__name__)

TUN = "/dev/net/tun"

# linux/if_tun.h
TUNSETIFF = 0x400454CA
TUNGETFEATURES = 0x800454CF
TUNSETOFFLOAD = 0x400454D0
TUNGETIFF = 0x800454D2
TUNSETSNDBUF = 0x400454D4
TUNSETVNETHDRSZ = 0x400454D8
TUNSETQUEUE = 0x400454D9
IFF_TAP = 0x0002
IFF_MULTI_QUEUE = 0x0100
IFF_ATTACH_QUEUE = 0x0200
IFF_DETACH_QUEUE = 0x0400
IFF_NO_PI = 0x1000
IFF_VNET_HDR = 0x4000


class TapNetDev(NetDev):
    """A tap interface, made here or beforehand (``ip tuntap add``).

    The interface must be brought up and given an address or a bridge by whoever runs the machine, or by ``script``.
    """

    type_name: ClassVar[str] = "tap"
    description: ClassVar[str] = "tap interface of the host, with offloads"

    ifname: str | None = prop.string(help="name of the interface; default: the kernel's choice")
    script: str = prop.path("no", words=("no",), help="program to run with the interface's name once it is there; no: none")
    downscript: str = prop.path("no", words=("no",), help="program to run with the interface's name at the end; no: none")
    queues: int = prop.uint16(1, minimum=1, maximum=256, help="queue pairs; more than 1 needs mq=on at the card")
    vnet_hdr: bool = prop.boolean(True, name="vnet_hdr", help="pass offload headers; off: the host sums and segments everything")
    sndbuf: int = prop.size(0, help="limit of bytes on their way to the host; 0: none")
    use_vhost: bool = prop.boolean(name="vhost", help="serve the queues in the host's kernel, where it has vhost-net")
    vhostfd: str | None = prop.string(help="vhost: number of an open /dev/vhost-net that we inherited")
    vhostfds: str | None = prop.string(help="vhost: several of them, with colons, one a queue pair")
    vhostforce: bool = prop.boolean(help="vhost: on, and an error where the host's kernel cannot")
    fd: str | None = prop.string(help="number of an open tap descriptor that we inherited")
    fds: str | None = prop.string(help="several of them, with colons, one a queue pair")

    _fds: list[int] = attrs.field(factory=list, init=False)
    _enabled: list[bool] = attrs.field(factory=list, init=False)
    _flags: int = attrs.field(default=0, init=False)
    _offloads: Offload = attrs.field(default=Offload(0), init=False)

    # -- opening

    def open(self) -> None:
        """Open the interface's queues.

        :raises BackendError: options that do not fit together, no permission, or the host refuses
        """
        self._check()
        try:
            if self.fd is not None or self.fds is not None:
                self._adopt(self.fd or self.fds or "")
            else:
                self._create()
            self._enabled = [True] * len(self._fds)
            self._offloads = self._probe_offloads()
            if self.use_vhost or self.vhostforce or self.vhostfd or self.vhostfds:
                self._open_vhost()
            if self.script != "no":
                self._run(self.script)
        except BaseException:
            self._close_fds()
            raise

    def _check(self) -> None:
        if self.vhostfd is not None and self.vhostfds is not None:
            raise self.fail("give either 'vhostfd' or 'vhostfds'")
        if self.fd is not None and self.fds is not None:
            raise self.fail("give either 'fd' or 'fds'")
        if (self.fd or self.fds) and (self.ifname is not None or self.script != "no" or self.queues != 1):
            raise self.fail("'fd' and 'fds' do not go with 'ifname', 'script' or 'queues': the descriptors say it all")
        if self.ifname is not None and (not 0 < len(self.ifname.encode()) < 16 or "/" in self.ifname):
            raise self.fail(f"ifname '{self.ifname}': expected 1 to 15 bytes without '/'")

    def _create(self) -> None:
        flags = IFF_TAP | IFF_NO_PI | (IFF_MULTI_QUEUE if self.queues > 1 else 0)
        name = self.ifname or "tap%d"
        for _ in range(self.queues):
            try:
                fd = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                raise self.fail(self._explain(error, TUN)) from error
            self._fds.append(fd)
            if self.vnet_hdr and struct.unpack("I", fcntl.ioctl(fd, TUNGETFEATURES, bytes(4)))[0] & IFF_VNET_HDR:
                flags |= IFF_VNET_HDR
            try:
                got = fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
            except OSError as error:
                raise self.fail(self._explain(error, name)) from error
            name = got[:16].rstrip(b"\0").decode()
            if self.sndbuf:
                fcntl.ioctl(fd, TUNSETSNDBUF, struct.pack("i", min(self.sndbuf, 0x7FFFFFFF)))
        self.ifname, self._flags = name, flags

    def _adopt(self, numbers: str) -> None:
        for number in numbers.split(":"):
            try:
                fd = int(number)
                got = fcntl.ioctl(fd, TUNGETIFF, bytes(40))
                os.set_blocking(fd, False)
                os.set_inheritable(fd, False)
            except (ValueError, OSError) as error:
                raise self.fail(f"fd '{number}': {error}; expected the number of an open tap descriptor") from error
            self._fds.append(fd)
            self.ifname = got[:16].rstrip(b"\0").decode()
            self._flags = struct.unpack_from("H", got, 16)[0]

    def _open_vhost(self) -> None:
        """Let the host's kernel serve the queues; where it cannot, we do, with a warning.

        :raises BackendError: it cannot, and ``vhostforce`` wants it
        """
        from qdevpy.vhost import kernel

        opened: list[int] = []
        try:
            given = self.vhostfds or self.vhostfd
            numbers: list[str | None] = [*given.split(":")] if given else [None] * len(self._fds)
            if len(numbers) != len(self._fds):
                raise VhostError(f"is given {len(numbers)} descriptors for {len(self._fds)} queue pairs")
            for number in numbers:
                if number is not None and not number.isdecimal():
                    raise VhostError(f"is given as '{number}'; expected the number of an open descriptor")
                opened.append(kernel.open_device(None if number is None else int(number)))
            backend = kernel.VhostKernelNet(opened, self._fds)
            backend.negotiate()
        except (VhostError, OSError) as error:
            for fd in opened:
                os.close(fd)
            why = f"{kernel.DEVICE} {error}" if isinstance(error, VhostError) else f"{kernel.DEVICE}: {error.strerror}"
            if self.vhostforce:
                raise self.fail(f"{why}; load the kernel's module (modprobe vhost_net), or leave vhostforce away") from error
            log.warning(
                "netdev '%s': no vhost: %s; its queues are served by an I/O thread, which works and is slower", self.name, why
            )
            return
        self.vhost = backend

    @staticmethod
    def _explain(error: OSError, name: str) -> str:
        hints = {
            errno.ENOENT: "load the kernel's module: modprobe tun",
            errno.ENODEV: "load the kernel's module: modprobe tun",
            errno.EPERM: "run with CAP_NET_ADMIN, or have it made for you: ip tuntap add NAME mode tap user $USER",
            errno.EACCES: "run with CAP_NET_ADMIN, or get access to /dev/net/tun",
            errno.EBUSY: "another program has it open",
            errno.EINVAL: "it exists with other flags: make it with 'multi_queue' exactly where queues is more than 1",
        }
        hint = hints.get(error.errno or 0)
        return f"cannot open {name}: {error.strerror}" + (f"; {hint}" if hint else "")

    def _probe_offloads(self) -> Offload:
        """What the kernel takes; none without the header that carries it."""
        if not self.vnet_header:
            return Offload(0)
        basic = Offload.CSUM | Offload.TSO4 | Offload.TSO6 | Offload.ECN
        for wanted in (basic | Offload.UFO, basic, Offload.CSUM):
            try:
                fcntl.ioctl(self._fds[0], TUNSETOFFLOAD, wanted)
            except OSError:
                continue
            fcntl.ioctl(self._fds[0], TUNSETOFFLOAD, 0)
            return wanted
        return Offload(0)

    def _run(self, script: str) -> None:
        import subprocess

        try:
            done = subprocess.run([script, str(self.ifname)], check=False, stdin=subprocess.DEVNULL)
        except OSError as error:
            raise self.fail(f"cannot run script {script}: {error.strerror}") from error
        if done.returncode:
            raise self.fail(f"script {script} {self.ifname} ended with status {done.returncode}")

    # -- closing

    def close(self) -> None:
        """Give the interface back; one that was made here goes away."""
        if self._fds and self.downscript != "no":
            from qdevpy.errors import BackendError

            try:
                self._run(self.downscript)
            except BackendError as error:
                log.warning("%s", error)
        self._close_fds()

    def _close_fds(self) -> None:
        if self.vhost is not None:
            self.vhost.close()
            self.vhost = None
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()

    # -- for cards

    @property
    def summary(self) -> str:
        """As QEMU's."""
        if self.fd is not None:
            return f"fd={self.fd}"
        return f"ifname={self.ifname},script={self.script},downscript={self.downscript}"

    @property
    def serves_queues(self) -> bool:
        """Whether the kernel does."""
        return self.vhost is not None

    def vhost_failed(self, error: VhostError) -> None:
        """The kernel does not come back."""
        log.warning("netdev '%s': vhost %s; the link is down", self.name, error)
        self.set_link(False)

    @property
    def ports(self) -> int:
        """One a queue."""
        return max(1, len(self._fds))

    @property
    def vnet_header(self) -> bool:
        """Whether the interface was opened with it."""
        return bool(self._flags & IFF_VNET_HDR)

    @property
    def offloads(self) -> Offload:
        """What the kernel offers."""
        return self._offloads

    def port(self, index: int) -> Port | None:
        """A queue of the interface, unless it is disabled."""
        if index >= len(self._fds) or not self._enabled[index]:
            return None
        return Port(PortKind.TAP, self._fds[index])

    def configure(self, header_length: int, offloads: Offload) -> None:
        """TUNSETVNETHDRSZ and TUNSETOFFLOAD, which are the interface's, so queue 0 speaks for all."""
        if not self.vnet_header or not self._fds:
            return
        try:
            fcntl.ioctl(self._fds[0], TUNSETVNETHDRSZ, struct.pack("i", header_length))
            fcntl.ioctl(self._fds[0], TUNSETOFFLOAD, int(offloads & self._offloads))
        except OSError as error:
            raise self.fail(f"{self.ifname}: cannot set header or offloads: {error.strerror}") from error

    def enable_port(self, index: int, enabled: bool) -> None:
        """TUNSETQUEUE: the kernel spreads flows over enabled queues only."""
        if index == 0 or index >= len(self._fds) or self._enabled[index] == enabled:
            return
        flag = IFF_ATTACH_QUEUE if enabled else IFF_DETACH_QUEUE
        try:
            fcntl.ioctl(self._fds[index], TUNSETQUEUE, struct.pack("16sH22x", b"", flag))
        except OSError as error:
            what = "attach" if enabled else "detach"
            raise self.fail(f"{self.ifname}: cannot {what} queue {index}: {error.strerror}") from error
        self._enabled[index] = enabled

    def peer_gone(self) -> None:
        """Somebody deleted the interface."""
        if self.link_up:
            log.warning("netdev '%s': interface %s is gone", self.name, self.ifname)
            self._enabled = [False] * len(self._fds)
            self.set_link(False)
