# SPDX-License-Identifier: Apache-2.0
"""From a :class:`BootState` to ``struct kvm_regs`` and ``struct kvm_sregs``."""

from __future__ import annotations

from qdevpy.accel.base import BootState
from qdevpy.accel.kvm import api

CR0_PE = 1
CR0_ET = 1 << 4
CR0_PG = 1 << 31
CR4_PAE = 1 << 5
EFER_LME = 1 << 8
EFER_LMA = 1 << 10

RFLAGS_FIXED = 2  # bit 1 is always set

SEGMENTS = 8 * api.SEGMENT.size  # cs ds es fs gs ss tr ldt
TABLES = 2 * api.DTABLE.size  # gdt idt

CODE = 0xB  # execute, read, accessed
DATA = 0x3  # read, write, accessed
TSS = 0xB  # busy 32- or 64-bit TSS
LDT = 0x2

#: where the processor starts after reset
RESET_VECTOR = 0xFFFF_FFF0


def regs(state: BootState) -> bytes:
    """``struct kvm_regs`` at the first instruction."""
    rip = state.rip & 0xFFFF if state.mode == "real" else state.rip
    return api.REGS.pack(0, state.rbx, 0, 0, state.rsi, 0, state.rsp, 0, *([0] * 8), rip, RFLAGS_FIXED)


def sregs(state: BootState, power_on: bytes) -> bytes:
    """``struct kvm_sregs`` at the first instruction.

    :param power_on: the structure as KVM made it; keeps what BOOT does not name
    :raises ValueError: the mode is unknown
    """
    if state.mode == "real":
        return _real(state, power_on)
    if state.mode not in ("protected", "long"):
        raise ValueError(f"boot mode '{state.mode}': expected real, protected or long")
    wide = state.mode == "long"
    code = _flat(0x10, CODE, long=wide)
    data = _flat(0x18, DATA)
    # Intel VMX refuses to enter a guest without a usable TSS
    task = api.SEGMENT.pack(0, 0x67, 0, TSS, 1, 0, 0, 0, 0, 0, 0, 0)
    ldt = api.SEGMENT.pack(0, 0, 0, LDT, 1, 0, 0, 0, 0, 0, 0, 1)
    tables = api.DTABLE.pack(state.gdt_base, state.gdt_limit) + api.DTABLE.pack(0, 0)
    _, _, _, _, cr8, _, apic_base = api.SREGS_TAIL.unpack_from(power_on, SEGMENTS + TABLES)
    cr0 = CR0_PE | CR0_ET | (CR0_PG if wide else 0)
    tail = api.SREGS_TAIL.pack(cr0, 0, state.cr3, CR4_PAE if wide else 0, cr8, EFER_LME | EFER_LMA if wide else 0, apic_base)
    return code + data * 5 + task + ldt + tables + tail


def _real(state: BootState, power_on: bytes) -> bytes:
    """As after reset, with CS so that ``rip``, a physical address, is the first instruction."""
    if state.rip in (RESET_VECTOR, RESET_VECTOR & 0xFFFF):
        return power_on
    base = state.rip & 0xF0000
    code = api.SEGMENT.pack(base, 0xFFFF, base >> 4, CODE, 1, 0, 0, 1, 0, 0, 0, 0)
    return code + power_on[api.SEGMENT.size :]


def _flat(selector: int, kind: int, *, long: bool = False) -> bytes:
    """A segment of 4 GiB at 0; type, present, dpl, db, s, l, g, avl, unusable."""
    return api.SEGMENT.pack(0, 0xFFFF_FFFF, selector, kind, 1, 0, not long, 1, long, 1, 0, 0)
