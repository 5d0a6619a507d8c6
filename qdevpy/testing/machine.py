# SPDX-License-Identifier: Apache-2.0
"""A machine without a CPU, for register-level tests: RAM, one PCI bus, everything real but the guest."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from qdevpy.accel.base import BootState
from qdevpy.accel.none import NoneAccelerator
from qdevpy.definition.model import MachineDefinition
from qdevpy.pci.bus import PCIBus
from qdevpy.qdev.device import Device
from qdevpy.vm.board import Board
from qdevpy.vm.machine import Machine, RunState

if TYPE_CHECKING:
    from qdevpy.backend.base import Backend
    from qdevpy.qdev.bus import Bus
    from qdevpy.qdev.types import DeviceType

RAM_SIZE = 16 << 20
#: where drivers' memory and BARs start; what lies below is for tests that place things by hand
FIRST_BUFFER, FIRST_PORT, FIRST_MMIO = 0x1_0000, 0xC000, 0xE000_0000


class Allocator:
    """Hands out a range of addresses, upwards; nothing is given back."""

    def __init__(self, start: int, end: int) -> None:
        self.next = start
        self.end = end

    def take(self, size: int, align: int = 16) -> int:
        """The first of SIZE addresses that nobody else has."""
        address = (self.next + align - 1) & ~(align - 1)
        assert address + size <= self.end, f"used up: {size} more, of {self.end:#x}"
        self.next = address + size
        return address


class BareBoard(Board):
    """RAM from address 0 and a PCI bus whose pins lead to GSIs 16 to 19."""

    type_name: ClassVar[str] = "bare"

    def add_memory(self, machine: Machine) -> None:
        """One range."""
        machine.memory.add_ram(0, machine.memory_size)

    def build(self, machine: Machine) -> None:
        """The bus."""
        bus = PCIBus("pci.0", accel=machine.accel)
        bus.intx_router = lambda slot, pin: 16 + (slot + pin - 1) % 4
        machine.add_root_bus(bus)

    def prepare_boot(self, machine: Machine) -> BootState | None:
        """Nothing boots."""
        return None


class FakeMachine(Machine):
    """A running machine of a :class:`BareBoard`. Use as a context manager. Its I/O threads do not poll: tests count kicks.

    :param memory_size: bytes of RAM at address 0
    :param types: device types by name, for :meth:`plug_type`
    :ivar ram: guest memory for drivers; ``ports`` and ``mmio``: addresses for their BARs
    """

    poll_max_ns: ClassVar[int] = 0

    def __init__(self, memory_size: int = RAM_SIZE, types: dict[str, DeviceType] | None = None) -> None:
        self.accelerator = NoneAccelerator()
        super().__init__(
            BareBoard(),
            self.accelerator,
            memory_size=memory_size,
            cpus=1,
            definition=MachineDefinition(machine="bare", accel="none"),
        )
        self.types = dict(types or {})
        self.ram = Allocator(FIRST_BUFFER, memory_size)
        self.ports = Allocator(FIRST_PORT, 0x1_0000)
        self.mmio = Allocator(FIRST_MMIO, 1 << 32)
        self.open()
        self.board.build(self)
        self.state = RunState.RUNNING
        self.clock.start()

    @property
    def pci(self) -> PCIBus:
        """The PCI bus."""
        bus = self.find_bus("pci.0")
        assert isinstance(bus, PCIBus)
        return bus

    def plug_device(self, device: Device, bus: Bus | None = None, **properties: Any) -> Device:
        """Set properties (``_`` for ``-``; back ends as objects) and plug."""
        set_properties(device, properties)
        self.plug(device, bus)
        return device

    def plug_type(self, kind: DeviceType | str, *, id: str | None = None, bus: Bus | None = None, **properties: Any) -> Any:  # noqa: A002
        """Create a device of a type, set properties, plug; the device."""
        device = (self.types[kind] if isinstance(kind, str) else kind).create()
        device.id = id
        return self.plug_device(device, bus, **properties)

    def open_backend(self, backend: Backend, **properties: Any) -> Any:
        """Set properties, open, and keep until the end."""
        for name, value in properties.items():
            backend.set_property(name.replace("_", "-"), value)
        self.add_backend(backend)
        return backend

    def wait_for(self, condition: Callable[[], Any], what: str = "condition", timeout: float = 10.0) -> Any:
        """Run the main loop until CONDITION() is true; its value.

        :raises TimeoutError: after TIMEOUT seconds
        """
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {timeout:g} s")
            self.loop.run_once(0.001)
        return value

    def run_loop_once(self, timeout: float = 0.0) -> None:
        """One round of the main loop."""
        self.loop.run_once(timeout)


def set_properties(device: Device, properties: dict[str, Any]) -> None:
    """By keyword; what is no plain scalar (a back end, an I/O thread) is put in place as it is."""
    for keyword, value in properties.items():
        names = device.all_properties()
        name = keyword if keyword in names else keyword.replace("_", "-")
        if value is None or isinstance(value, str | int | float):
            device.set_property(name, value)
        else:
            owner, declared = device.find_property(name)
            setattr(owner, declared.attribute, value)
