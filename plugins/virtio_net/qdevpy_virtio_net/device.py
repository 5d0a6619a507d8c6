# SPDX-License-Identifier: Apache-2.0
"""virtio-net (virtio 1.2, section 5.1): configuration here, frames in C (``csrc/``), commands in ``control.py``."""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from qdevpy.backend.card import NetCard
from qdevpy.backend.netdev import NetDev, Offload, Port
from qdevpy.errors import BackendError, PropertyError, RealizeError
from qdevpy.pci.device import NO_FAILOVER
from qdevpy.qdev import kinds
from qdevpy.qdev import property as prop
from qdevpy.qdev.device import Device, Notification
from qdevpy.virtio import defs
from qdevpy.virtio.device import VirtIODevice
from qdevpy.virtio.vq_mapping import Assignment, iothread_vq_mapping, threads_of_queues
from qdevpy_virtio_net import numbers as n
from qdevpy_virtio_net.features import GUEST_OFFLOADS, guest_offloads, offered

if TYPE_CHECKING:
    from qdevpy.backend.card import ReceiveState
    from qdevpy.faults.target import FaultTarget
    from qdevpy.native.iothread import IOThread
    from qdevpy.virtio.queue import NativeHandler, VirtQueue
    from qdevpy_virtio_net.control import ControlQueue
    from qdevpy_virtio_net.receive_filter import ReceiveFilter
    from qdevpy_virtio_net.vhost import VhostQueues

log = logging.getLogger(__name__)

CTRL_QUEUE_SIZE = 64  # as QEMU's
NO_HASH = "the device does not compute hashes"
NO_RSC = "received segments are put together by the host's tap only (guest_tso4, guest_tso6)"
NO_TIMER = "frames are sent when the driver kicks, never by a timer"
NO_VHOST = "a vhost back end is not told"
NO_BURST = "a kick sends all there is, fairly between queues"
COUNTERS = ("frames", "bytes", "link_down", "filtered", "too_long", "too_short", "host_error")


def _feature(number: int, default: bool, name: str, what: str) -> Any:
    return prop.bit("features", number, default, name=name, help=what)


class VirtIONet(VirtIODevice, NetCard):
    """A network card. Queues: rx0, tx0, rx1, tx1, ..., control (5.1.2)."""

    type_name: ClassVar[str] = "virtio-net-device"
    base_name: ClassVar[str] = "virtio-net"
    description: ClassVar[str] = "virtio network card"
    category: ClassVar[str] = "Network"
    qemu_description: ClassVar[str | None] = ""
    device_id: ClassVar[int] = defs.ID_NET
    pci_class: ClassVar[int] = 0x020000
    pci_romfile: ClassVar[str | None] = "efi-virtio.rom"
    transitional_id: ClassVar[int | None] = 0x1000
    ioeventfd: ClassVar[Notification | None] = Notification.ALLOWED

    csum: bool = _feature(n.F_CSUM, True, "csum", "host completes checksums (tap)")
    guest_csum: bool = _feature(n.F_GUEST_CSUM, True, "guest_csum", "driver may get incomplete checksums (tap)")
    gso: bool = _feature(n.F_GSO, True, "gso", "legacy: host segments everything (tap)")
    guest_tso4: bool = _feature(n.F_GUEST_TSO4, True, "guest_tso4", "driver may get TCP over IPv4 unsegmented (tap)")
    guest_tso6: bool = _feature(n.F_GUEST_TSO6, True, "guest_tso6", "driver may get TCP over IPv6 unsegmented (tap)")
    guest_ecn: bool = _feature(n.F_GUEST_ECN, True, "guest_ecn", "the same with ECN (tap)")
    guest_ufo: bool = _feature(n.F_GUEST_UFO, True, "guest_ufo", "driver may get UDP unfragmented (tap)")
    guest_announce: bool = _feature(n.F_GUEST_ANNOUNCE, True, "guest_announce", "driver announces itself when asked")
    host_tso4: bool = _feature(n.F_HOST_TSO4, True, "host_tso4", "host segments TCP over IPv4 (tap)")
    host_tso6: bool = _feature(n.F_HOST_TSO6, True, "host_tso6", "host segments TCP over IPv6 (tap)")
    host_ecn: bool = _feature(n.F_HOST_ECN, True, "host_ecn", "the same with ECN (tap)")
    host_ufo: bool = _feature(n.F_HOST_UFO, True, "host_ufo", "host fragments UDP (tap)")
    mrg_rxbuf: bool = _feature(n.F_MRG_RXBUF, True, "mrg_rxbuf", "a frame may be spread over several receive buffers")
    status_bit: bool = _feature(n.F_STATUS, True, "status", "tell the driver whether the link is up")
    ctrl_vq: bool = _feature(n.F_CTRL_VQ, True, "ctrl_vq", "control queue")
    ctrl_rx: bool = _feature(n.F_CTRL_RX, True, "ctrl_rx", "receive filter")
    ctrl_vlan: bool = _feature(n.F_CTRL_VLAN, True, "ctrl_vlan", "VLAN filter")
    ctrl_rx_extra: bool = _feature(n.F_CTRL_RX_EXTRA, True, "ctrl_rx_extra", "further receive modes")
    ctrl_mac_addr: bool = _feature(n.F_CTRL_MAC_ADDR, True, "ctrl_mac_addr", "driver may set the address by command")
    ctrl_guest_offloads: bool = _feature(
        n.F_CTRL_GUEST_OFFLOADS, True, "ctrl_guest_offloads", "driver may change its offloads while running (tap)"
    )
    mq: bool = _feature(n.F_MQ, False, "mq", "several queue pairs, as many as the netdev has queues")
    rss: bool = prop.only(kinds.Bit(), False, why=NO_HASH, help="spread received frames over queues by a hash")
    hash: bool = prop.only(kinds.Bit(), False, why=NO_HASH, help="tell the driver each frame's hash")
    guest_rsc_ext: bool = prop.only(
        kinds.Bit(), False, name="guest_rsc_ext", why=NO_RSC, help="put received TCP segments together for Windows"
    )
    rsc_interval: int = prop.only(
        kinds.Integer("uint32", 0, 0xFFFFFFFF), 300000, name="rsc_interval", why=NO_RSC, help="how long to wait for more, in ns"
    )
    mac: bytes | None = prop.macaddr(help="address; default: the next of 52:54:00:12:34:56 and up")
    netdev: NetDev | None = prop.netdev(help="where frames go to and come from; none: nowhere")
    txtimer: int = prop.only(
        kinds.Integer("uint32", 0, 0xFFFFFFFF), 150000, name="x-txtimer", why=NO_TIMER, help="how long to wait for more, in ns"
    )
    txburst: int = prop.only(
        kinds.Integer("int32", -(1 << 31), (1 << 31) - 1), 256, name="x-txburst", why=NO_BURST, help="frames that one kick sends"
    )
    tx: str | None = prop.only(kinds.Str(), None, "bh", why=NO_TIMER, help="when to send what the driver kicked for: bh, at once")
    rx_queue_size: int = prop.uint16(256, minimum=256, maximum=1024, name="rx_queue_size", help="entries, a power of two")
    tx_queue_size: int = prop.uint16(256, minimum=256, maximum=1024, name="tx_queue_size", help="entries, a power of two")
    host_mtu: int = prop.uint16(0, name="host_mtu", help="MTU to tell the driver; 0: none")
    mtu_bypass_backend: bool = prop.only(
        kinds.Bool(),
        True,
        name="x-mtu-bypass-backend",
        why=NO_VHOST,
        help="the MTU is ours to tell",
    )
    speed: int = prop.int32(-1, minimum=-1, help="link speed to tell the driver, in Mbit/s; -1: none")
    duplex: str | None = prop.string(help="duplex to tell the driver: half or full")
    failover: bool = prop.only(kinds.Bool(), False, why=NO_FAILOVER, help="stand in for another card during migration")
    iothread: IOThread | None = prop.link("iothread", help="thread that serves the queues; default: one for all devices")
    iothread_vq_mapping: tuple[Assignment, ...] | None = iothread_vq_mapping(
        help="threads that serve the queues, by number of the pair; not together with iothread"
    )
    bootindex: int = prop.int32(-1, minimum=-1, dynamic=True, runtime=True, help="place in the firmware's boot order; -1: none")

    filter: ReceiveFilter = attrs.field(default=None, init=False)
    #: queue pairs that exist, and those that the driver uses
    pairs: int = attrs.field(default=1, init=False)
    active_pairs: int = attrs.field(default=1, init=False)
    link_wanted: bool = attrs.field(default=True, init=False)
    _current_mac: bytes = attrs.field(default=bytes(6), init=False)
    _offered: int | None = attrs.field(default=None, init=False)
    _announce: bool = attrs.field(default=False, init=False)
    _link: bool = attrs.field(default=True, init=False)
    _filter_asked: bool = attrs.field(default=True, init=False)
    _lib: Any = attrs.field(default=None, init=False)
    _dev: Any = attrs.field(default=None, init=False)
    _native: list[Any] = attrs.field(factory=list, init=False)
    _control: ControlQueue = attrs.field(default=None, init=False)
    vhost: VhostQueues | None = attrs.field(default=None, init=False)

    # -- life cycle

    def do_realize(self) -> None:
        """Take the netdev, make the queues, plug them in.

        :raises PropertyError: a value that makes no sense
        :raises BackendError: the netdev is taken, or refuses
        :raises RealizeError: out of memory or descriptors
        """
        from qdevpy_virtio_net._native import lib
        from qdevpy_virtio_net.control import ControlQueue
        from qdevpy_virtio_net.receive_filter import ReceiveFilter

        self._check()
        self._lib = lib
        self._dev = lib.qn_dev_new()
        self.cleanup.callback(self._free)
        if self.mac is None:
            self.mac = self.machine.next_mac()
        self._current_mac = self.mac
        self.filter = ReceiveFilter(self._dev)
        self.filter.reset(self.mac)
        self._control = ControlQueue(self)
        self._take_netdev()
        self._add_queues()
        self._start_vhost()
        self._plug()
        self._update_link()

    def _check(self) -> None:
        def refuse(name: str, why: str) -> None:
            raise PropertyError(f"property '{name}': {why}", device=self.label, name=name)

        for name in ("rx_queue_size", "tx_queue_size"):
            size = getattr(self, name)
            if size & (size - 1):
                refuse(name, f"'{size}': expected 256, 512 or 1024")
        if self.mac is not None and self.mac[0] & 1:
            refuse("mac", "is a multicast address; the first byte of a card's own address is even")
        if self.duplex not in (None, "half", "full"):
            refuse("duplex", f"'{self.duplex}': expected half or full")
        if self.host_mtu and self.host_mtu < 68:
            refuse("host_mtu", f"'{self.host_mtu}': expected 68 or more (5.1.4.1), or 0")

    def _take_netdev(self) -> None:
        if self.netdev is None:
            log.warning("%s: has no netdev; its frames go nowhere", self.label)
            return
        self.netdev.take(self.label)
        self.cleanup.callback(self.netdev.release)
        self.netdev.attach(self._netdev_changed)
        self.cleanup.callback(self.netdev.detach)
        self.pairs = self.netdev.ports if self.mq and self.ctrl_vq else 1
        for pair in range(1, self.netdev.ports):
            self.netdev.enable_port(pair, False)

    def _add_queues(self) -> None:
        for pair, thread in enumerate(threads_of_queues(self, self.pairs)):
            for rx, name, size in ((True, "rx", self.rx_queue_size), (False, "tx", self.tx_queue_size)):
                self._add_native(rx, f"{name}{pair}", size, thread)
        if self.ctrl_vq:
            self.add_queue(CTRL_QUEUE_SIZE, name="ctrl")

    def _start_vhost(self) -> None:
        """Where the netdev has somebody who serves the queues."""
        if self.netdev is None or not self.netdev.serves_queues:
            return
        from qdevpy_virtio_net.vhost import VhostQueues

        self.vhost = VhostQueues(self, self.netdev)
        self.cleanup.callback(self.vhost.frontend.close)

    def before_serving(self) -> None:
        """The data queues are handed over."""
        if self.vhost is not None:
            self.vhost.frontend.queues_wanted()

    def after_serving(self) -> None:
        """And taken back."""
        if self.vhost is not None:
            self.vhost.frontend.queues_left()

    def _add_native(self, rx: bool, name: str, size: int, thread: IOThread | None) -> None:
        from qdevpy.virtio.queue import NativeHandler
        from qdevpy_virtio_net._native import ffi

        native = self._lib.qn_queue_new(self._dev, rx)
        if native == ffi.NULL:
            raise RealizeError(f"no memory or no file descriptor left for queue {name}", device=self.label)
        self._native.append(native)
        handler: NativeHandler = NativeHandler(
            self._lib.qn_rx_ops() if rx else self._lib.qn_tx_ops(), int(ffi.cast("uintptr_t", native)), thread
        )
        queue = self.add_queue(size, native=handler, name=name)
        self._lib.qn_queue_bind(native, address_of(queue))

    def _free(self) -> None:
        """Queues first: the C core calls the handlers until they are stopped."""
        for queue in self.queues:
            queue.stop()
        for native in self._native:
            self._lib.qn_queue_free(native)
        self._native.clear()
        self._lib.qn_dev_free(self._dev)

    def do_reset(self) -> None:
        """Power-on state: one queue pair, the configured address, everything let in."""
        assert self.mac is not None
        self._current_mac = self.mac
        self._announce = False
        if self.vhost is not None:
            self.vhost.frontend.reset()
        self.filter.reset(self.mac)
        self._set_active_pairs(1)

    # -- features and config space

    @classmethod
    def feature_names(cls) -> Mapping[int, str]:
        """Names of ``numbers.F_*``."""
        return defs.feature_names("VIRTIO_NET_", vars(n))

    def host_features(self) -> int:
        """The bit properties, less what the netdev cannot serve; settled when the device is realized."""
        if self.vhost is not None:  # another back end may have come, which has fewer
            return self._features_to_offer()
        if self._offered is None:
            self._offered = self._features_to_offer()
        return self._offered

    def _features_to_offer(self) -> int:
        wanted = super().host_features() | 1 << n.F_MAC
        if self.host_mtu:
            wanted |= 1 << n.F_MTU
        if self.speed >= 0 or self.duplex is not None:
            wanted |= 1 << n.F_SPEED_DUPLEX
        if self.pairs == 1:
            wanted &= ~(1 << n.F_MQ)
        if self.vhost is not None:
            return self.vhost.offered(wanted)
        has_header = self.netdev is not None and self.netdev.vnet_header
        return offered(wanted, self.netdev.offloads if self.netdev is not None and has_header else Offload(0))

    def features_acked(self, features: int) -> None:
        """Settle header and offloads with the host, and queue 2's role (5.1.2: without MQ it is the control queue)."""
        if self.pairs > 1:
            self.queues[2].use_native(bool(features >> n.F_MQ & 1))
        if self.vhost is not None:
            self.vhost.features_acked(features)
        self.filter.set_all_vlans(not features >> n.F_CTRL_VLAN & 1)
        if self.netdev is not None:
            # 5.1.6.1: the legacy header has num_buffers only with mergeable buffers
            long_header = features >> n.F_MRG_RXBUF & 1 or features >> defs.F_VERSION_1 & 1
            self._configure_netdev(12 if long_header else 10, guest_offloads(features))

    def _configure_netdev(self, header: int, offloads: Offload) -> bool:
        assert self.netdev is not None
        try:
            self.netdev.configure(header, offloads)
        except BackendError as error:
            log.warning("%s: %s", self.label, error)
            return False
        return True

    @property
    def link_up(self) -> bool:
        """Whether frames pass: the user has not taken the link down, and somebody is there."""
        return self._link

    def get_config(self) -> bytes:
        """5.1.4 Device configuration layout, up to the last field whose feature is offered (as QEMU)."""
        status = (n.S_LINK_UP if self.link_up else 0) | (n.S_ANNOUNCE if self._announce else 0)
        speed = self.speed & 0xFFFFFFFF
        duplex = {None: 0xFF, "half": 0, "full": 1}[self.duplex]
        config = struct.pack("<6sHHHIB", self._current_mac, status, self.pairs, self.host_mtu, speed, duplex)
        ends = {n.F_STATUS: 8, n.F_MQ: 10, n.F_MTU: 12, n.F_SPEED_DUPLEX: 17}
        features = self.host_features()
        return config[: max([6, *(end for feature, end in ends.items() if features >> feature & 1)])]

    def set_config(self, offset: int, data: bytes) -> None:
        """A legacy driver without the command for it writes the address (5.1.4.3); all else is read-only."""
        if self.has_feature(defs.F_VERSION_1) or self.has_feature(n.F_CTRL_MAC_ADDR) or offset >= 6:
            return
        mac = bytearray(self._current_mac)
        mac[offset : offset + len(data)] = data
        self.set_mac(bytes(mac[:6]))

    # -- queues

    @property
    def control_index(self) -> int:
        """The control queue's index (5.1.2)."""
        return 2 * self.pairs if self.pairs > 1 and self.has_feature(n.F_MQ) else 2

    def handle_output(self, queue: VirtQueue) -> None:
        """The control queue was kicked."""
        if queue.index == self.control_index and self.has_feature(n.F_CTRL_VQ):
            self._control.serve(queue)

    def native_event(self, bits: int) -> None:
        """A queue found its peer gone."""
        if not bits & self._lib.QN_EVENT_GONE or not any(map(self._lib.qn_is_gone, self._native)):
            return
        self._unplug()
        assert self.netdev is not None
        self.netdev.peer_gone()
        self._netdev_changed()

    # -- the host's side

    def _port(self, pair: int) -> Port | None:
        if self.netdev is None or self.vhost is not None or not self.netdev.link_up or pair >= self.active_pairs:
            return None
        return self.netdev.port(pair)

    def _plug(self) -> None:
        """Connect the queues with the netdev's ports."""
        for index, native in enumerate(self._native):
            port = self._port(index // 2)
            if port is None:
                continue
            assert self.netdev is not None
            dest = (port.dest or "").encode()
            error = self._lib.qn_plug(native, port.kind, port.fd, self.netdev.vnet_header, dest, len(dest))
            if error:
                self._unplug()
                raise self.netdev.fail(f"cannot be plugged into {self.label}: {os.strerror(-error)}")

    def _unplug(self) -> None:
        for native in self._native:
            self._lib.qn_unplug(native)

    def _netdev_changed(self) -> None:
        """Somebody connected or hung up."""
        if self.vhost is not None:
            self.vhost.netdev_changed()
        self._unplug()
        self._plug()
        self._update_link()

    def _set_active_pairs(self, pairs: int) -> bool:
        if pairs == self.active_pairs:
            return True
        self._unplug()
        done = True
        try:
            for pair in range(1, self.pairs):
                assert self.netdev is not None
                self.netdev.enable_port(pair, pair < pairs)
            self.active_pairs = pairs
        except BackendError as error:
            log.warning("%s: %s", self.label, error)
            done = False
        self._plug()
        if self.vhost is not None:
            self.vhost.pairs_changed()
        return done

    # -- for the user and the control queue

    def fault_target(self) -> FaultTarget:
        """Frames each way, commands, and a cable that can be out."""
        from qdevpy_virtio_net.faults import NetTarget

        return NetTarget(self)

    def set_link(self, up: bool) -> None:
        """Plug the cable in or out (QEMU's ``set_link``); the driver is told."""
        self.link_wanted = up
        if self.vhost is not None:
            self.vhost.pairs_changed()
        self._update_link()

    def _update_link(self) -> None:
        up = self.link_wanted and (self.netdev is None or self.netdev.link_up)
        self._lib.qn_dev_set_link(self._dev, up)
        changed, self._link = up != self._link, up
        if changed and self.status & defs.STATUS_DRIVER_OK and self.has_feature(n.F_STATUS):
            self.bindings.notify_config()

    def set_mac(self, mac: bytes) -> None:
        """The driver changes the card's address, until reset."""
        self._current_mac = mac
        self.filter.set_mac(mac)
        self.filter_changed()

    def set_queue_pairs(self, pairs: int) -> bool:
        """The driver uses the first PAIRS pairs; False: refused."""
        return 1 <= pairs <= self.pairs and self._set_active_pairs(pairs)

    def set_guest_offloads(self, mask: int) -> bool:
        """The driver takes these undone from now on: bits as in the features, of those negotiated; False: refused."""
        allowed = sum(1 << feature for feature in GUEST_OFFLOADS if self.has_feature(feature))
        if mask & ~allowed or self.netdev is None:
            return False
        header = 12 if self.has_feature(n.F_MRG_RXBUF) or self.has_feature(defs.F_VERSION_1) else 10
        return self._configure_netdev(header, guest_offloads(mask))

    def announce(self) -> bool:
        """Ask the driver to tell the network where it is now (5.1.6.5.4); False: it cannot."""
        if not self.has_feature(n.F_GUEST_ANNOUNCE) or not self.status & defs.STATUS_DRIVER_OK:
            return False
        self._announce = True
        self.bindings.notify_config()
        return True

    def send(self, frame: bytes) -> bool:
        """As :meth:`NetCard.send`."""
        return bool(self._lib.qn_send(self._native[1], frame, len(frame)))

    @property
    def address(self) -> bytes:
        """As :attr:`NetCard.address`: the driver may have changed it."""
        return self._current_mac

    def receive_state(self) -> ReceiveState:
        """As :meth:`NetCard.receive_state`."""
        self._filter_asked = True
        return self.filter.state(all_vlans=not self.has_feature(n.F_CTRL_VLAN))

    def filter_changed(self) -> None:
        """The driver changed the receive filter: who asked for it last hears of it, once."""
        if not self._filter_asked:
            return
        from qdevpy.vm.event_types import NicRxFilterChanged

        self._filter_asked = False
        outer = self.qom_parent if isinstance(self.qom_parent, Device) else self
        self.machine.events.emit(NicRxFilterChanged(outer.id, self.qom_path))

    def announced(self) -> bool:
        """The driver has done so; False: nobody had asked."""
        asked, self._announce = self._announce, False
        return asked

    def state_summary(self) -> dict[str, Any]:
        """Per queue: kicks, requests, interrupts, and for data queues frames, bytes and drops by reason."""
        from qdevpy_virtio_net._native import ffi

        summary = super().state_summary()
        counters = ffi.new("struct qn_counters *")
        for queue, native in zip(self.queues, self._native, strict=False):
            self._lib.qn_get_counters(native, counters)
            summary[queue.name].update({name: getattr(counters, name) for name in COUNTERS})
        return summary

    def bytes_moved(self) -> tuple[int, int] | None:
        """Of frames received, and sent."""
        counted = list(self.state_summary().values())
        # 5.1.2: receive and transmit queues in turns; the control queue counts none
        received, sent = (sum(queue.get("bytes", 0) for queue in counted[first::2]) for first in (0, 1))
        return received, sent


def address_of(queue: VirtQueue) -> int:
    """The address of a queue's ``struct qd_vq``."""
    from qdevpy.native._core import ffi

    return int(ffi.cast("uintptr_t", queue.pointer))
