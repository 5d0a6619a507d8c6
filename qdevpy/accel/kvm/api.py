# SPDX-License-Identifier: Apache-2.0
"""KVM's ioctls and structures, by the names of ``<linux/kvm.h>``; x86-64 numbers."""

from __future__ import annotations

import fcntl
import struct

API_VERSION = 12  # all there ever was since Linux 2.6.22

# -- on /dev/kvm
GET_API_VERSION = 0xAE00
CREATE_VM = 0xAE01
CHECK_EXTENSION = 0xAE03
GET_VCPU_MMAP_SIZE = 0xAE04
GET_SUPPORTED_CPUID = 0xC008AE05

# -- on a VM
CREATE_VCPU = 0xAE41
SET_USER_MEMORY_REGION = 0x4020AE46
SET_IDENTITY_MAP_ADDR = 0x4008AE48
CREATE_IRQCHIP = 0xAE60
IRQ_LINE = 0x4008AE61
GET_IRQCHIP = 0xC208AE62
SET_IRQCHIP = 0x8208AE63
SET_GSI_ROUTING = 0x4008AE6A
IRQFD = 0x4020AE76
CREATE_PIT2 = 0x4040AE77
IOEVENTFD = 0x4040AE79
SET_CLOCK = 0x4030AE7B
GET_CLOCK = 0x8030AE7C
GET_PIT2 = 0x8070AE9F
SET_PIT2 = 0x4070AEA0

# -- on a vCPU
GET_REGS = 0x8090AE81
SET_REGS = 0x4090AE82
GET_SREGS = 0x8138AE83
SET_SREGS = 0x4138AE84
TRANSLATE = 0xC018AE85
GET_MSRS = 0xC008AE88
SET_MSRS = 0x4008AE89
GET_LAPIC = 0x8400AE8E
SET_LAPIC = 0x4400AE8F
SET_CPUID2 = 0x4008AE90
GET_MP_STATE = 0x8004AE98
SET_MP_STATE = 0x4004AE99
GET_VCPU_EVENTS = 0x8040AE9F
SET_VCPU_EVENTS = 0x4040AEA0
GET_DEBUGREGS = 0x8080AEA1
SET_DEBUGREGS = 0x4080AEA2
GET_XSAVE = 0x9000AEA4
SET_XSAVE = 0x5000AEA5
GET_XCRS = 0x8188AEA6
SET_XCRS = 0x4188AEA7
KVMCLOCK_CTRL = 0xAEAD

# -- KVM_CAP_
CAP_IRQCHIP = 0
CAP_USER_MEMORY = 3
CAP_NR_VCPUS = 9
CAP_NR_MEMSLOTS = 10
CAP_IRQ_ROUTING = 25
CAP_IRQFD = 32
CAP_PIT2 = 33
CAP_IOEVENTFD = 36
CAP_MAX_VCPUS = 66
CAP_TSC_DEADLINE_TIMER = 72
CAP_SIGNAL_MSI = 77
CAP_READONLY_MEM = 81
CAP_SPLIT_IRQCHIP = 121
CAP_IOEVENTFD_ANY_LENGTH = 122
CAP_IMMEDIATE_EXIT = 136
CAP_NESTED_STATE = 157
CAP_DIRTY_LOG_RING = 192

PIT_SPEAKER_DUMMY = 1

IOEVENTFD_FLAG_DATAMATCH = 1
IOEVENTFD_FLAG_PIO = 2
IOEVENTFD_FLAG_DEASSIGN = 4
IRQFD_FLAG_DEASSIGN = 1

ROUTING_IRQCHIP = 1
ROUTING_MSI = 2
IRQCHIP_PIC_MASTER = 0
IRQCHIP_PIC_SLAVE = 1
IRQCHIP_IOAPIC = 2
PIC_ELCR = 8 + 14  # offset in struct kvm_irqchip, with a struct kvm_pic_state in it

EXIT_INTERNAL_ERROR = 17
INTERNAL_ERROR_EMULATION = 1

# -- structures; sizes are checked against the ioctl numbers by a test
MEM_READONLY = 1 << 1
USERSPACE_MEMORY_REGION = struct.Struct("<IIQQQ")  # slot, flags, guest_phys_addr, memory_size, userspace_addr
IRQFD_STRUCT = struct.Struct("<IIII16x")  # fd, gsi, flags, resamplefd
IOEVENTFD_STRUCT = struct.Struct("<QQIiI36x")  # datamatch, addr, len, fd, flags
IRQ_LEVEL = struct.Struct("<II")  # irq, level
PIT_CONFIG = struct.Struct("<I60x")  # flags
ROUTE_IRQCHIP = struct.Struct("<IIIIII24x")  # gsi, type, flags, pad, irqchip, pin
ROUTE_MSI = struct.Struct("<IIIIIII20x")  # gsi, type, flags, pad, address_lo, address_hi, data
REGS = struct.Struct("<18Q")  # rax rbx rcx rdx rsi rdi rsp rbp r8-r15 rip rflags
SEGMENT = struct.Struct("<QIH9Bx")  # base limit selector, type present dpl db s l g avl unusable
DTABLE = struct.Struct("<QH6x")  # base limit
SREGS_TAIL = struct.Struct("<7Q32x")  # cr0 cr2 cr3 cr4 cr8 efer apic_base, interrupt_bitmap
CPUID_HEAD = struct.Struct("<II")  # nent, padding
CPUID_ENTRY = struct.Struct("<7I12x")  # function index flags eax ebx ecx edx
MSRS_HEAD = struct.Struct("<II")  # nmsrs, pad
MSR_ENTRY = struct.Struct("<IIQ")  # index, reserved, data
CLOCK_DATA = struct.Struct("<QI36x")  # clock, flags
TRANSLATION = struct.Struct("<QQBBB5x")  # linear, physical, valid, writable, usermode


def ioctl(fd: int, request: int, argument: int = 0) -> int:
    """An ioctl whose argument is a number.

    :raises OSError: what KVM said
    """
    return fcntl.ioctl(fd, request, argument)


def ioctl_update(fd: int, request: int, data: bytearray) -> int:
    """An ioctl that reads and writes DATA in place.

    :raises OSError: what KVM said
    """
    return int(fcntl.ioctl(fd, request, data))


def ioctl_write(fd: int, request: int, data: bytes) -> int:
    """An ioctl that reads a structure from us.

    :raises OSError: what KVM said
    """
    return ioctl_update(fd, request, bytearray(data))


def ioctl_read(fd: int, request: int, data: bytes | bytearray = b"") -> bytearray:
    """An ioctl that fills a structure of the size in REQUEST, which starts out as DATA.

    :raises OSError: what KVM said
    """
    buffer = bytearray(max(len(data), request >> 16 & 0x3FFF))
    buffer[: len(data)] = data
    ioctl_update(fd, request, buffer)
    return buffer
