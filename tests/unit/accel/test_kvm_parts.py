# SPDX-License-Identifier: Apache-2.0
"""The parts of the KVM accelerator that need no KVM: structures, CPUID, registers, routes, messages."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from qdevpy.accel.base import BootState, MsiMessage
from qdevpy.accel.kvm import accelerator, api, cpuid, doctor, registers, routing
from qdevpy.accel.kvm.cpuid import Leaf
from qdevpy.errors import AccelError

# -- structures


@pytest.mark.parametrize(
    ("request_", "struct_size"),
    [
        (api.SET_USER_MEMORY_REGION, api.USERSPACE_MEMORY_REGION.size),
        (api.IRQFD, api.IRQFD_STRUCT.size),
        (api.IOEVENTFD, api.IOEVENTFD_STRUCT.size),
        (api.IRQ_LINE, api.IRQ_LEVEL.size),
        (api.CREATE_PIT2, api.PIT_CONFIG.size),
        (api.SET_REGS, api.REGS.size),
        (api.SET_SREGS, registers.SEGMENTS + registers.TABLES + api.SREGS_TAIL.size),
        (api.SET_CPUID2, api.CPUID_HEAD.size),
        (api.SET_MSRS, api.MSRS_HEAD.size),
        (api.TRANSLATE, api.TRANSLATION.size),
        (api.SET_CLOCK, api.CLOCK_DATA.size),
    ],
)
def test_structure_has_the_size_in_its_ioctl_number(request_: int, struct_size: int) -> None:
    assert request_ >> 16 & 0x3FFF == struct_size


def test_routing_entries_have_the_kernels_size() -> None:
    assert api.ROUTE_IRQCHIP.size == api.ROUTE_MSI.size == 48


# -- CPUID


def leaf(function: int, index: int = 0, eax: int = 0, ebx: int = 0, ecx: int = 0, edx: int = 0) -> Leaf:
    return Leaf(function, index, 0, eax, ebx, ecx, edx)


def adapted(given: Leaf, apic_id: int = 1, count: int = 4) -> Leaf:
    return next(cpuid.for_vcpu([given], apic_id, count, tsc_deadline=True))


def test_invariant_tsc_is_hidden_so_that_guests_take_kvmclock() -> None:
    assert adapted(leaf(0x80000007, eax=7, edx=0x1FF)) == leaf(0x80000007, eax=7, edx=0xFF)


def test_leaf_1_has_apic_id_count_and_hypervisor() -> None:
    found = adapted(leaf(1, ebx=0xFFFF0800))
    assert found.ebx == 1 << 24 | 4 << 16 | 0x0800
    assert found.ecx == cpuid.HYPERVISOR | cpuid.X2APIC | cpuid.TSC_DEADLINE
    assert found.edx == cpuid.HTT


def test_leaf_1_of_a_single_vcpu_has_no_htt() -> None:
    assert adapted(leaf(1, edx=cpuid.HTT), 0, 1).edx == 0


@pytest.mark.parametrize(("level", "sharing"), [(1, 0), (2, 0), (3, 3)])
def test_leaf_4_shares_only_the_last_level_cache(level: int, sharing: int) -> None:
    found = adapted(leaf(4, eax=1 | level << 5))
    assert found.eax >> 14 & 0xFFF == sharing
    assert found.eax >> 26 == 3


def test_leaf_4_without_a_cache_stays() -> None:
    assert adapted(leaf(4, 3)) == leaf(4, 3)


def test_topology_leaf_replaces_the_hosts() -> None:
    found = list(cpuid.for_vcpu([leaf(0xB, eax=5, edx=99), leaf(0x1F)], 2, 3, tsc_deadline=False))
    assert [(x.function, x.subleaf, x.eax, x.ebx, x.ecx, x.edx) for x in found] == [
        (0xB, 0, 0, 1, 0x100, 2),
        (0xB, 1, 2, 3, 0x201, 2),
        (0xB, 2, 0, 0, 2, 2),
    ]


def test_amd_leaves_follow_the_topology() -> None:
    assert adapted(leaf(0x80000001, ecx=cpuid.TOPOEXT)).ecx == cpuid.CMP_LEGACY
    assert adapted(leaf(0x80000008, eax=0x3030)).ecx == 3 | 2 << 12
    assert adapted(leaf(0x8000001E, ecx=0x100)).eax == 1


def test_performance_counters_are_hidden_and_other_leaves_stay() -> None:
    assert adapted(leaf(0xA, eax=0x7300404)) == leaf(0xA)
    assert adapted(leaf(0x40000001, eax=0x1007EFB)) == leaf(0x40000001, eax=0x1007EFB)


def test_pack_of_too_many_leaves_raises() -> None:
    with pytest.raises(OSError, match="more leaves"):
        cpuid.pack([leaf(0)] * 257)


# -- registers

POWER_ON = api.SEGMENT.pack(0xFFFF0000, 0xFFFF, 0xF000, 0xB, 1, 0, 0, 1, 0, 0, 0, 0) + bytes(312 - 24)


def segment(sregs: bytes, number: int) -> tuple[int, ...]:
    return api.SEGMENT.unpack_from(sregs, number * api.SEGMENT.size)


@pytest.mark.parametrize("rip", [0xFFF0, 0xFFFFFFF0])
def test_real_mode_at_the_reset_vector_is_as_after_power_on(rip: int) -> None:
    state = BootState("real", rip=rip)
    assert registers.sregs(state, POWER_ON) == POWER_ON
    assert api.REGS.unpack(registers.regs(state))[16:] == (0xFFF0, 2)


def test_real_mode_elsewhere_sets_cs() -> None:
    state = BootState("real", rip=0x21234)
    base, _, selector, *_ = segment(registers.sregs(state, POWER_ON), 0)
    assert (base, selector) == (0x20000, 0x2000)
    assert api.REGS.unpack(registers.regs(state))[16] == 0x1234


def test_protected_mode_is_flat_with_paging_off() -> None:
    state = BootState("protected", rip=0x100000, rbx=0x6000)
    sregs = registers.sregs(state, POWER_ON)
    assert segment(sregs, 0) == (0, 0xFFFFFFFF, 0x10, 0xB, 1, 0, 1, 1, 0, 1, 0, 0)
    cr0, *_ = api.SREGS_TAIL.unpack_from(sregs, registers.SEGMENTS + registers.TABLES)
    assert cr0 == registers.CR0_PE | registers.CR0_ET
    assert api.REGS.unpack(registers.regs(state))[1] == 0x6000


def test_long_mode_has_paging_and_its_tables() -> None:
    sregs = registers.sregs(BootState("long", rip=0x200, cr3=0x9000, gdt_base=0x500, gdt_limit=31), POWER_ON)
    assert segment(sregs, 0)[6:9] == (0, 1, 1)  # not 32-bit code, but 64-bit
    assert api.DTABLE.unpack_from(sregs, registers.SEGMENTS) == (0x500, 31)
    cr0, _, cr3, cr4, _, efer, _ = api.SREGS_TAIL.unpack_from(sregs, registers.SEGMENTS + registers.TABLES)
    assert (cr0 >> 31, cr3, cr4, efer) == (1, 0x9000, 0x20, 0x500)


# -- routes


def test_line_routes_are_those_of_a_pc() -> None:
    routes = {api.ROUTE_IRQCHIP.unpack(entry)[0::4] + api.ROUTE_IRQCHIP.unpack(entry)[5:] for entry in routing.line_routes()}
    assert {(0, 0, 0), (0, 2, 2), (5, 0, 5), (5, 2, 5), (9, 1, 1), (23, 2, 23)} <= routes
    assert not any(gsi == 2 for gsi, *_ in routes)
    assert len(routes) == 15 + 23


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What goes to KVM_SET_GSI_ROUTING."""
    sent: list[bytes] = []
    monkeypatch.setattr(api, "ioctl_write", lambda fd, request, data: sent.append(data))
    return sent


def test_msi_routes_get_the_lowest_free_gsi(sent: list[bytes]) -> None:
    table = routing.Routing(-1)
    message = MsiMessage(0x1_FEE00000, 0x41)
    first, second = table.allocate(message), table.allocate(message)
    assert (first, second) == (24, 25)
    table.free(first)
    assert table.allocate(message) == 24
    assert api.ROUTE_MSI.unpack(sent[-1][-48:]) == (24, api.ROUTING_MSI, 0, 0, 0xFEE00000, 1, 0x41)


def test_unchanged_message_is_not_sent_again(sent: list[bytes]) -> None:
    table = routing.Routing(-1)
    gsi = table.allocate(MsiMessage(0, 1))
    table.update(gsi, MsiMessage(0, 1))
    assert len(sent) == 1
    table.update(gsi, MsiMessage(0, 2))
    assert len(sent) == 2


def test_refused_route_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, request: int, data: bytes) -> int:
        raise OSError(errno.EINVAL, "no")

    table = routing.Routing(-1)
    monkeypatch.setattr(api, "ioctl_write", refuse)
    with pytest.raises(OSError, match="no"):
        table.allocate(MsiMessage(0, 1))
    monkeypatch.undo()
    monkeypatch.setattr(api, "ioctl_write", lambda fd, request, data: 0)
    assert table.allocate(MsiMessage(0, 1)) == 24


def test_too_many_routes_raise(sent: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "MAX_ROUTES", 39)
    table = routing.Routing(-1)
    table.allocate(MsiMessage(0, 1))
    with pytest.raises(OSError, match="more than 39"):
        table.allocate(MsiMessage(0, 1))


# -- messages


def test_missing_device_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(AccelError, match="there is none; load the module"):
        accelerator.open_kvm(str(tmp_path / "kvm"))


def test_refused_device_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, flags: int) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(AccelError, match="group 'kvm'"):
        accelerator.open_kvm()


def test_other_device_is_not_kvm() -> None:
    with pytest.raises(AccelError, match="/dev/null: not the KVM device"):
        accelerator.open_kvm("/dev/null")


def test_other_api_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "ioctl", lambda fd, request, argument=0: 11)
    with pytest.raises(AccelError, match="API version 11, expected 12"):
        accelerator.open_kvm("/dev/null")


def test_host_report_without_kvm_has_the_problem() -> None:
    report = doctor.host_report("/dev/null")
    assert report.problem is not None
    assert report.emulated is None


def test_host_report_calls_a_slow_processor_emulated() -> None:
    assert doctor.HostReport("/dev/kvm", instructions_per_second=1.5e6).emulated is True
    assert doctor.HostReport("/dev/kvm", instructions_per_second=1.5e9).emulated is False
