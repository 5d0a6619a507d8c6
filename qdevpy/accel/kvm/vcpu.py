# SPDX-License-Identifier: Apache-2.0
"""A vCPU: its descriptors, its registers, its state at power-on, and what its stops mean to a user."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from qdevpy.accel.base import BootState, StopReason
from qdevpy.accel.kvm import api, registers
from qdevpy.errors import GuestAddressError
from qdevpy.native.core import ffi, lib

if TYPE_CHECKING:
    from qdevpy.native.memory import GuestMemory
    from qdevpy.native.space import AddressSpace

#: in the order in which they are put back: APIC base before the APIC, the APIC before its deadline timer (an MSR)
STATES = (
    (api.GET_SREGS, api.SET_SREGS),
    (api.GET_REGS, api.SET_REGS),
    (api.GET_XSAVE, api.SET_XSAVE),  # x87, SSE, AVX, PKRU...
    (api.GET_XCRS, api.SET_XCRS),
    (api.GET_DEBUGREGS, api.SET_DEBUGREGS),
    (api.GET_LAPIC, api.SET_LAPIC),
    (api.GET_VCPU_EVENTS, api.SET_VCPU_EVENTS),
    (api.GET_MP_STATE, api.SET_MP_STATE),
)

FEATURE_CONTROL = 0x3A
MISC_ENABLE = 0x1A0
#: as firmware leaves it, and QEMU: without it Linux thinks that an Intel processor is slow at REP MOVSB
FAST_STRINGS = 1

#: MSRs that a reset brings back; the TSC goes on
MSRS = (
    *(0x174, 0x175, 0x176),  # SYSENTER
    *(0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084, 0xC0000102, 0xC0000103),  # SYSCALL, KERNEL_GS_BASE, TSC_AUX
    *(0x277, 0x2FF, *range(0x200, 0x210), 0x250, 0x258, 0x259, *range(0x268, 0x270)),  # PAT, MTRRs
    *(0x48, MISC_ENABLE, 0x1D9, 0xDA0, 0x6E0),  # SPEC_CTRL, DEBUGCTL, XSS, TSC_DEADLINE
    # KVM's own, which make it write into guest memory: clocks, async page faults, steal time, EOI
    *(0x11, 0x12, *range(0x4B564D00, 0x4B564D09)),
)

#: MTRRdefType as firmware leaves it: on, everything write-back; Linux uses no page attribute table while MTRRs are off
MTRR_WRITE_BACK = (0x2FF, 0, 0x806)

#: in the order of struct kvm_regs, and the segments in that of struct kvm_sregs
GENERAL = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", *(f"r{n}" for n in range(8, 16)), "rip", "rflags")
SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt")

SYSTEM_EVENTS = {1: "shutdown", 2: "reset", 3: "crash"}


class VCpu:
    """One vCPU. Its thread belongs to the accelerator.

    :ivar pointer: ``struct qd_vcpu *``
    :raises OSError: what KVM said
    """

    def __init__(self, vm_fd: int, index: int, run_size: int, memory: GuestMemory, space: AddressSpace, cpuid: bytes) -> None:
        self.index = index
        self._memory = memory
        self.fd = api.ioctl(vm_fd, api.CREATE_VCPU, index)
        self._run = mmap.mmap(self.fd, run_size, flags=mmap.MAP_SHARED)
        self._run_start = ffi.from_buffer("uint8_t[]", self._run, require_writable=True)
        self.pointer: Any = ffi.new("struct qd_vcpu *")
        self.pointer.fd = self.fd
        self.pointer.run = self._run_start
        self.pointer.space = space.pointer
        api.ioctl_write(self.fd, api.SET_CPUID2, cpuid)
        self._enable_fast_strings()
        self._feature_control = self._read_msrs([FEATURE_CONTROL])
        self._power_on = [(put, bytes(api.ioctl_read(self.fd, get))) for get, put in STATES]
        self._msrs = self._read_msrs(MSRS)
        self._fresh = True

    def close(self) -> None:
        """Its thread has ended."""
        ffi.release(self._run_start)
        self._run.close()
        os.close(self.fd)

    # -- registers; the vCPU is paused

    def reset(self) -> None:
        """Back to power-on: as KVM made it."""
        if self._fresh:
            return
        # first: as host's write of 0 it ends a VMX operation, which forbids control registers their power-on values
        api.ioctl_write(self.fd, api.SET_MSRS, self._feature_control)
        for put, state in self._power_on:
            api.ioctl_write(self.fd, put, state)
        api.ioctl_write(self.fd, api.SET_MSRS, self._msrs)
        self._fresh = True

    def set_boot_state(self, state: BootState) -> None:
        """Go to a state that firmware or a boot loader would leave behind."""
        self._fresh = False
        api.ioctl_write(self.fd, api.SET_SREGS, registers.sregs(state, self._power_on[0][1]))
        api.ioctl_write(self.fd, api.SET_REGS, registers.regs(state))

    def enable_mtrrs(self) -> None:
        """Memory types as firmware leaves them on every processor."""
        self._fresh = False
        api.ioctl_write(self.fd, api.SET_MSRS, api.MSRS_HEAD.pack(1, 0) + api.MSR_ENTRY.pack(*MTRR_WRITE_BACK))

    def _enable_fast_strings(self) -> None:
        head, size = api.MSRS_HEAD.pack(1, 0), api.MSRS_HEAD.size
        found = self._read_msrs([MISC_ENABLE])
        if len(found) > size:
            index, _, value = api.MSR_ENTRY.unpack_from(found, size)
            # a KVM that does not let us goes on without
            api.ioctl_write(self.fd, api.SET_MSRS, head + api.MSR_ENTRY.pack(index, 0, value | FAST_STRINGS))

    def _read_msrs(self, wanted: Iterable[int]) -> bytes:
        """``struct kvm_msrs`` with the values of those that this host has."""
        found = []
        left = list(wanted)
        while left:
            entries = b"".join(api.MSR_ENTRY.pack(index, 0, 0) for index in left)
            data = bytearray(api.MSRS_HEAD.pack(len(left), 0) + entries)
            done = api.ioctl_update(self.fd, api.GET_MSRS, data)  # stops at the first that it does not know
            size = api.MSR_ENTRY.size
            found += [bytes(data[api.MSRS_HEAD.size + i * size :][:size]) for i in range(done)]
            left = left[done + 1 :]
        return api.MSRS_HEAD.pack(len(found), 0) + b"".join(found)

    # -- running; on its thread

    def run(self) -> StopReason | None:
        """Run until a kick (None) or until it stops by itself."""
        self._fresh = False
        stop = lib.qd_vcpu_run(self.pointer)
        return None if stop == lib.QD_STOP_REQUESTED else self.describe(stop)

    def kick(self) -> None:
        """Have :meth:`run` return None soon. Any thread."""
        lib.qd_vcpu_kick(self.pointer)

    def describe(self, stop: int) -> StopReason:
        """What an ``enum qd_stop`` means to the user; the vCPU has just stopped."""
        detail = int(self.pointer.detail)
        if stop == lib.QD_STOP_SHUTDOWN:
            return StopReason("shutdown", f"vCPU {self.index}: triple fault", self.index)
        if stop == lib.QD_STOP_SYSTEM and detail in (1, 2):
            return StopReason("shutdown", f"vCPU {self.index}: the guest asked KVM for {SYSTEM_EVENTS[detail]}", self.index)
        what = {
            lib.QD_STOP_SYSTEM: f"system event {detail} ({SYSTEM_EVENTS.get(detail, 'unknown')})",
            lib.QD_STOP_INTERNAL: self._internal_error(detail),
            lib.QD_STOP_FAIL_ENTRY: f"KVM cannot enter the guest (hardware reason {detail:#x}); 'dmesg' may say more",
            lib.QD_STOP_ERRNO: f"KVM_RUN: {os.strerror(detail)}",
            lib.QD_STOP_DEBUG: "unexpected debug exit",
        }.get(stop, f"KVM exit {detail}, which this machine does not handle")
        return StopReason("crash", f"vCPU {self.index}: {what}", self.index)

    def _internal_error(self, suberror: int) -> str:
        if suberror != api.INTERNAL_ERROR_EMULATION:
            return f"KVM internal error {suberror} at RIP {self.rip():#x}"
        return (
            f"KVM cannot emulate the instruction at RIP {self.rip():#x}: bytes {self.instruction().hex(' ') or 'unknown'}; "
            "'qdevpy doctor' tells whether this host runs guest kernels in its instruction emulator"
        )

    def rip(self) -> int:
        """The instruction pointer."""
        return int(api.REGS.unpack_from(api.ioctl_read(self.fd, api.GET_REGS))[16])

    def read_registers(self) -> dict[str, int]:
        """General, segment, table and control registers by name; the vCPU is paused."""
        general = api.REGS.unpack_from(api.ioctl_read(self.fd, api.GET_REGS))
        found = dict(zip(GENERAL, general, strict=True))
        special = api.ioctl_read(self.fd, api.GET_SREGS)
        for number, name in enumerate(SEGMENTS):
            segment = api.SEGMENT.unpack_from(special, number * api.SEGMENT.size)
            found |= {f"{name}_base": segment[0], f"{name}_limit": segment[1], f"{name}_selector": segment[2]}
        at = len(SEGMENTS) * api.SEGMENT.size
        for name in ("gdt", "idt"):
            found[f"{name}_base"], found[f"{name}_limit"] = api.DTABLE.unpack_from(special, at)
            at += api.DTABLE.size
        control = api.SREGS_TAIL.unpack_from(special, at)
        return found | dict(zip(("cr0", "cr2", "cr3", "cr4", "cr8", "efer", "apic_base"), control, strict=True))

    def translate(self, linear: int) -> int | None:
        """The physical address of a linear one, through the guest's page tables; None: not mapped."""
        translated = api.ioctl_read(self.fd, api.TRANSLATE, api.TRANSLATION.pack(linear, 0, 0, 0, 0))
        _, physical, valid, _, _ = api.TRANSLATION.unpack_from(translated)
        return int(physical) if valid else None

    def instruction(self) -> bytes:
        """The bytes that KVM could not emulate: from the exit (``emulation_failure`` in ``struct kvm_run``) where it has
        them, else from guest memory; empty where neither is there.
        """
        ndata, flags, size = struct.unpack_from("<4xIQB", self._run, 32)
        if ndata >= 3 and flags & 1:
            return bytes(self._run[49 : 49 + min(size, 15)])
        return self.code()

    def code(self, n: int = 15) -> bytes:
        """Up to N bytes at the instruction pointer, through the guest's page tables; empty: not mapped, or not RAM."""
        cs_base = api.SEGMENT.unpack_from(api.ioctl_read(self.fd, api.GET_SREGS))[0]
        linear = cs_base + self.rip() & 0xFFFF_FFFF_FFFF_FFFF
        translated = api.ioctl_read(self.fd, api.TRANSLATE, api.TRANSLATION.pack(linear, 0, 0, 0, 0))
        _, physical, valid, _, _ = api.TRANSLATION.unpack_from(translated)
        try:
            return self._memory.read(physical, min(n, 4096 - physical % 4096)) if valid else b""
        except GuestAddressError:
            return b""
