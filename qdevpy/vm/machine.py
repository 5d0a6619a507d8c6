# SPDX-License-Identifier: Apache-2.0
"""The machine: memory, buses, devices and back ends. How it runs and ends: :mod:`qdevpy.vm.run_control`.

See qdevpy/native/include/qd_space.h for the VM lock's place in the lock order.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Self

from qdevpy.accel.base import CpuAccelerator
from qdevpy.errors import BackendError, RealizeError
from qdevpy.native.memory import GuestMemory
from qdevpy.native.space import AddressSpace
from qdevpy.qdev.bus import Bus
from qdevpy.qdev.composition import Composition
from qdevpy.vm.events import Events
from qdevpy.vm.loop import MainLoop
from qdevpy.vm.run_control import Ending, RunControl, RunState

if TYPE_CHECKING:
    from qdevpy.accel.base import Accelerator
    from qdevpy.backend.base import Backend
    from qdevpy.definition.model import MachineDefinition
    from qdevpy.faults.injector import Faults
    from qdevpy.monitor.control import ControlSocket
    from qdevpy.monitor.server import MonitorServer
    from qdevpy.native.iothread import IOThread
    from qdevpy.plugin.registry import Registry
    from qdevpy.qdev.device import Device
    from qdevpy.vm.board import Board
    from qdevpy.vm.watchdog import Watchdog

__all__ = ["Ending", "Machine", "RunState"]

log = logging.getLogger(__name__)

#: as :attr:`Machine.poll_max_ns`, of the main loop with queues that Python serves: a round of it takes longer, too
LOOP_POLL_MAX_NS = 100_000


class Machine(RunControl):
    """One virtual machine. Built by :func:`qdevpy.vm.build.build_machine`; used as a context manager.

    :cvar poll_max_ns: longest time that the I/O thread of devices that name none polls before it sleeps
    :param board: what is soldered on
    :param accel: what runs the guest
    :param memory_size: bytes of RAM
    :param cpus: number of vCPUs
    :ivar events: what happens to it
    :ivar clock: virtual time; stands still while the machine is stopped
    :ivar monitors: its QMP and human monitors, where it has any
    :ivar control: the monitor that tools find by themselves, where it has one
    :ivar on_plug: called with every device that is plugged from now on, with the VM lock held
    :ivar registry: what may be plugged into it while it runs; None: nothing (a test's machine)
    """

    poll_max_ns: ClassVar[int] = 32768  # as QEMU's iothread objects by default

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
        super().__init__(no_reboot=no_reboot or not definition.run.reboot)
        self.shutdown_ends = definition.run.shutdown
        self.panic_action = definition.run.panic
        self.preconfig = definition.run.preconfig
        self.board = board
        self.accel = accel
        self.memory_size = memory_size
        self.cpus = cpus
        self.definition = definition
        self.registry: Registry | None = None
        self.on_plug: Callable[[Device], None] | None = None
        self.events = Events()
        self.monitors: MonitorServer | None = None
        self.control: ControlSocket | None = None
        self.backends: dict[tuple[str, str], Backend] = {}
        self.announcements: dict[str, Any] = {}  # announce-self's that go on, by id
        self.system_bus = Bus("main-system-bus")
        self.root_buses: list[Bus] = [self.system_bus]
        self.composition = Composition(cpus)
        self._iothreads: dict[str | None, IOThread] = {}
        self._faults: Faults | None = None
        self._macs = 0
        self._cleanup = ExitStack()
        self.memory = GuestMemory()
        self._cleanup.callback(self.memory.close)
        self.space = AddressSpace()
        self._cleanup.callback(self.space.close)
        self.loop = MainLoop(self.space.lock, LOOP_POLL_MAX_NS if self.poll_max_ns else 0)
        self._cleanup.callback(self.loop.close)
        self._cleanup.callback(self._close_backends)
        self.clock = accel.make_clock(self.loop)

    # -- building

    @cached_property
    def watchdog(self) -> Watchdog:
        """Names devices in Python that hold the machine up; looks from when it is first asked for."""
        from qdevpy.vm.watchdog import Watchdog

        found = Watchdog()
        found.start()
        self._cleanup.callback(found.close)
        return found

    @property
    def lock(self) -> AbstractContextManager[object]:
        """The VM lock: orders device-model state between vCPU exits and the main loop."""
        return self.space.lock

    def open(self) -> None:
        """Give the board its memory and open the accelerator.

        :raises AccelError: see :meth:`Accelerator.open`
        """
        self.board.add_memory(self)
        self.accel.open(self.memory, self.space)
        self._cleanup.callback(self.accel.close)

    def at_close(self, callback: Callable[[], object]) -> None:
        """Call at the machine's end, when its devices are gone and its back ends still there."""
        self._cleanup.callback(callback)

    def add_backend(self, backend: Backend) -> None:
        """Open a back end and keep it until the end.

        :raises BackendError: it cannot be opened, or its name is taken
        """
        if (backend.section, backend.name) in self.backends:
            raise BackendError(f"{backend.section[:-1]} '{backend.name}' exists already; choose another name")
        backend.machine = self
        backend.before_open()
        try:
            backend.open()
        except BaseException:
            backend.after_close()
            raise
        self.backends[backend.section, backend.name] = backend

    def remove_backend(self, section: str, name: str) -> None:
        """Close a back end and forget it.

        :raises BackendError: there is none of that name, or it is in use
        """
        backend = self.backend(section, name)
        backend.removable()
        del self.backends[section, name]
        backend.close()
        backend.after_close()
        backend.removed()

    def forget_backend(self, backend: Backend) -> None:
        """Free the name of a back end that somebody still uses; it is closed with the machine, if not before."""
        del self.backends[backend.section, backend.name]
        self._cleanup.callback(backend.after_close)
        self._cleanup.callback(backend.close)

    def _close_backends(self) -> None:
        """Newest first, for some stand on others."""
        with ExitStack() as closing:
            for backend in self.backends.values():
                closing.callback(backend.after_close)
                closing.callback(backend.close)
            self.backends.clear()

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
        from qdevpy.native.iothread import IOThread, Polling

        if name not in self._iothreads:
            polling = Polling(self.poll_max_ns) if name is None else None  # an object of objects: has its own
            thread = IOThread(name or "default", polling)
            self._iothreads[name] = thread
            self._cleanup.callback(thread.close)
        return self._iothreads[name]

    @property
    def iothreads(self) -> Mapping[str, IOThread]:
        """The I/O threads that have a name."""
        return {name: thread for name, thread in self._iothreads.items() if name is not None}

    def end_iothread(self, name: str) -> None:
        """Forget an I/O thread. Where a device's queues are on it, it goes on until the end, as in QEMU."""
        from qdevpy.vm.build import references

        thread = self._iothreads.pop(name, None)
        named = (getattr(r[0], r[2]) for device in self.devices() for r in references(device))
        serving = (queue.iothread for device in self.devices() for queue in getattr(device, "queues", ()))
        if thread is not None and not any(each is thread for each in chain(named, serving)):
            thread.close()

    @property
    def faults(self) -> Faults:
        """What goes wrong on purpose (docs/faults.md); made when first asked for."""
        if self._faults is None:
            from qdevpy.faults.injector import Faults

            self._faults = Faults(self)
        return self._faults

    def add_root_bus(self, bus: Bus) -> Bus:
        """A bus that no device offers."""
        self.root_buses.append(bus)
        return bus

    def plug(self, device: Device, bus: Bus | None = None, *, name: str | None = None) -> None:
        """Put a device on BUS, or on the first bus of its sort.

        :param name: what the board calls it in the composition tree; None: its place follows from its id
        :raises RealizeError: there is no such bus, the id is taken, or the device's own reason
        """
        if bus is None:
            bus = self.find_bus(device.bus_type or self.system_bus.bus_type)
        if bus is None:
            raise RealizeError(f"needs a bus of type {device.bus_type}, and the machine has none", device=device.label)
        device.machine = self
        if not device.user_creatable and (self.board.compat or self.definition.globals):
            from qdevpy.vm.build import apply_defaults

            apply_defaults(self, device)  # chips have them, too; users' devices got theirs before their own properties
        with self.lock:
            if device.qom_parent is None:
                self.composition.add(device, name)
            try:
                bus.plug(device)
            except BaseException:
                device.cleanup.close()  # of one that did not get as far as realize
                raise
            if self.on_plug is not None:
                self.on_plug(device)

    def find_data_file(self, *names: str) -> str | None:
        """The first of these files that is found; see :mod:`qdevpy.vm.data_files`."""
        from qdevpy.vm.data_files import find_data_file

        return find_data_file(self, *names)

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

    def create_vcpus(self) -> None:
        """Make the vCPUs, where the accelerator has any; paused."""
        if isinstance(self.accel, CpuAccelerator):
            self.accel.on_stop = self._vcpu_stopped
            self.accel.cpu = self.definition.cpu.given if self.definition.cpu else None
            self.accel.topology = self.definition.topology
            self.accel.create_vcpus(self.cpus)

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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if isinstance(self.accel, CpuAccelerator):
            self.accel.pause()
        self.close()
