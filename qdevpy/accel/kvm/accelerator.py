# SPDX-License-Identifier: Apache-2.0
"""The KVM accelerator: one VM with its memory slots, interrupt routes, eventfds and vCPU threads."""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from itertools import count as numbers
from typing import TYPE_CHECKING, Any, ClassVar

from qdevpy.accel.base import BootState, CpuAccelerator, ExitCounts, IoEvent, MsiMessage, StopReason
from qdevpy.accel.kvm import api, cpuid
from qdevpy.accel.kvm.cpuid import Leaf
from qdevpy.accel.kvm.routing import Routing
from qdevpy.accel.kvm.vcpu import VCpu
from qdevpy.errors import AccelError
from qdevpy.native.core import ffi, lib

if TYPE_CHECKING:
    from qdevpy.native.memory import GuestMemory, Slot
    from qdevpy.native.space import AddressSpace

log = logging.getLogger(__name__)

#: four pages that Intel's VMX wants below 4 GiB for running real mode; where QEMU puts them
IDENTITY_MAP = 0xFEFF_C000
TSS = 0xFEFF_D000

NEEDED = {
    "KVM_CAP_IRQCHIP": api.CAP_IRQCHIP,
    "KVM_CAP_USER_MEMORY": api.CAP_USER_MEMORY,
    "KVM_CAP_IRQ_ROUTING": api.CAP_IRQ_ROUTING,
    "KVM_CAP_IRQFD": api.CAP_IRQFD,
    "KVM_CAP_PIT2": api.CAP_PIT2,
    "KVM_CAP_IOEVENTFD": api.CAP_IOEVENTFD,
    "KVM_CAP_IOEVENTFD_ANY_LENGTH": api.CAP_IOEVENTFD_ANY_LENGTH,
    "KVM_CAP_IMMEDIATE_EXIT": api.CAP_IMMEDIATE_EXIT,
}

ADVICE = {
    errno.ENOENT: "there is none; load the module (modprobe kvm_intel or kvm_amd), switch virtualization on in the firmware, "
    "or give this container the device (--device /dev/kvm)",
    errno.EACCES: "permission denied; add your user to group 'kvm' (sudo usermod -aG kvm $USER) and log in again",
    errno.EPERM: "permission denied; add your user to group 'kvm', or allow this container the device (--device /dev/kvm)",
    errno.ENODEV: "the module is loaded, and the processor's virtualization is off; switch it on in the firmware",
    errno.EBUSY: "another hypervisor (VirtualBox, VMware) holds the processor's virtualization; stop its machines",
}


def open_kvm(path: str = "/dev/kvm") -> int:
    """Open /dev/kvm and check its version.

    :raises AccelError: says what to do
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise AccelError(f"{path}: {ADVICE.get(error.errno or 0, error.strerror)}") from error
    try:
        version = api.ioctl(fd, api.GET_API_VERSION)
    except OSError as error:
        os.close(fd)
        raise AccelError(f"{path}: not the KVM device: {error.strerror}") from error
    if version != api.API_VERSION:
        os.close(fd)
        raise AccelError(f"{path}: API version {version}, expected {api.API_VERSION}; use a Linux kernel newer than 2.6.22")
    return fd


class KVMAccelerator(CpuAccelerator):
    """See :class:`CpuAccelerator`. vCPU threads park on a condition while the VM is paused.

    :ivar vcpus: all vCPUs, by index, which is the APIC id
    """

    name: ClassVar[str] = "kvm"

    def __init__(self) -> None:
        self.vcpus: list[VCpu] = []
        self._threads: list[threading.Thread] = []
        self._cleanup = ExitStack()
        self._irqfds: dict[int, int] = {}  # GSI -> eventfd
        self._slots: dict[Slot, int] = {}  # memory that KVM knows, and by which number
        # guards what follows; vCPU threads and whoever pauses wait on it
        self._condition = threading.Condition()
        self._running = False
        self._clock: int | None = None  # the guest's, in nanoseconds, while vCPUs are paused
        self._closing = False
        self._parked: set[int] = set()
        self._stopped: set[int] = set()  # stopped by themselves, until reset
        self._held: set[int] = set()  # to stand still after the exit they are in, until resume

    # -- the VM

    def open(self, memory: GuestMemory, space: AddressSpace) -> None:
        """Make the VM with in-kernel irqchip and PIT, and give it the memory.

        :raises AccelError: no KVM, or it lacks something; says what to do
        """
        self._memory, self._space = memory, space
        self._kvm_fd = open_kvm()
        self._cleanup.callback(os.close, self._kvm_fd)
        missing = [name for name, cap in NEEDED.items() if not self._has(cap)]
        if missing:
            self._cleanup.close()
            raise AccelError(f"/dev/kvm: lacks {', '.join(missing)}; use Linux 4.13 or newer as the host's kernel")
        try:
            self._make_vm()
        except OSError as error:
            self._cleanup.close()
            raise AccelError(f"/dev/kvm: {ADVICE.get(error.errno or 0, str(error))}") from error

    def _make_vm(self) -> None:
        self.vm_fd = api.ioctl(self._kvm_fd, api.CREATE_VM)
        self._cleanup.callback(os.close, self.vm_fd)
        api.ioctl_write(self.vm_fd, api.SET_IDENTITY_MAP_ADDR, IDENTITY_MAP.to_bytes(8, "little"))
        error = lib.qd_kvm_set_tss(self.vm_fd, TSS)
        if error:
            raise OSError(-error, os.strerror(-error))
        api.ioctl(self.vm_fd, api.CREATE_IRQCHIP)
        # port 0x61 reads and writes as a PC's without a speaker behind it
        api.ioctl_write(self.vm_fd, api.CREATE_PIT2, api.PIT_CONFIG.pack(api.PIT_SPEAKER_DUMMY))
        self._update_slots()
        self._memory.on_overlays_changed = self._update_slots
        self._routing = Routing(self.vm_fd)
        self._routing.commit()
        self._chips = [bytes(api.ioctl_read(self.vm_fd, api.GET_IRQCHIP, bytes([chip]))) for chip in range(3)]
        self._pit = bytes(api.ioctl_read(self.vm_fd, api.GET_PIT2))

    def _update_slots(self) -> None:
        """KVM_SET_USER_MEMORY_REGION for what is new or gone. vCPUs may be running: one that is in a piece that goes and
        comes back at once waits for it in KVM.
        """
        wanted = self._memory.slots()
        for slot in [slot for slot in self._slots if slot not in wanted]:
            self._set_slot(self._slots.pop(slot), slot, size=0)
        used = set(self._slots.values())
        free = (number for number in numbers() if number not in used)
        for slot in wanted:
            if slot not in self._slots:
                self._slots[slot] = next(free)
                self._set_slot(self._slots[slot], slot, size=slot[1])

    def _set_slot(self, number: int, slot: Slot, *, size: int) -> None:
        gpa, _, hva, writable = slot
        flags = 0 if writable else api.MEM_READONLY
        packed = api.USERSPACE_MEMORY_REGION.pack(number, flags, gpa, size, hva)
        api.ioctl_write(self.vm_fd, api.SET_USER_MEMORY_REGION, packed)

    def _has(self, capability: int) -> int:
        return api.ioctl(self._kvm_fd, api.CHECK_EXTENSION, capability)

    def close(self) -> None:
        """End the vCPU threads and free the VM. WITHOUT the VM lock. May be called twice."""
        self.pause()
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        for vcpu in self.vcpus:
            vcpu.close()
        self.vcpus.clear()
        self._cleanup.close()

    # -- kicks

    def assign_ioevent(self, event: IoEvent) -> None:
        """KVM_IOEVENTFD.

        :raises OSError: EEXIST, ENOSPC
        """
        self._ioeventfd(event, 0)

    def deassign_ioevent(self, event: IoEvent) -> None:
        """Undo :meth:`assign_ioevent`."""
        self._ioeventfd(event, api.IOEVENTFD_FLAG_DEASSIGN)

    def _ioeventfd(self, event: IoEvent, flags: int) -> None:
        if event.bus == "pio":
            flags |= api.IOEVENTFD_FLAG_PIO
        if event.datamatch is not None:
            flags |= api.IOEVENTFD_FLAG_DATAMATCH
        packed = api.IOEVENTFD_STRUCT.pack(event.datamatch or 0, event.address, event.size, event.fd, flags)
        api.ioctl_write(self.vm_fd, api.IOEVENTFD, packed)

    # -- interrupts

    def assign_irqfd(self, fd: int, message: MsiMessage) -> int:
        """KVM_IRQFD on a GSI of its own; KVM delivers a signal that is pending.

        :raises OSError: what KVM said
        """
        gsi = self._routing.allocate(message)
        try:
            api.ioctl_write(self.vm_fd, api.IRQFD, api.IRQFD_STRUCT.pack(fd, gsi, 0, 0))
        except OSError:
            self._routing.free(gsi)
            raise
        self._irqfds[gsi] = fd
        return gsi

    def update_irqfd(self, handle: int, message: MsiMessage) -> None:
        """KVM_SET_GSI_ROUTING."""
        self._routing.update(handle, message)

    def deassign_irqfd(self, handle: int) -> None:
        """KVM_IRQFD with DEASSIGN; on return no signal is under way."""
        packed = api.IRQFD_STRUCT.pack(self._irqfds.pop(handle), handle, api.IRQFD_FLAG_DEASSIGN, 0)
        api.ioctl_write(self.vm_fd, api.IRQFD, packed)
        self._routing.free(handle)

    def set_gsi(self, gsi: int, level: bool) -> None:
        """KVM_IRQ_LINE."""
        lib.qd_kvm_set_gsi(ffi.cast("void *", self.vm_fd), gsi, level)

    @property
    def set_gsi_pointer(self) -> tuple[Any, Any]:
        """``qd_kvm_set_gsi`` and the VM's descriptor."""
        return ffi.addressof(lib, "qd_kvm_set_gsi"), ffi.cast("void *", self.vm_fd)

    # -- vCPUs

    def registers(self, index: int) -> Mapping[str, int]:
        """As :meth:`CpuAccelerator.registers`."""
        return self.vcpus[index].read_registers()

    def translate(self, index: int, address: int) -> int | None:
        """As :meth:`CpuAccelerator.translate`."""
        return self.vcpus[index].translate(address)

    def create_vcpus(self, count: int) -> None:
        """Make the vCPUs and their threads.

        :raises AccelError: more than this host allows
        """
        most = self._has(api.CAP_MAX_VCPUS) or 4
        if count > most:
            raise AccelError(f"cpus: {count}: this host's KVM allows {most}")
        error = lib.qd_vcpu_init()
        if error:
            raise AccelError(f"cannot take the vCPU kick signal: {os.strerror(-error)}")
        run_size = api.ioctl(self._kvm_fd, api.GET_VCPU_MMAP_SIZE)
        deadline = bool(self._has(api.CAP_TSC_DEADLINE_TIMER))
        try:
            leaves = cpuid.supported(self._kvm_fd)
            for index in range(count):
                packed = cpuid.pack(self._cpuid_of(leaves, index, count, deadline))
                self.vcpus.append(VCpu(self.vm_fd, index, run_size, self._memory, self._space, packed))
        except OSError as oserror:
            raise AccelError(f"/dev/kvm: vCPU {len(self.vcpus)} cannot be made: {oserror.strerror}") from oserror
        for vcpu in self.vcpus:
            thread = threading.Thread(target=self._thread, args=(vcpu,), name=f"vCPU {vcpu.index}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _cpuid_of(self, leaves: Sequence[Leaf], index: int, count: int, deadline: bool) -> Iterable[Leaf]:
        """What vCPU INDEX shows the guest of itself.

        :raises AccelError: features were asked for that the host does not have, or an arrangement that APIC ids cannot have
        """
        threads = self.topology.get("threads", 1)
        sockets = self.topology.get("sockets", 1)
        if threads & (threads - 1) or (sockets > 1 and count // sockets & (count // sockets - 1)):
            raise AccelError(
                "topology: threads in a core, and cores in a socket where there are several, must be a power of two; "
                "more sockets with fewer cores each will do"
            )
        shown = list(cpuid.for_vcpu(leaves, index, count // sockets, tsc_deadline=deadline, threads=threads))
        if self.cpu is None:
            return shown
        from qdevpy.accel.kvm.cpu_model import check_host, choose, parse_cpu

        choice = parse_cpu(self.cpu)
        check_host(choice, shown)
        return choose(choice, shown)

    @property
    def thread_ids(self) -> Sequence[int]:
        """As :attr:`Accelerator.thread_ids`."""
        return [thread.native_id or 0 for thread in self._threads]

    @property
    def exits(self) -> Sequence[ExitCounts]:
        """As :attr:`Accelerator.exits`."""
        pointers = [vcpu.pointer for vcpu in self.vcpus]
        return [ExitCounts(each.exits_pio, each.exits_mmio, each.exits_other) for each in pointers]

    def _thread(self, vcpu: VCpu) -> None:
        while self._wait_to_run(vcpu):
            try:
                stop = vcpu.run()
            except OSError as error:  # KVM refuses the registers of a vCPU that stopped
                stop = StopReason("crash", f"vCPU {vcpu.index}: {error.strerror}", vcpu.index)
            if stop is not None:
                self._stopped_by_itself(stop)

    def _stopped_by_itself(self, stop: StopReason) -> None:
        with self._condition:
            self._stopped.add(stop.vcpu)
        try:
            if self.on_stop is not None:
                self.on_stop(stop)
        except Exception:  # the thread must live on: whoever pauses the VM waits for it to park
            log.exception("while reporting: %s", stop.message)

    def _wait_to_run(self, vcpu: VCpu) -> bool:
        """Park until the VM runs; False: it closes."""
        with self._condition:
            self._parked.add(vcpu.index)
            self._condition.notify_all()
            while not self._closing and (not self._running or vcpu.index in self._stopped | self._held):
                self._condition.wait()
            self._parked.discard(vcpu.index)
            return not self._closing

    def resume(self) -> None:
        """Let the vCPUs run that have not stopped by themselves."""
        self._put_clock_back()
        with self._condition:
            self._running = True
            self._held.clear()
            self._condition.notify_all()

    def hold_current(self) -> None:
        """As QEMU's cpu_stop_current: who asked for a reset does not see the next instruction."""
        current = threading.current_thread()
        for vcpu, thread in zip(self.vcpus, self._threads, strict=False):
            if thread is current:
                with self._condition:
                    self._held.add(vcpu.index)
                vcpu.kick()

    def pause(self) -> None:
        """Return once all vCPUs are parked. WITHOUT the VM lock: a vCPU may be waiting for it. Not on a vCPU's thread."""
        assert threading.current_thread() not in self._threads, "a vCPU cannot wait for itself"
        with self._condition:
            ran, self._running = self._running, False
            for vcpu in self.vcpus:
                if vcpu.index not in self._parked:
                    vcpu.kick()
            self._condition.wait_for(lambda: self._closing or len(self._parked) == len(self._threads))
        if ran and self.vcpus:
            self._clock = api.CLOCK_DATA.unpack_from(api.ioctl_read(self.vm_fd, api.GET_CLOCK))[0]

    def _put_clock_back(self) -> None:
        """As QEMU: the guest's kvmclock stands still while the machine is stopped, and its watchdogs are told."""
        if self._clock is None:
            return
        api.ioctl_write(self.vm_fd, api.SET_CLOCK, api.CLOCK_DATA.pack(self._clock, 0))
        self._clock = None
        for vcpu in self.vcpus:
            with suppress(OSError):  # EINVAL: this guest has no kvmclock
                api.ioctl(vcpu.fd, api.KVMCLOCK_CTRL)

    def set_boot_state(self, state: BootState) -> None:
        """Put vCPU 0 at the boot state; the others wait for SIPI, as they do after reset."""
        if state.mode != "real":  # in real mode it is firmware that starts, and does this
            for vcpu in self.vcpus:
                vcpu.enable_mtrrs()
        self.vcpus[0].set_boot_state(state)

    def reset_vcpus(self) -> None:
        """vCPUs, their local APICs, PICs, I/O APIC and PIT as at power-on."""
        for vcpu in self.vcpus:
            vcpu.reset()
        for chip in self._chips:
            api.ioctl_write(self.vm_fd, api.SET_IRQCHIP, chip)
        api.ioctl_write(self.vm_fd, api.SET_PIT2, self._pit)
        with self._condition:
            self._stopped.clear()

    def set_level_triggered(self, irqs: Iterable[int]) -> None:
        """The ELCR byte in each PIC's ``struct kvm_pic_state``."""
        mask = sum(1 << irq for irq in irqs)
        for chip in (api.IRQCHIP_PIC_MASTER, api.IRQCHIP_PIC_SLAVE):
            state = api.ioctl_read(self.vm_fd, api.GET_IRQCHIP, bytes([chip]))
            state[api.PIC_ELCR] = mask >> 8 * chip & 0xFF
            api.ioctl_write(self.vm_fd, api.SET_IRQCHIP, bytes(state))
