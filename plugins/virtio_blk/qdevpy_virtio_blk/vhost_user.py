# SPDX-License-Identifier: Apache-2.0
"""vhost-user-blk: a disk whose requests another program serves; we have its registers and its config space."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import attrs

from qdevpy.errors import RealizeError, VhostError
from qdevpy.qdev import property as prop
from qdevpy.qdev.device import Notification
from qdevpy.virtio import defs
from qdevpy.virtio.device import MAX_QUEUES, VirtIODevice
from qdevpy_virtio_blk import config

if TYPE_CHECKING:
    from qdevpy.backend.chardev import Chardev
    from qdevpy.faults.target import FaultTarget
    from qdevpy.vhost.frontend import Frontend
    from qdevpy.vhost.link import UserLink
    from qdevpy.vhost.user import VhostUser

log = logging.getLogger(__name__)

AUTO_QUEUES = 0xFFFF
#: bytes of the config space, up to write-zeroes (5.2.4)
CONFIG_SIZE = 60
NUM_QUEUES_OFFSET = 34
#: features of the device type (6): all are the back end's
TYPE_FEATURES = (1 << 24) - 1


class VhostUserBlock(VirtIODevice):
    """A disk of a vhost-user back end. As QEMU's ``hw/block/vhost-user-blk.c``."""

    type_name: ClassVar[str] = "vhost-user-blk"
    base_name: ClassVar[str] = "vhost-user-blk"
    description: ClassVar[str] = "disk that another program serves (vhost-user)"
    category: ClassVar[str] = "Storage"
    qemu_description: ClassVar[str | None] = ""
    device_id: ClassVar[int] = defs.ID_BLOCK
    transitional_id: ClassVar[int | None] = 0x1001
    pci_class: ClassVar[int] = 0x010000
    ioeventfd: ClassVar[Notification | None] = Notification.ALLOWED
    pci_properties: ClassVar[Sequence[str]] = ("class", "vectors")

    chardev: Chardev | None = prop.chardev(help="the UNIX socket at whose other end the back end is; required")
    num_queues: int = prop.uint16(AUTO_QUEUES, minimum=1, help="request queues; 65535: one a vCPU, if the back end has them")
    queue_size: int = prop.uint32(128, minimum=4, maximum=1024, help="entries of each queue, a power of two")
    config_wce: bool = prop.bit("features", config.F_CONFIG_WCE, True, help="the driver may switch the write cache")
    discard: bool = prop.bit("features", config.F_DISCARD, True, help="offer VIRTIO_BLK_F_DISCARD, where the back end does")
    write_zeroes: bool = prop.bit(
        "features", config.F_WRITE_ZEROES, True, help="offer VIRTIO_BLK_F_WRITE_ZEROES, where the back end does"
    )
    bootindex: int = prop.int32(-1, minimum=-1, dynamic=True, runtime=True, help="place in the firmware's boot order; -1: none")

    frontend: Frontend = attrs.field(default=None, init=False)
    _link: UserLink = attrs.field(default=None, init=False)
    _config: bytes = attrs.field(default=bytes(CONFIG_SIZE), init=False)
    _writeback: bool = attrs.field(default=True, init=False)

    def fault_target(self) -> FaultTarget:
        """None can happen to it."""
        from qdevpy_virtio_blk.faults import VhostUserTarget

        return VhostUserTarget(self)

    # -- life cycle

    def do_realize(self) -> None:
        """Connect with the back end, and make as many queues as it serves.

        :raises RealizeError: a property, or the back end has not got what is asked for
        :raises BackendError: the chardev is in use or no UNIX socket, or nobody comes
        """
        from qdevpy.vhost.frontend import Frontend
        from qdevpy.vhost.link import UserLink, unix_socket_of
        from qdevpy.vhost.messages import Protocol

        if self.chardev is None or isinstance(self.chardev, str):
            raise RealizeError("chardev is not set; write chardev: and the name of an entry of chardevs:", device=self.label)
        if self.queue_size & (self.queue_size - 1):
            raise RealizeError(f"queue-size {self.queue_size} is not a power of two", device=self.label)
        if self.num_queues != AUTO_QUEUES and self.num_queues > MAX_QUEUES:
            raise RealizeError(f"num-queues {self.num_queues}: expected at most {MAX_QUEUES}", device=self.label)
        self.chardev.take(self.label)
        self.cleanup.callback(self.chardev.release)
        self._link = UserLink(self.machine.loop, self.label, self._came, self._went, self._config_changed)
        self.cleanup.callback(self._link.close)
        self._link.attach(self.chardev)
        self._link.wait(self.hotplugged)
        backend = self._link.backend
        assert backend is not None
        self._check_backend(backend)
        # it may be followed by another, which has to know what was begun, and it takes no note of that itself
        relayed = unix_socket_of(self.chardev).comes_again and not backend.protocol & Protocol.INFLIGHT_SHMFD
        self.frontend = Frontend(self, self.num_queues, TYPE_FEATURES, self._link.hang_up, relayed=relayed)
        self.cleanup.callback(self.frontend.close)
        for index in range(self.num_queues):
            native = self.frontend.handler(index)
            self.frontend.bind(self.add_queue(self.queue_size, native=native, name=f"request.{index}"))
        self.frontend.came(backend)
        self._writeback = self.config_wce

    def _check_backend(self, backend: VhostUser) -> None:
        """The first that comes decides what the device is."""
        if self.num_queues == AUTO_QUEUES:
            self.num_queues = max(1, min(self.machine.cpus, backend.max_queues))
        if self.num_queues > backend.max_queues:
            raise RealizeError(
                f"num-queues {self.num_queues}: the back end serves at most {backend.max_queues}; set num-queues to that, "
                "or give the back end more",
                device=self.label,
            )
        if self.bindings.transport_features() & ~backend.features:
            raise RealizeError("the back end has no VIRTIO_F_VERSION_1; set disable-modern=on", device=self.label)

    def do_reset(self) -> None:
        """Nothing is in flight; the write cache is as the user set it."""
        if self.frontend is not None:
            self.frontend.reset()
        self._writeback = self.config_wce

    def before_serving(self) -> None:
        """The back end's turn."""
        self.frontend.queues_wanted()

    def after_serving(self) -> None:
        """And its end."""
        self.frontend.queues_left()

    # -- the back end

    def _came(self, backend: VhostUser) -> None:
        """Learn the disk's size and shape; a successor takes over.

        :raises VhostError: it has no config space to give, or fewer queues than we have
        """
        fresh = backend.get_config(CONFIG_SIZE)
        if self.frontend is None:  # do_realize goes on with it
            self._config = fresh
            return
        if len(self.queues) > backend.max_queues:
            raise VhostError(f"serves {backend.max_queues} queues; there are {len(self.queues)}")
        self.frontend.came(backend)
        self._set_config(fresh)

    def _went(self) -> None:
        if self.frontend is not None:
            self.frontend.went()

    def _config_changed(self) -> None:
        """The back end says that its config space has changed: another size, most likely."""
        backend = self._link.backend
        if backend is None:
            return
        try:
            self._set_config(backend.get_config(CONFIG_SIZE))
        except VhostError as error:
            self._link.lost(error)

    def _set_config(self, fresh: bytes) -> None:
        changed, self._config = fresh != self._config, fresh
        if changed and self.is_realized:
            self.bindings.notify_config()

    # -- what the driver sees

    @classmethod
    def feature_names(cls) -> Mapping[int, str]:
        """Names of ``config.F_*``."""
        return defs.feature_names("VIRTIO_BLK_", vars(config))

    def host_features(self) -> int:
        """Those of the properties and all that describe the disk, as far as the back end has them."""
        on = [
            config.F_SIZE_MAX,
            config.F_SEG_MAX,
            config.F_GEOMETRY,
            config.F_RO,
            config.F_BLK_SIZE,
            config.F_FLUSH,
            config.F_TOPOLOGY,
        ]
        if len(self.queues) > 1:
            on.append(config.F_MQ)
        return self.frontend.offered(super().host_features() | sum(1 << number for number in on))

    def get_config(self) -> bytes:
        """The back end's, but for the number of queues and the write cache, which are ours."""
        fields = bytearray(self._config)
        fields[config.WRITEBACK_OFFSET] = self._writeback
        fields[NUM_QUEUES_OFFSET : NUM_QUEUES_OFFSET + 2] = len(self.queues).to_bytes(2, "little")
        return bytes(fields)

    def set_config(self, offset: int, data: bytes) -> None:
        """The driver may write ``writeback``, where that was negotiated (5.2.4); the back end carries it out."""
        place = config.WRITEBACK_OFFSET - offset
        if not 0 <= place < len(data) or not self.has_feature(config.F_CONFIG_WCE):
            return
        writeback = data[place] != 0
        if writeback != self._writeback:
            self._writeback = writeback
            self._tell_writeback()

    def _tell_writeback(self) -> None:
        backend = self._link.backend
        if backend is None:
            return
        try:
            backend.set_config(config.WRITEBACK_OFFSET, bytes([self._writeback]))
        except VhostError as error:
            self._link.lost(error)
