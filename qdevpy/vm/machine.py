# SPDX-License-Identifier: Apache-2.0
"""The running machine: memory, buses, devices, back ends, and the states between power-on and the end.

::

    PRELAUNCH --start()--> RUNNING <--pause()/start()--> PAUSED
        RUNNING --request_reset()--> reset, RUNNING
        RUNNING --request_shutdown()/request_crash()--> SHUTDOWN / CRASHED, close()

Requests may come from any thread (a vCPU's exit, a signal handler, a chardev); the main loop's thread
carries them out. See qdevpy/native/include/qd_space.h for the VM lock's place in the lock order.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, NamedTuple

from qdevpy.accel.base import CpuAccelerator, StopReason
from qdevpy.errors import BackendError, RealizeError
from qdevpy.native.memory import GuestMemory
from qdevpy.native.space import AddressSpace
from qdevpy.qdev.bus import Bus
from qdevpy.vm.events import Events
from qdevpy.vm.loop import MainLoop

if TYPE_CHECKING:
    from qdevpy.accel.base import Accelerator
    from qdevpy.backend.base import Backend
    from qdevpy.definition.model import MachineDefinition
    from qdevpy.native.iothread import IOThread
    from qdevpy.plugin.registry import Registry
    from qdevpy.qdev.device import Device
    from qdevpy.vm.board import Board
    from qdevpy.vm.event_types import Cause

log = logging.getLogger(__name__)


class RunState(enum.Enum):
    """QEMU's run states, as far as we have them."""

    PRELAUNCH = "prelaunch"
    RUNNING = "running"
    PAUSED = "paused"
    SHUTDOWN = "shutdown"
    CRASHED = "internal-error"


class Ending(NamedTuple):
    """How the machine ended.

    :ivar reason: for the user
    :ivar status: exit status of the process
    """

    reason: str
    status: int


class Machine:
    """One virtual machine. Built by :func:`qdevpy.vm.build.build_machine`; used as a context manager.

    :param board: what is soldered on
    :param accel: what runs the guest
    :param memory_size: bytes of RAM
    :param cpus: number of vCPUs
    :ivar events: what happens to it
    :ivar registry: what may be plugged into it while it runs; None: nothing (a test's machine)
    """

    def __init__(
        self,
        board: Board,
        accel: Accelerator,
        *,
        memory_size: int,
        cpus: int,
        definition: MachineDefinition,
        no_reboot: bool = False,
    ) -> None:
        self.board = board
        self.accel = accel
        self.memory_size = memory_size
        self.cpus = cpus
        self.definition = definition
        self.registry: Registry | None = None
        self.events = Events()
        self.no_reboot = no_reboot
        self.state = RunState.PRELAUNCH
        self.ending: Ending | None = None
        self.backends: dict[tuple[str, str], Backend] = {}
        self.system_bus = Bus("main-system-bus")
        self.root_buses: list[Bus] = [self.system_bus]
        self._reset_reason: str | None = None
        self._iothreads: dict[str, IOThread] = {}
        self._macs = 0
        self._cleanup = ExitStack()
        self.memory = GuestMemory()
        self._cleanup.callback(self.memory.close)
        self.space = AddressSpace()
        self._cleanup.callback(self.space.close)
        self.loop = MainLoop(self.space.lock)
        self._cleanup.callback(self.loop.close)

    # -- building

    @property
    def lock(self) -> AbstractContextManager[object]:
        """The VM lock: orders device-model state between vCPU exits and the main loop."""
        return self.space.lock

    @property
    def running(self) -> bool:
        """Whether vCPUs run (or would, where there are none)."""
        return self.state is RunState.RUNNING

    def open(self) -> None:
        """Give the board its memory and open the accelerator.

        :raises AccelError: see :meth:`Accelerator.open`
        """
        self.board.add_memory(self)
        self.accel.open(self.memory, self.space)
        self._cleanup.callback(self.accel.close)

    def add_backend(self, backend: Backend) -> None:
        """Open a back end and keep it until the end.

        :raises BackendError: it cannot be opened
        """
        backend.machine = self
        backend.open()
        self.backends[backend.section, backend.name] = backend
        self._cleanup.callback(backend.close)

    def backend(self, section: str, name: str) -> Backend:
        """An opened back end.

        :raises BackendError: there is none of that name
        """
        try:
            return self.backends[section, name]
        except KeyError:
            known = ", ".join(n for s, n in self.backends if s == section) or "none"
            raise BackendError(f"{section[:-1]} '{name}' not found; there are: {known}") from None

    def iothread(self, name: str | None = None) -> IOThread:
        """An I/O thread by name; None: the default one, which starts when first asked for."""
        from qdevpy.native.iothread import IOThread

        key = name or "default"
        if key not in self._iothreads:
            thread = IOThread(key)
            self._iothreads[key] = thread
            self._cleanup.callback(thread.close)
        return self._iothreads[key]

    def add_root_bus(self, bus: Bus) -> Bus:
        """A bus that no device offers."""
        self.root_buses.append(bus)
        return bus

    def plug(self, device: Device, bus: Bus | None = None) -> None:
        """Put a device on BUS, or on the first bus of its sort.

        :raises RealizeError: there is no such bus, or the device's own reason
        """
        if bus is None:
            bus = self.find_bus(device.bus_type or self.system_bus.bus_type)
        if bus is None:
            raise RealizeError(f"needs a bus of type {device.bus_type}, and the machine has none", device=device.label)
        device.machine = self
        with self.lock:
            bus.plug(device)

    def next_mac(self) -> bytes:
        """The next address of the default series 52:54:00:12:34:56 and up."""
        mac = 0x525400123456 + self._macs
        self._macs += 1
        return mac.to_bytes(6, "big")

    # -- looking around

    def buses(self) -> Iterator[Bus]:
        """Every bus, roots first, parents before children."""
        for root in self.root_buses:
            yield root
            for device in list(root.children):
                for below in device.walk():
                    yield from below.child_buses

    def devices(self) -> Iterator[Device]:
        """Every device, parents before children."""
        for root in self.root_buses:
            for device in list(root.children):
                yield from device.walk()

    def find_bus(self, name_or_type: str) -> Bus | None:
        """The bus of that name, else the first of that type, else None."""
        by_type = None
        for bus in self.buses():
            if bus.name == name_or_type:
                return bus
            if by_type is None and bus.bus_type == name_or_type:
                by_type = bus
        return by_type

    @property
    def pci_bus(self) -> Bus | None:
        """The main PCI bus, where the board has one."""
        return self.find_bus("PCI")

    def find_device(self, device_id: str) -> Device | None:
        """The device with that id, or None."""
        return next((d for d in self.devices() if d.id == device_id), None)

    # -- requests, from any thread

    def request_shutdown(self, reason: str, status: int = 0, *, cause: Cause = "guest-shutdown") -> None:
        """End the machine; the first request wins."""
        if self.ending is None:
            self.ending = Ending(reason, status)
            self.state = RunState.SHUTDOWN
        self.loop.wake()

    def request_crash(self, message: str) -> None:
        """A vCPU cannot go on."""
        if self.ending is None:
            self.ending = Ending(message, 1)
            self.state = RunState.CRASHED
        self.loop.wake()

    def request_reset(self, reason: str) -> None:
        """Reset and go on; with ``no_reboot``, end with status 0."""
        if self.no_reboot:
            self.request_shutdown(f"{reason} (no reboot wanted)")
            return
        self._reset_reason = reason
        self.loop.wake()

    def _vcpu_stopped(self, stop: StopReason) -> None:
        if stop.kind == "shutdown":
            log.warning("vCPU %d: triple fault", stop.vcpu)
            self.request_reset("triple fault")
        else:
            self.request_crash(stop.message)

    # -- running; on the main loop's thread

    def reset(self) -> None:
        """Devices, interrupt controllers and vCPUs to power-on, then what firmware would do. vCPUs are paused.

        :raises BootError: the kernel or initrd cannot be loaded
        """
        with self.lock:
            for root in self.root_buses:
                root.reset()
            self.board.reset(self)
            if isinstance(self.accel, CpuAccelerator):
                self.accel.reset_vcpus()
                state = self.board.prepare_boot(self)
                if state is not None:
                    self.accel.set_boot_state(state)

    def create_vcpus(self) -> None:
        """Make the vCPUs, where the accelerator has any; paused."""
        if isinstance(self.accel, CpuAccelerator):
            self.accel.on_stop = self._vcpu_stopped
            self.accel.create_vcpus(self.cpus)

    def start(self) -> None:
        """PRELAUNCH or PAUSED to RUNNING: devices first, so that no kick of a running vCPU meets a stopped device."""
        with self.lock:
            if self.running or self.ending is not None:
                return
            self.state = RunState.RUNNING
            for device in reversed(list(self.devices())):  # children first: a transport after what it carries (rule 7)
                device.vm_state_changed(True)
            if isinstance(self.accel, CpuAccelerator):
                self.accel.resume()

    def pause(self) -> None:
        """RUNNING to PAUSED: vCPUs first, then devices drain (rule 7)."""
        if isinstance(self.accel, CpuAccelerator):
            self.accel.pause()
        with self.lock:
            if self.running:
                self.state = RunState.PAUSED
            for device in reversed(list(self.devices())):
                device.vm_state_changed(False)

    def run(self) -> Ending:
        """Run the main loop until the machine ends; vCPUs are paused and devices drained on return."""
        while self.ending is None:
            self.loop.run_once()
            if self._reset_reason is not None and self.ending is None:
                self._reboot()
        self.pause()
        return self.ending

    def _reboot(self) -> None:
        log.info("reset: %s", self._reset_reason)
        self.pause()
        self._reset_reason = None
        self.reset()
        self.start()

    def close(self) -> None:
        """Unplug everything, newest first, close back ends, threads, accelerator and memory. Never raises for a
        device's failure; may be called twice.
        """
        for root in reversed(self.root_buses):
            for device in reversed(list(root.children)):
                try:
                    with self.lock:
                        root.unplug(device)
                except Exception:  # everybody gets the chance to clean up
                    log.exception("%s: while taking it out", device.label)
        self._cleanup.close()

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *exc: object) -> None:
        if isinstance(self.accel, CpuAccelerator):
            self.accel.pause()
        self.close()
