# SPDX-License-Identifier: Apache-2.0
"""A vhost-user back end: another program, at the other end of a UNIX socket.

::

    VhostUser(socket) --negotiate()--> GET_FEATURES, GET/SET_PROTOCOL_FEATURES, GET_QUEUE_NUM, SET_BACKEND_REQ_FD, SET_OWNER
                      --VhostBackend's methods--> SET_FEATURES, SET_MEM_TABLE, [SET_INFLIGHT_FD], for each vring
                                                  NUM, BASE, ADDR, CALL, ERR, KICK, ENABLE ... GET_VRING_BASE

Specification: QEMU's docs/interop/vhost-user.rst; the order is that of QEMU's front end, which back ends are tested with.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from qdevpy.errors import VhostError
from qdevpy.vhost import messages
from qdevpy.vhost.backend import Inflight, VhostBackend, Vring
from qdevpy.vhost.backend_requests import BackendRequests
from qdevpy.vhost.channel import Channel
from qdevpy.vhost.messages import MAX_FDS, MAX_VRINGS, NO_FD, U64, VRING_STATE, Protocol, Region, Request

#: protocol features that we make use of
WANTED = (
    Protocol.MQ
    | Protocol.REPLY_ACK
    | Protocol.BACKEND_REQ
    | Protocol.CONFIG
    | Protocol.INFLIGHT_SHMFD
    | Protocol.RESET_DEVICE
    | Protocol.STATUS
)


class VhostUser(VhostBackend):
    """One connection; when it ends, the next has an object of its own.

    :param connection: the connected socket; ours to close
    :param config_changed: called when the back end says that the config space has changed; from inside another request, too
    :ivar protocol: protocol features in use
    """

    def __init__(self, connection: socket.socket, config_changed: Callable[[], None]) -> None:
        self.channel = Channel(connection)
        self.protocol = Protocol(0)
        self.backend_requests: BackendRequests | None = None
        self._config_changed = config_changed
        self._cleanup = ExitStack()
        self._cleanup.callback(self.channel.close)

    def close(self) -> None:
        """Hang up."""
        self._cleanup.close()

    # -- negotiation

    def negotiate(self) -> None:
        """Everything that a new connection begins with.

        :raises VhostError: as all methods
        """
        self.features = self._ask_u64(Request.GET_FEATURES)
        if self._has_protocol_features:
            offered = self._ask_u64(Request.GET_PROTOCOL_FEATURES)
            wanted = Protocol(offered & WANTED)
            self.channel.request(Request.SET_PROTOCOL_FEATURES, U64.pack(wanted))
            self.protocol = wanted
        if self.protocol & Protocol.MQ:
            self.max_queues = self._ask_u64(Request.GET_QUEUE_NUM)
        if self.protocol & Protocol.BACKEND_REQ:
            self._offer_backend_requests()
        self._tell(Request.SET_OWNER)

    @property
    def _has_protocol_features(self) -> bool:
        return bool(self.features >> messages.F_PROTOCOL_FEATURES & 1)

    def _offer_backend_requests(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        with theirs:
            self.backend_requests = requests = BackendRequests(ours, self._config_changed)
            self._cleanup.callback(requests.close)
            self.channel.aside = (requests.fileno(), self._serve_backend)
            self._tell(Request.SET_BACKEND_REQ_FD, fds=[theirs.fileno()])

    def _serve_backend(self) -> None:
        assert self.backend_requests is not None
        if not self.backend_requests.serve():
            self.channel.aside = None

    # -- messages

    def _tell(self, what: Request, payload: bytes = b"", fds: Sequence[int] = ()) -> None:
        self.channel.request(what, payload, fds, acknowledged=bool(self.protocol & Protocol.REPLY_ACK))

    def _ask_u64(self, what: Request) -> int:
        value: int = U64.unpack(self.channel.ask(what, size=U64.size))[0]
        return value

    # -- VhostBackend

    def set_features(self, features: int) -> None:
        """With the bit of the protocol's, where there are protocol features: without it rings would start enabled."""
        protocol = self.features & 1 << messages.F_PROTOCOL_FEATURES
        self._tell(Request.SET_FEATURES, U64.pack(features | protocol))

    def set_memory(self, regions: Sequence[Region]) -> None:
        """SET_MEM_TABLE; at most 8 regions."""
        if len(regions) > MAX_FDS:
            raise VhostError(f"cannot be given {len(regions)} pieces of guest memory; {MAX_FDS} at most")
        self._tell(Request.SET_MEM_TABLE, messages.memory_table(regions), [region.fd for region in regions])

    def start_vring(self, index: int, vring: Vring) -> None:
        """The kick comes last: it starts the ring."""
        if index >= MAX_VRINGS:
            raise VhostError(f"cannot be given queue {index}; {MAX_VRINGS} at most")
        self._tell(Request.SET_VRING_NUM, VRING_STATE.pack(index, vring.size))
        self._tell(Request.SET_VRING_BASE, VRING_STATE.pack(index, vring.base))
        self._tell(Request.SET_VRING_ADDR, messages.vring_addresses(index, vring.ring))
        self.set_call(index, vring.call)
        self._tell(Request.SET_VRING_ERR, U64.pack(index), [vring.err])
        self._tell(Request.SET_VRING_KICK, U64.pack(index), [vring.kick])

    def set_call(self, index: int, fd: int) -> None:
        """SET_VRING_CALL; -1: interrupts go nowhere."""
        if fd < 0:
            self._tell(Request.SET_VRING_CALL, U64.pack(index | NO_FD))
        else:
            self._tell(Request.SET_VRING_CALL, U64.pack(index), [fd])

    def enable(self, index: int, enabled: bool) -> None:
        """SET_VRING_ENABLE; without protocol features a ring is enabled from its start."""
        if self._has_protocol_features:
            self._tell(Request.SET_VRING_ENABLE, VRING_STATE.pack(index, int(enabled)))

    def stop_vring(self, index: int) -> int:
        """GET_VRING_BASE."""
        answer = self.channel.ask(Request.GET_VRING_BASE, VRING_STATE.pack(index, 0), size=VRING_STATE.size)
        got, base = VRING_STATE.unpack(answer)
        if got != index:
            raise VhostError(f"answers GET_VRING_BASE of queue {index} with that of queue {got}")
        return int(base)

    # -- requests in flight

    def make_inflight(self, queues: int, queue_size: int) -> Inflight | None:
        """GET_INFLIGHT_FD, where there is INFLIGHT_SHMFD."""
        if not self.protocol & Protocol.INFLIGHT_SHMFD:
            return None
        what = messages.INFLIGHT.pack(0, 0, queues, queue_size)
        answer, fd = self.channel.ask_for_fd(Request.GET_INFLIGHT_FD, what, size=len(what))
        size, offset, *_ = messages.INFLIGHT.unpack(answer)
        inflight = Inflight(fd, size, offset, queues, queue_size)
        if not size:
            inflight.close()
            raise VhostError("answers GET_INFLIGHT_FD with no memory at all")
        return inflight

    def use_inflight(self, inflight: Inflight) -> None:
        """SET_INFLIGHT_FD, where there is INFLIGHT_SHMFD."""
        if self.protocol & Protocol.INFLIGHT_SHMFD:
            payload = messages.INFLIGHT.pack(inflight.size, inflight.offset, inflight.queues, inflight.queue_size)
            self._tell(Request.SET_INFLIGHT_FD, payload, [inflight.fd])

    # -- status and config space

    def set_status(self, status: int) -> None:
        """SET_STATUS, where there is STATUS; for a reset RESET_DEVICE, where there is that."""
        if self.protocol & Protocol.STATUS:
            self._tell(Request.SET_STATUS, U64.pack(status))
        if not status and self.protocol & Protocol.RESET_DEVICE:
            self._tell(Request.RESET_DEVICE)

    def get_config(self, size: int) -> bytes:
        """GET_CONFIG: the first SIZE bytes of the config space.

        :raises VhostError: as all methods, and where there is no CONFIG
        """
        if not self.protocol & Protocol.CONFIG:
            raise VhostError("does not give away the config space (protocol feature CONFIG)")
        asked = messages.CONFIG.pack(0, size, messages.CONFIG_WRITABLE)
        answer = self.channel.ask(Request.GET_CONFIG, asked + bytes(size), size=len(asked) + size)
        if messages.CONFIG.unpack_from(answer)[:2] != (0, size):
            raise VhostError("answers GET_CONFIG with another part of the config space")
        return answer[messages.CONFIG.size :]

    def set_config(self, offset: int, data: bytes) -> None:
        """SET_CONFIG: the driver wrote a field that it may write."""
        if self.protocol & Protocol.CONFIG:
            self._tell(Request.SET_CONFIG, messages.CONFIG.pack(offset, len(data), messages.CONFIG_WRITABLE) + data)
