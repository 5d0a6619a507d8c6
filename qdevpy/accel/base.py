# SPDX-License-Identifier: Apache-2.0
"""What runs the guest, and what carries its kicks and interrupts.

``none`` (no CPU: registers are driven by Python; unit tests) and ``kvm`` implement it. Interrupts are
eventfds everywhere: a queue's MSI-X vector is one, and the accelerator turns it into a message.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, NamedTuple

if TYPE_CHECKING:
    from qdevpy.native.memory import GuestMemory
    from qdevpy.native.space import AddressSpace
    from qdevpy.vm.clock import Clock
    from qdevpy.vm.loop import MainLoop


class MsiMessage(NamedTuple):
    """What an MSI writes: the address and data registers of a vector (PCI 3.0, 6.8.1)."""

    address: int
    data: int


class IoEvent(NamedTuple):
    """Where a write signals an eventfd instead of leaving the guest (KVM_IOEVENTFD).

    :ivar bus: ``"pio"`` or ``"mmio"``
    :ivar size: bytes of the write; 0: any (MMIO only, without datamatch)
    :ivar datamatch: the value that must be written, or None for any
    """

    bus: str
    address: int
    size: int
    datamatch: int | None
    fd: int


class ExitCounts(NamedTuple):
    """How often a vCPU came to this program: for a port, for memory that is a device's, for anything else."""

    pio: int
    mmio: int
    other: int


class Accelerator(ABC):
    """What runs the guest. All methods are called with the VM lock held unless they say otherwise."""

    name: ClassVar[str]

    def make_clock(self, loop: MainLoop) -> Clock:
        """Virtual time; here the host's, while the machine runs."""
        from qdevpy.vm.clock import HostClock

        return HostClock(loop)

    @property
    def thread_ids(self) -> Sequence[int]:
        """The host's ids of the vCPUs' threads, in their order; an accelerator without such threads has none."""
        return ()

    @property
    def exits(self) -> Sequence[ExitCounts]:
        """What the vCPUs left the guest for, in their order; an accelerator without vCPUs has none."""
        return ()

    @abstractmethod
    def open(self, memory: GuestMemory, space: AddressSpace) -> None:
        """Make the virtual machine (no vCPUs yet).

        :raises AccelError: missing or refused; says what to do
        """

    @abstractmethod
    def close(self) -> None:
        """Give everything back; vCPU threads have ended."""

    @abstractmethod
    def assign_ioevent(self, event: IoEvent) -> None:
        """:raises OSError: the accelerator refuses (ENOSPC, EEXIST); callers fall back to synchronous notify."""

    @abstractmethod
    def deassign_ioevent(self, event: IoEvent) -> None:
        """Undo :meth:`assign_ioevent`."""

    @abstractmethod
    def assign_irqfd(self, fd: int, message: MsiMessage) -> int:
        """Have signals of eventfd FD raise MESSAGE; a signal that is already pending is delivered.

        :returns: a handle
        """

    @abstractmethod
    def update_irqfd(self, handle: int, message: MsiMessage) -> None:
        """Change the message of an assigned irqfd."""

    @abstractmethod
    def deassign_irqfd(self, handle: int) -> None:
        """From now on signals stay pending in the eventfd."""

    @abstractmethod
    def set_gsi(self, gsi: int, level: bool) -> None:
        """Drive an interrupt line of the interrupt controllers. Any thread."""

    @property
    @abstractmethod
    def set_gsi_pointer(self) -> tuple[object, object]:
        """``(C function pointer void(*)(void *opaque, int gsi, int level), void *opaque)`` for native code."""


class CpuAccelerator(Accelerator):
    """An accelerator with vCPUs (``kvm``).

    :ivar on_stop: called on the vCPU's thread, without the VM lock, when a vCPU stops by itself
    :ivar cpu: model and features, as QEMU's -cpu; None: everything that the host has. Set before vCPUs are made
    :ivar topology: ``sockets``, ``dies``, ``cores``, ``threads``; empty: one socket of cores. Likewise
    """

    on_stop: Callable[[StopReason], None] | None = None
    cpu: str | None = None
    topology: Mapping[str, int] = MappingProxyType({})

    @abstractmethod
    def create_vcpus(self, count: int) -> None:
        """Make vCPUs 0..count-1 and their threads, paused."""

    @abstractmethod
    def set_boot_state(self, state: BootState) -> None:
        """Put vCPU 0 at the boot state and the others into wait-for-SIPI; all vCPUs are paused."""

    @abstractmethod
    def reset_vcpus(self) -> None:
        """All vCPUs and in-kernel interrupt controllers to their power-on state; all are paused."""

    @abstractmethod
    def set_level_triggered(self, irqs: Iterable[int]) -> None:
        """What firmware writes to the 8259s' edge/level control registers (ports 0x4D0 and 0x4D1): of the ISA interrupts 0
        to 15 these are level triggered, the others edge triggered. All vCPUs are paused; a reset undoes it.
        """

    def registers(self, index: int) -> Mapping[str, int]:
        """Registers of a vCPU by name (``rax``, ``cs_base``, ``cr0``); vCPUs are paused."""
        return {}

    def translate(self, index: int, address: int) -> int | None:
        """The physical address of one of a vCPU's, by its page tables; None: not mapped. vCPUs are paused."""
        return address

    def hold_current(self) -> None:
        """From a vCPU's exit: that vCPU runs no further instruction until the next :meth:`resume`. Elsewhere nothing."""

    @abstractmethod
    def resume(self) -> None:
        """Let the vCPUs run."""

    @abstractmethod
    def pause(self) -> None:
        """Return once no vCPU runs guest code or a device callback. Called WITHOUT the VM lock."""


class BootState(NamedTuple):
    """Registers of vCPU 0 at the guest's first instruction; what is not named is as after reset.

    :ivar mode: ``"real"`` (reset vector / firmware), ``"protected"`` (PVH: flat 32-bit, paging off) or
        ``"long"`` (64-bit, identity-mapped page tables at ``cr3``)
    """

    mode: str
    rip: int
    rsi: int = 0
    rbx: int = 0
    rsp: int = 0
    cr3: int = 0
    gdt_base: int = 0
    gdt_limit: int = 0


class StopReason(NamedTuple):
    """Why a vCPU stopped by itself: ``shutdown`` (triple fault) or ``crash`` with a message for the user."""

    kind: str
    message: str
    vcpu: int
