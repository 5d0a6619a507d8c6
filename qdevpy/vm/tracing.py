# SPDX-License-Identifier: Apache-2.0
"""``--trace FILE``: what a machine does, written while it does it (``native/csrc/trace.h``)."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from qdevpy.accel.base import CpuAccelerator
from qdevpy.errors import TraceError
from qdevpy.native.core import ffi, lib
from qdevpy.qdev.device import Device
from qdevpy.virtio.device import VirtIODevice

if TYPE_CHECKING:
    from qdevpy.native.space import Mapping
    from qdevpy.virtio.queue import VirtQueue
    from qdevpy.vm.machine import Machine

log = logging.getLogger(__name__)

#: where an object that serves registers keeps the device that they are of
OWNER_ATTRIBUTES = ("device", "_device", "proxy", "_proxy", "owner")


class Tracing:
    """A machine's trace, from now until :meth:`stop`.

    Devices that are plugged meanwhile are followed, too. What vhost serves is not seen: its queues are not ours.

    :param machine: built, and not running yet
    :param path: the file, which is written anew
    :raises TraceError: it cannot be written
    """

    def __init__(self, machine: Machine, path: str) -> None:
        self.machine = machine
        self.path = path
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise TraceError(f"--trace {path}: {error.strerror}; give the name of a file that can be written") from error
        name = machine.definition.name or machine.definition.machine
        self._trace: Any = lib.qd_trace_start(self._fd, os.getpid(), f"qdevpy {name}".encode())
        if self._trace == ffi.NULL:
            os.close(self._fd)
            raise TraceError(f"--trace {path}: the thread that writes it cannot be started: {os.strerror(ffi.errno)}")
        self._queues: list[tuple[VirtQueue, Any]] = []
        self._vcpus: list[tuple[Any, Any]] = []
        with machine.lock:
            for mapping in machine.space.mappings:
                self._name(mapping)
            machine.space.on_map = self._name
            for device in machine.devices():
                self._follow(device)
            machine.on_plug = self.follow_below
        for vcpu in getattr(machine.accel, "vcpus", ()):
            source = lib.qd_trace_vcpu(self._trace, f"vCPU {vcpu.index}".encode(), vcpu.pointer)
            if source != ffi.NULL:
                self._vcpus.append((vcpu, source))

    def _name(self, mapping: Mapping) -> None:
        lib.qd_trace_name(self._trace, mapping.id, owner_of(mapping).encode())

    def follow_below(self, device: Device) -> None:
        """Follow a device that was plugged, and those on its buses; with the VM lock held."""
        for each in device.walk():
            self._follow(each)

    def _follow(self, device: Device) -> None:
        if not isinstance(device, VirtIODevice):
            return
        track = lib.qd_trace_track(self._trace, 0, name_of(device).encode())
        for queue in device.queues:
            name = f"queue {queue.index} {queue.name}".rstrip()
            source = lib.qd_trace_queue(self._trace, track, name.encode(), queue.pointer)
            if source == ffi.NULL:
                log.warning("--trace: no memory to follow %s: %s", device.label, queue.label)
            else:
                self._queues.append((queue, source))

    def stop(self) -> None:
        """Write what is left, say what was lost. The vCPUs are made to pause.

        :raises TraceError: it could not be written whole
        """
        if isinstance(self.machine.accel, CpuAccelerator):
            self.machine.accel.pause()
        with self.machine.lock:
            self.machine.on_plug = self.machine.space.on_map = None
            for queue, source in self._queues:
                if queue.pointer != ffi.NULL:  # else it went with its device
                    lib.qd_trace_leave_queue(source, queue.pointer)
        for vcpu, source in self._vcpus:
            lib.qd_trace_leave_vcpu(source, vcpu.pointer)
        events, lost = ffi.new("uint64_t *"), ffi.new("uint64_t *")
        error = lib.qd_trace_stop(self._trace, events, lost)
        os.close(self._fd)
        if error:
            raise TraceError(f"--trace {self.path}: {os.strerror(-error)}; the trace is not whole")
        log.info("%s: %d events", self.path, events[0])
        if lost[0]:
            log.warning(
                "%s: %d of %d events were lost: they came faster than they could be written; the trace says where",
                self.path, lost[0], lost[0] + events[0],
            )  # fmt: skip


def name_of(device: Device) -> str:
    """What a device is called in a trace."""
    return device.id or getattr(device, "base_name", "") or device.type_name


def owner_of(mapping: Mapping) -> str:
    """Whose registers a mapping is: a device's name, else what serves it."""
    for call in (mapping.read, mapping.write):
        found = _owner(call)
        if found is not None:
            return found
    return "board"


def _owner(call: Callable[..., Any]) -> str | None:
    served = getattr(call, "__self__", None)
    if served is None and isinstance(closure := getattr(call, "__closure__", None), tuple) and closure:
        served = closure[0].cell_contents
    for candidate in (served, *(getattr(served, name, None) for name in OWNER_ATTRIBUTES)):
        if isinstance(candidate, Device):
            return name_of(candidate)
    return None if served is None else type(served).__name__


@contextmanager
def traced(machine: Machine, path: str | None) -> Iterator[None]:
    """Trace a machine within the block; nothing where PATH is None."""
    if path is None:
        yield
        return
    tracing = Tracing(machine, path)
    try:
        yield
    finally:
        tracing.stop()
