# SPDX-License-Identifier: Apache-2.0
"""``x-query-counters``: what a running machine has done so far, all of it at one moment. ``qdevpy top`` shows the differences.

QEMU's ``query-stats`` has KVM's own counters and none of devices, so this is a command of ours.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from qdevpy.monitor.command import Context, QmpError, UInt16, UInt32, UInt64, command
from qdevpy.monitor.commands.run import RunStateName, query_status
from qdevpy.monitor.control import machine_name
from qdevpy.native.iothread import IOThread
from qdevpy.native.meter import Meter
from qdevpy.qdev.device import Device
from qdevpy.virtio.device import VirtIODevice
from qdevpy.virtio.queue import VirtQueue
from qdevpy.vm.machine import Machine

BUSES = ("pio", "mmio")


class VCpuCounters(NamedTuple):
    """A vCPU: time on a processor of the host, and exits to this program by kind."""

    index_: UInt32
    cpu_ns: UInt64
    exits_pio: UInt64
    exits_mmio: UInt64
    exits_other: UInt64


class ThreadCounters(NamedTuple):
    """The main loop, or an I/O thread with its polling: how often it found work, or did not; ns spent on that."""

    name: str
    cpu_ns: UInt64
    sleeps: UInt64 | None = None
    polls_hit: UInt64 | None = None
    polls_missed: UInt64 | None = None
    polled_ns: UInt64 | None = None


class LatencyBucket(NamedTuple):
    """How many chains the device had for ``ns`` nanoseconds or a sixteenth more."""

    ns: UInt64
    chains: UInt64


class Latencies(NamedTuple):
    """What was measured since this client asked first: from pop to push, and all bytes that chains had or got."""

    buckets: list[LatencyBucket]
    read_bytes: UInt64
    written_bytes: UInt64


class QueueCounters(NamedTuple):
    """A virtqueue; ``depth``: chains that the device has and will give back."""

    index_: UInt16
    name: str
    size: UInt16
    depth: UInt16
    kicks_ioeventfd: UInt64
    kicks_sync: UInt64
    kicks_polled: UInt64
    requests: UInt64
    interrupts: UInt64
    latencies: Latencies | None = None


class DeviceCounters(NamedTuple):
    """Whose registers are accessed, or who has queues. Bytes are payload, where the device counts it.

    ``path``: in the composition tree; empty for a part of the board that has no place there.
    """

    path: str
    name: str
    type: str
    pio: UInt64
    mmio: UInt64
    queues: list[QueueCounters]
    bytes_to_guest: UInt64 | None = None
    bytes_from_guest: UInt64 | None = None


class MachineCounters(NamedTuple):
    """``time-ns``: when, on the host's monotonic clock; ``unanswered``: accesses that found nobody."""

    name: str
    pid: int
    time_ns: UInt64
    status: RunStateName
    vcpus: list[VCpuCounters]
    threads: list[ThreadCounters]
    devices: list[DeviceCounters]
    unanswered_pio: UInt64
    unanswered_mmio: UInt64


def cpu_time(thread_id: int) -> int:
    """Nanoseconds that one of this process's threads has run; 0: it has ended."""
    # clock_gettime(2): the kernel's number of a thread's CPU clock, which pthread_getcpuclockid(3) makes the same way
    try:
        return time.clock_gettime_ns(~thread_id << 3 | 6)
    except OSError:
        return 0


def vcpu_counters(machine: Machine) -> Iterator[VCpuCounters]:
    """Those of every vCPU, where the accelerator has any."""
    for index, (exits, thread_id) in enumerate(zip(machine.accel.exits, machine.accel.thread_ids, strict=False)):
        yield VCpuCounters(index, cpu_time(thread_id), *exits)


def iothreads(machine: Machine) -> list[IOThread]:
    """Those with a name, then what else serves queues (the default one, vhost's)."""
    serving = (queue.iothread for device in virtio_devices(machine) for queue in device.queues)
    return list(dict.fromkeys([*machine.iothreads.values(), *(thread for thread in serving if thread is not None)]))


def thread_counters(machine: Machine) -> Iterator[ThreadCounters]:
    """Of the main loop and the I/O threads."""
    yield ThreadCounters("main loop", cpu_time(os.getpid()))
    for thread in iothreads(machine):
        counted = thread.statistics()
        del counted["window_ns"]
        yield ThreadCounters(f"iothread {thread.name}", cpu_time(thread.thread_id), **counted)


def virtio_devices(machine: Machine) -> Iterator[VirtIODevice]:
    """All of them."""
    yield from (device for device in machine.devices() if isinstance(device, VirtIODevice))


class Meters:
    """The meters of one client, on every queue that is used. They go with the client: a queue that nobody looks at has none."""

    def __init__(self) -> None:
        self._meters: dict[VirtQueue, Meter] = {}

    def read(self, queue: VirtQueue) -> Latencies:
        """What QUEUE's meter has measured since it was put on, now if not before."""
        meter = self._meters.get(queue)
        if meter is None:
            meter = self._meters[queue] = Meter(queue.pointer)
        buckets = [LatencyBucket(*each) for each in meter.latencies().items()]
        return Latencies(buckets, meter.read_bytes, meter.written_bytes)

    def forget_closed(self) -> None:
        """Queues of devices that were unplugged are gone, and their meters off."""
        self._meters = {queue: meter for queue, meter in self._meters.items() if not queue.is_closed}

    def close(self) -> None:
        """The client has gone."""
        self.forget_closed()
        for meter in self._meters.values():
            meter.remove()
        self._meters.clear()


def queue_counters(queue: VirtQueue, meters: Meters | None) -> QueueCounters:
    """Those of one queue."""
    return QueueCounters(
        index_=queue.index,
        name=queue.name,
        size=queue.size,
        depth=queue.inflight,
        latencies=meters.read(queue) if meters is not None else None,
        **queue.counters(),
    )


def is_used(queue: VirtQueue) -> bool:
    """Whether the driver has set it up, now or before: a console has many that nobody uses."""
    return queue.enabled or any(queue.counters().values())


def owner_of(mapped: object) -> object:
    """The device whose registers they are, or the part of one that answers."""
    for name in ("transport", "device"):
        mapped = getattr(mapped, name, mapped)
    return transport_of(mapped)


def transport_of(owner: object) -> object:
    """What the user wrote under ``devices:``: of a virtio device the transport that carries it."""
    if isinstance(owner, VirtIODevice) and isinstance(owner.qom_parent, Device):
        return owner.qom_parent
    return owner


def device_counters(machine: Machine, meters: Meters | None) -> Iterator[DeviceCounters]:
    """Of everything that has registers or queues, in the order of the tree, parts of the board last."""
    accesses: dict[object, dict[str, int]] = {}
    for mapping in machine.space.mappings:
        counted = accesses.setdefault(owner_of(mapping.owner), dict.fromkeys(BUSES, 0))
        counted[mapping.bus] += mapping.accesses
    carried = {transport_of(device): device for device in virtio_devices(machine)}
    nothing = dict.fromkeys(BUSES, 0)
    for device in machine.devices():
        if device in accesses or device in carried:
            yield describe(device, accesses.pop(device, nothing), carried.get(device), meters)
    yield from (describe(part, counted, None, None) for part, counted in accesses.items())


def describe(owner: object, accesses: dict[str, int], virtio: VirtIODevice | None, meters: Meters | None) -> DeviceCounters:
    """One entry; VIRTIO: what OWNER carries."""
    kind = getattr(owner, "type_name", "") or type(owner).__name__.lower()
    moved = virtio.bytes_moved() if virtio is not None else None
    sums: dict[str, Any] = {} if moved is None else {"bytes_to_guest": moved[0], "bytes_from_guest": moved[1]}
    return DeviceCounters(
        path=owner.qom_path if isinstance(owner, Device) else "",
        name=(owner.id if isinstance(owner, Device) else None) or kind,
        type=kind,
        queues=[queue_counters(queue, meters) for queue in virtio.queues if is_used(queue)] if virtio is not None else [],
        **accesses,
        **sums,
    )


@command("x-query-counters", features=("unstable",))
def x_query_counters(ctx: Context, *, latencies: bool = False) -> MachineCounters:
    """What the machine has done so far: exits, kicks, requests, interrupts, bytes, processor time.

    LATENCIES: from the first time on that a client asks for them queues are measured, as long as it stays connected.
    """
    machine = ctx.machine
    meters = None
    if latencies:
        if ctx.monitor is None:
            raise QmpError("latencies are measured for a client of QMP, and there is none")
        meters = ctx.monitor.keep(Meters, Meters)
        meters.forget_closed()
    return MachineCounters(
        name=machine_name(machine),
        pid=os.getpid(),
        time_ns=time.monotonic_ns(),
        status=query_status(ctx).status,
        vcpus=list(vcpu_counters(machine)),
        threads=list(thread_counters(machine)),
        devices=list(device_counters(machine, meters)),
        unanswered_pio=machine.space.unanswered("pio"),
        unanswered_mmio=machine.space.unanswered("mmio"),
    )


COMMANDS = (x_query_counters,)
