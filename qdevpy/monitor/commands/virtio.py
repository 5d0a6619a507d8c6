# SPDX-License-Identifier: Apache-2.0
"""Commands on virtio devices (QEMU: qapi/virtio.json)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from qdevpy.errors import GuestAddressError
from qdevpy.monitor.command import Context, QmpError, UInt8, UInt16, UInt32, UInt64, command
from qdevpy.qdev.device import Device
from qdevpy.virtio import defs
from qdevpy.virtio.device import VirtIODevice
from qdevpy.virtio.queue import WRAP_BIT, VirtQueue
from qdevpy.vm.machine import Machine

#: 2.1 Device Status Field, in QEMU's order of printing
STATUSES = {
    defs.STATUS_DRIVER_OK: "VIRTIO_CONFIG_S_DRIVER_OK: the driver is ready",
    defs.STATUS_FEATURES_OK: "VIRTIO_CONFIG_S_FEATURES_OK: the features are settled",
    defs.STATUS_DRIVER: "VIRTIO_CONFIG_S_DRIVER: the guest has a driver for it",
    defs.STATUS_NEEDS_RESET: "VIRTIO_CONFIG_S_NEEDS_RESET: the device needs a reset",
    defs.STATUS_FAILED: "VIRTIO_CONFIG_S_FAILED: the driver gave up",
    defs.STATUS_ACKNOWLEDGE: "VIRTIO_CONFIG_S_ACKNOWLEDGE: the guest has noticed it",
}

#: 6 Reserved Feature Bits
TRANSPORT_FEATURES = {
    defs.F_NOTIFY_ON_EMPTY: "VIRTIO_F_NOTIFY_ON_EMPTY: the device interrupts when it runs out of buffers",
    defs.F_ANY_LAYOUT: "VIRTIO_F_ANY_LAYOUT: requests may be laid out in any way",
    defs.F_RING_INDIRECT_DESC: "VIRTIO_RING_F_INDIRECT_DESC: indirect descriptors",
    defs.F_RING_EVENT_IDX: "VIRTIO_RING_F_EVENT_IDX: used_event and avail_event",
    defs.F_BAD_FEATURE: "VIRTIO_F_BAD_FEATURE: never offered",
    defs.F_VERSION_1: "VIRTIO_F_VERSION_1: the standard's interface",
    defs.F_ACCESS_PLATFORM: "VIRTIO_F_IOMMU_PLATFORM: addresses go through an IOMMU",
    defs.F_RING_PACKED: "VIRTIO_F_RING_PACKED: packed rings",
    defs.F_IN_ORDER: "VIRTIO_F_IN_ORDER: buffers come back in order",
    defs.F_ORDER_PLATFORM: "VIRTIO_F_ORDER_PLATFORM: memory is ordered as the platform does it",
    defs.F_SR_IOV: "VIRTIO_F_SR_IOV: single root I/O virtualization",
    defs.F_NOTIFICATION_DATA: "VIRTIO_F_NOTIFICATION_DATA: kicks carry positions",
    defs.F_RING_RESET: "VIRTIO_F_RING_RESET: queues are reset one by one",
}

DESC_FLAGS = {1: "next", 2: "write", 4: "indirect"}
VRING_ALIGN = 4096


class VirtioInfo(NamedTuple):
    """A virtio device."""

    path: str
    name: str


class VirtioDeviceStatus(NamedTuple):
    """The status register."""

    statuses: list[str]
    unknown_statuses: UInt8 | None = None


class VirtioDeviceFeatures(NamedTuple):
    """Feature bits by name."""

    transports: list[str]
    dev_features: list[str] | None = None
    unknown_dev_features: UInt64 | None = None


class VirtioStatus(NamedTuple):
    """A device's state. There is no vhost here."""

    name: str
    device_id: UInt16
    vhost_started: bool
    device_endian: str
    guest_features: VirtioDeviceFeatures
    host_features: VirtioDeviceFeatures
    backend_features: VirtioDeviceFeatures
    num_vqs: int
    status: VirtioDeviceStatus
    isr: UInt8
    queue_sel: UInt16
    vm_running: bool
    broken: bool
    disabled: bool
    use_started: bool
    started: bool
    start_on_kick: bool
    disable_legacy_check: bool
    bus_name: str
    use_guest_notifier_mask: bool


class VirtQueueStatus(NamedTuple):
    """A queue's state; addresses are guest-physical."""

    name: str
    queue_index: UInt16
    inuse: UInt32
    vring_num: UInt32
    vring_num_default: UInt32
    vring_align: UInt32
    vring_desc: UInt64
    vring_avail: UInt64
    vring_used: UInt64
    used_idx: UInt16
    signalled_used: UInt16
    signalled_used_valid: bool
    last_avail_idx: UInt16 | None = None
    shadow_avail_idx: UInt16 | None = None


class VirtVhostQueueStatus(NamedTuple):
    """The state of a queue that vhost serves; there are none."""

    name: str
    kick: int
    call: int
    desc: UInt64
    avail: UInt64
    used: UInt64
    num: int
    desc_phys: UInt64
    desc_size: UInt32
    avail_phys: UInt64
    avail_size: UInt32
    used_phys: UInt64
    used_size: UInt32


class VirtioRingDesc(NamedTuple):
    """A descriptor."""

    addr: UInt64
    len: UInt32
    flags: list[str]


class VirtioRingAvail(NamedTuple):
    """The available ring; ``ring``: the entry that was looked at."""

    flags: UInt16
    idx: UInt16
    ring: UInt16


class VirtioRingUsed(NamedTuple):
    """The used ring."""

    flags: UInt16
    idx: UInt16


class VirtioQueueElement(NamedTuple):
    """A descriptor chain as it is in the guest's memory."""

    name: str
    index_: UInt32
    descs: list[VirtioRingDesc]
    avail: VirtioRingAvail
    used: VirtioRingUsed


# -- finding


def virtio_devices(machine: Machine) -> Iterator[VirtIODevice]:
    """All of them."""
    yield from (device for device in machine.devices() if isinstance(device, VirtIODevice))


def short_name(device: VirtIODevice) -> str:
    """``virtio-blk``; QEMU has the controller's name for the console."""
    return device.type_name.removesuffix("-device")


def find_device(machine: Machine, path: str) -> VirtIODevice:
    """By its path in the composition tree.

    :raises QmpError: there is none there, or something else
    """
    for device in virtio_devices(machine):
        if device.qom_path == path:
            return device
    raise QmpError(f"Path {path} is not a VirtIODevice")


def find_queue(device: VirtIODevice, number: int) -> VirtQueue:
    """:raises QmpError: the device has no such queue."""
    if number >= len(device.queues) or not device.queues[number].size:
        raise QmpError(f"Invalid virtqueue number {number}")
    return device.queues[number]


@command("x-query-virtio", features=("unstable",))
def x_query_virtio(ctx: Context) -> list[VirtioInfo]:
    """All virtio devices, the newest first."""
    return [VirtioInfo(device.qom_path, short_name(device)) for device in virtio_devices(ctx.machine)][::-1]


# -- looking at one


def is_packed(device: VirtIODevice) -> bool:
    """Whether its queues are packed rings."""
    return device.has_feature(defs.F_RING_PACKED)


def decode_features(bits: int, names: Mapping[int, str]) -> VirtioDeviceFeatures:
    """Feature bits by name, what has none as a number."""
    known = TRANSPORT_FEATURES | dict(names)
    unknown = sum(1 << number for number in range(64) if bits >> number & 1 and number not in known)
    return VirtioDeviceFeatures(
        transports=[text for number, text in TRANSPORT_FEATURES.items() if bits >> number & 1][::-1],
        dev_features=[text for number, text in sorted(names.items(), reverse=True) if bits >> number & 1],
        unknown_dev_features=unknown or None,
    )


def decode_status(status: int) -> VirtioDeviceStatus:
    """The status register by name."""
    unknown = status & ~sum(STATUSES)
    return VirtioDeviceStatus([text for bit, text in STATUSES.items() if status & bit], unknown or None)


@command("x-query-virtio-status", features=("unstable",))
def x_query_virtio_status(ctx: Context, *, path: str) -> VirtioStatus:
    """Status, features and switches of a device."""
    device = find_device(ctx.machine, path)
    names = device.feature_names()
    started = bool(device.status & defs.STATUS_DRIVER_OK) and device.broken is None
    offered = device.host_features() | device.bindings.transport_features()
    return VirtioStatus(
        name=short_name(device),
        device_id=device.device_id,
        vhost_started=False,
        device_endian="little",
        guest_features=decode_features(device.features, names),
        host_features=decode_features(offered, names),
        backend_features=decode_features(0, names),
        num_vqs=len(device.queues),
        status=decode_status(device.status),
        isr=device.vdev.isr,
        queue_sel=0,
        vm_running=ctx.machine.running and started,
        broken=device.broken is not None,
        disabled=False,
        use_started=True,
        started=started,
        start_on_kick=False,
        disable_legacy_check=False,
        bus_name=device.parent_bus.name if device.parent_bus is not None and _is_named(device) else "",
        use_guest_notifier_mask=True,
    )


def _is_named(device: VirtIODevice) -> bool:
    """Whether QEMU names the bus: those of transports, ``virtio-bus``, are not."""
    return not isinstance(device.qom_parent, Device)


@command("x-query-virtio-queue-status", features=("unstable",))
def x_query_virtio_queue_status(ctx: Context, *, path: str, queue: UInt16) -> VirtQueueStatus:
    """Positions and addresses of a queue; those of a running one are of a moment."""
    device = find_device(ctx.machine, path)
    found = find_queue(device, queue)
    taken, used = (position & ~(1 << WRAP_BIT) if is_packed(device) else position for position in found.positions)
    return VirtQueueStatus(
        name=short_name(device),
        queue_index=queue,
        inuse=found.inflight,
        vring_num=found.size,
        vring_num_default=found.size_max,
        vring_align=VRING_ALIGN,
        vring_desc=found.desc,
        vring_avail=found.avail,
        vring_used=found.used,
        used_idx=used,
        signalled_used=used,
        signalled_used_valid=bool(used),
        last_avail_idx=taken,
        shadow_avail_idx=taken,
    )


@command("x-query-virtio-vhost-queue-status", features=("unstable",))
def x_query_virtio_vhost_queue_status(ctx: Context, *, path: str, queue: UInt16) -> VirtVhostQueueStatus:
    """Always an error: vhost serves no queues here."""
    find_device(ctx.machine, path)
    raise QmpError("Error: vhost device has not started yet")


class Descriptor(NamedTuple):
    """``struct virtq_desc`` (2.7.5)."""

    addr: int
    len: int
    flags: int
    next: int


@command("x-query-virtio-queue-element", features=("unstable",))
def x_query_virtio_queue_element(ctx: Context, *, path: str, queue: UInt16, index: UInt16 | None = None) -> VirtioQueueElement:
    """The chain at INDEX of the available ring, or the next one to be taken."""
    device = find_device(ctx.machine, path)
    found = find_queue(device, queue)
    if is_packed(device):
        raise QmpError("Packed ring not supported")
    if not found.enabled or not found.desc:
        raise QmpError("Region caches not initialized")
    try:
        return _element(ctx.machine, device, found, found.positions[0] if index is None else index)
    except GuestAddressError:
        raise QmpError("Cannot map descriptor ring") from None


def _element(machine: Machine, device: VirtIODevice, queue: VirtQueue, index: int) -> VirtioQueueElement:
    memory = machine.memory
    avail_flags, avail_idx = struct.unpack("<HH", memory.read(queue.avail, 4))
    used_flags, used_idx = struct.unpack("<HH", memory.read(queue.used, 4))
    (head,) = struct.unpack("<H", memory.read(queue.avail + 4 + 2 * (index % queue.size), 2))
    chain = [VirtioRingDesc(d.addr, d.len, _flag_names(d.flags)) for d in _chain(machine, queue, head)]
    return VirtioQueueElement(
        name=short_name(device),
        index_=head,
        descs=chain[::-1],  # as QEMU lists them
        avail=VirtioRingAvail(avail_flags, avail_idx, head),
        used=VirtioRingUsed(used_flags, used_idx),
    )


def _chain(machine: Machine, queue: VirtQueue, head: int) -> Iterator[Descriptor]:
    """The descriptors from HEAD on, those of an indirect table in its stead; no more than there can be."""

    def at(table: int, number: int) -> Descriptor:
        return Descriptor(*struct.unpack("<QIHH", machine.memory.read(table + 16 * number, 16)))

    table, most, number = queue.desc, queue.size, head
    if number >= most:
        return
    if at(table, number).flags & 4:
        indirect = at(table, number)
        table, most, number = indirect.addr, indirect.len // 16, 0
    for _ in range(min(most, queue.size)):
        descriptor = at(table, number)
        yield descriptor
        number = descriptor.next
        if not descriptor.flags & 1 or number >= most:
            return


def _flag_names(flags: int) -> list[str]:
    return [name for bit, name in DESC_FLAGS.items() if flags & bit][::-1]


COMMANDS = (
    x_query_virtio,
    x_query_virtio_status,
    x_query_virtio_queue_status,
    x_query_virtio_vhost_queue_status,
    x_query_virtio_queue_element,
)
