# SPDX-License-Identifier: Apache-2.0
"""CPUID of the vCPUs: what the host's KVM supports, with each vCPU's own APIC id and the machine's topology.

APIC ids count up without gaps, so cores and threads in each socket are powers of two, or there is one socket.

Sources: Intel SDM vol. 2A, CPUID, leaves 1, 4 and
0Bh; AMD APM vol. 3, appendix E, functions 8000_0001h, 8000_0008h, 8000_001Eh.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from qdevpy.accel.kvm import api

MAX_ENTRIES = 256
FLAG_SIGNIFICANT_INDEX = 1

HYPERVISOR = 1 << 31  # leaf 1 ECX
TSC_DEADLINE = 1 << 24  # leaf 1 ECX
X2APIC = 1 << 21  # leaf 1 ECX
HTT = 1 << 28  # leaf 1 EDX
TOPOEXT = 1 << 22  # 8000_0001h ECX
CMP_LEGACY = 1 << 1  # 8000_0001h ECX
INVARIANT_TSC = 1 << 8  # 8000_0007h EDX


class Leaf(NamedTuple):
    """One entry of ``struct kvm_cpuid2``."""

    function: int
    subleaf: int
    flags: int
    eax: int
    ebx: int
    ecx: int
    edx: int


def supported(kvm_fd: int) -> list[Leaf]:
    """What KVM on this host can show a guest (KVM_GET_SUPPORTED_CPUID).

    :raises OSError: what KVM said
    """
    data = bytearray(api.CPUID_HEAD.pack(MAX_ENTRIES, 0) + bytes(MAX_ENTRIES * api.CPUID_ENTRY.size))
    buffer = api.ioctl_read(kvm_fd, api.GET_SUPPORTED_CPUID, data)
    count = api.CPUID_HEAD.unpack_from(buffer)[0]
    return [Leaf(*api.CPUID_ENTRY.unpack_from(buffer, api.CPUID_HEAD.size + i * api.CPUID_ENTRY.size)) for i in range(count)]


def pack(leaves: Iterable[Leaf]) -> bytes:
    """``struct kvm_cpuid2`` for KVM_SET_CPUID2."""
    entries = [
        api.CPUID_ENTRY.pack(leaf.function, leaf.subleaf, leaf.flags, leaf.eax, leaf.ebx, leaf.ecx, leaf.edx) for leaf in leaves
    ]
    if len(entries) > MAX_ENTRIES:
        raise OSError(errno.E2BIG, "CPUID has more leaves than KVM takes")
    return api.CPUID_HEAD.pack(len(entries), 0) + b"".join(entries)


def for_vcpu(leaves: Iterable[Leaf], apic_id: int, count: int, *, tsc_deadline: bool, threads: int = 1) -> Iterator[Leaf]:
    """The leaves of the vCPU with that APIC id, of COUNT in its socket.

    :param threads: of each core
    :param tsc_deadline: KVM's local APIC has the TSC deadline timer, which KVM_GET_SUPPORTED_CPUID does not report
    """
    for leaf in leaves:
        if leaf.function in (0xB, 0x1F):
            continue  # ours, below
        yield adapt(leaf, apic_id, count, tsc_deadline, threads)
    yield from topology(0xB, apic_id, count, threads)


def topology(function: int, apic_id: int, count: int, threads: int = 1) -> Iterator[Leaf]:
    """Extended topology: threads, cores, end."""
    thread_bits, core_bits = (threads - 1).bit_length(), (count - 1).bit_length()
    for index, (shift, logical, kind) in enumerate(((thread_bits, threads, 1), (core_bits, count, 2), (0, 0, 0))):
        yield Leaf(function, index, FLAG_SIGNIFICANT_INDEX, shift, logical, kind << 8 | index, apic_id)


def adapt(leaf: Leaf, apic_id: int, count: int, tsc_deadline: bool, threads: int = 1) -> Leaf:
    """One leaf, with what differs from the host's."""
    match leaf.function:
        case 1:
            ecx = leaf.ecx | HYPERVISOR | X2APIC | (TSC_DEADLINE if tsc_deadline else 0)
            ebx = leaf.ebx & 0xFF00 | min(count, 255) << 16 | (apic_id & 0xFF) << 24
            return leaf._replace(ebx=ebx, ecx=ecx, edx=leaf.edx & ~HTT | (HTT if count > 1 else 0))
        case 4 if leaf.eax & 0x1F:
            level = leaf.eax >> 5 & 7
            sharing = count - 1 if level >= 3 else 0
            return leaf._replace(eax=leaf.eax & 0x3FFF | sharing << 14 | min(count - 1, 63) << 26)
        case 0xA:  # no performance counters: KVM's need the host's to be free
            return leaf._replace(eax=0, ebx=0, ecx=0, edx=0)
        case 0x80000001:
            return leaf._replace(ecx=leaf.ecx & ~(TOPOEXT | CMP_LEGACY) | (CMP_LEGACY if count > 1 else 0))
        case 0x80000007:
            # as QEMU: it goes on while the machine is stopped, so a guest's time had better come from kvmclock
            return leaf._replace(edx=leaf.edx & ~INVARIANT_TSC)
        case 0x80000008:
            # number of cores - 1, and the bits of the APIC id that number them
            return leaf._replace(ecx=min(count - 1, 255) | (count - 1).bit_length() << 12)
        case 0x8000001E:  # its feature bit is off
            return leaf._replace(eax=apic_id, ebx=apic_id, ecx=0, edx=0)
        case _:
            return leaf
