# SPDX-License-Identifier: Apache-2.0
"""The KVM accelerator under guests of a few instructions, written as machine code. Needs /dev/kvm."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator

import pytest
from kvm_guest import (
    AP_CODE,
    CODE,
    GDT,
    HALT,
    HANDLER,
    HLT,
    IDT,
    IDTR,
    PAGES,
    PROTECTED,
    REAL,
    RESULT,
    START_SECOND,
    Guest,
    Recorder,
    out_dx_al,
    out_dx_ax,
    store8_real,
    store32,
)

from qdevpy.accel.base import BootState, IoEvent, MsiMessage, StopReason
from qdevpy.accel.kvm import accelerator, api
from qdevpy.accel.kvm.doctor import host_report
from qdevpy.errors import AccelError
from qdevpy.native.core import ffi, lib
from qdevpy.native.vdev import VDev

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.needs_host("kvm"),
]


@pytest.fixture
def guest() -> Iterator[Guest]:
    guest = Guest()
    yield guest
    guest.close()


@pytest.fixture
def fd() -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    yield fd
    os.close(fd)


def test_pio_access_reaches_python_region(guest: Guest) -> None:
    region = Recorder()
    guest.space.map("pio", 0x500, 8, region.read, region.write)
    in_al_store = b"\xec\xa2" + struct.pack("<H", RESULT)  # in al, dx; mov [RESULT], al
    guest.run(out_dx_al(0x503, 0x42) + in_al_store + HALT, REAL)
    guest.wait(lambda: guest.result(size=1) == 0x5A)
    assert region.writes == [(3, 0x42, 1)]
    assert region.reads == [(3, 1)]


def test_string_output_reaches_python_region_byte_by_byte(guest: Guest) -> None:
    region = Recorder()
    guest.space.map("pio", 0x500, 8, region.read, region.write)
    guest.memory.write(0x2000, b"hey")
    # mov dx, 500h; mov si, 2000h; mov cx, 3; cld; rep outsb
    code = b"\xba\x00\x05\xbe\x00\x20\xb9\x03\x00\xfc\xf3\x6e"
    guest.run(code + store8_real(RESULT, 1) + HALT, REAL)
    guest.wait(lambda: guest.result(size=1) == 1)
    assert bytes(value for _, value, _ in region.writes) == b"hey"


def test_mmio_access_reaches_python_region(guest: Guest) -> None:
    region = Recorder()
    guest.space.map("mmio", 0xD0000000, 0x1000, region.read, region.write)
    load_store = b"\xa1" + struct.pack("<I", 0xD0000008) + b"\xa3" + struct.pack("<I", RESULT)
    guest.run(store32(0xD0000004, 0x12345678) + load_store + HALT, PROTECTED)
    guest.wait(lambda: guest.result() == 0x5A5A5A5A)
    assert region.writes == [(4, 0x12345678, 4)]
    assert region.reads == [(8, 4)]


def test_notify_register_completes_native_queue_before_the_next_instruction(guest: Guest) -> None:
    vdev = VDev(guest.memory)
    queue = vdev.add_queue()
    queue.ops = lib.qd_null_ops
    guest.memory.write(0x20000, struct.pack("<QIHH", 0x23000, 64, 2, 0))
    guest.memory.write(0x21000, struct.pack("<HHH", 0, 1, 0))
    assert lib.qd_vq_setup(queue, 8, 0x20000, 0x21000, 0x22000) == 0
    assert lib.qd_vq_start(queue) == 0
    region = Recorder()
    guest.space.map_notify("pio", 0x510, 2, vdev, multiplier=None, read=region.read, write=region.write)
    # mov ax, 2200h; mov ds, ax; mov al, [2]; xor bx, bx; mov ds, bx; mov [RESULT], al: the used index
    used_idx = b"\xb8\x00\x22\x8e\xd8\xa0\x02\x00\x31\xdb\x8e\xdb\xa2" + struct.pack("<H", RESULT)
    guest.run(out_dx_ax(0x510, 0) + used_idx + out_dx_ax(0x510, 7) + HALT, REAL)
    guest.wait(lambda: bool(region.writes))
    assert guest.result(size=1) == 1
    assert region.writes == [(0, 7, 2)]  # no such queue: Python's
    guest.accel.pause()
    lib.qd_vq_stop(queue)
    vdev.close()


def test_pio_ioeventfd_takes_matching_writes_only(guest: Guest, fd: int) -> None:
    region = Recorder()
    guest.space.map("pio", 0x600, 2, region.read, region.write)
    event = IoEvent("pio", 0x600, 2, 3, fd)
    guest.accel.assign_ioevent(event)
    with pytest.raises(FileExistsError):
        guest.accel.assign_ioevent(event)
    guest.run(out_dx_ax(0x600, 3) + out_dx_ax(0x600, 3) + out_dx_ax(0x600, 4) + HALT, REAL)
    guest.wait(lambda: bool(region.writes))
    assert region.writes == [(0, 4, 2)]
    assert os.eventfd_read(fd) == 2
    guest.accel.pause()
    guest.accel.deassign_ioevent(event)
    guest.run(out_dx_ax(0x600, 3) + HALT, REAL)
    guest.wait(lambda: len(region.writes) == 2)


@pytest.mark.parametrize(("size", "match", "signals"), [(0, None, 2), (4, None, 2), (4, 5, 1)])
def test_mmio_ioeventfd_takes_what_it_was_asked_to(guest: Guest, fd: int, size: int, match: int | None, signals: int) -> None:
    guest.accel.assign_ioevent(IoEvent("mmio", 0xD0000000, size, match, fd))
    guest.run(store32(0xD0000000, 5) + store32(0xD0000000, 6) + store32(RESULT, 1) + HALT, PROTECTED)
    guest.wait(lambda: guest.result() == 1)
    assert os.eventfd_read(fd) == signals


#: lidt [IDTR]; enable the local APIC (spurious vector register); RESULT = 1; sti; hlt for ever
TAKE_INTERRUPTS = b"\x0f\x01\x1d" + struct.pack("<I", IDTR) + store32(0xFEE000F0, 0x1FF) + store32(RESULT, 1) + b"\xfb" + HALT


def set_idt(guest: Guest, vector: int) -> None:
    """Interrupt VECTOR increments RESULT+4, signals end of interrupt, drops its frame (an emulated protected mode has no
    iret), and halts for ever with interrupts on."""
    guest.memory.write(IDTR, struct.pack("<HI", 0x7FF, IDT))
    guest.memory.write(IDT + 8 * vector, struct.pack("<HHHH", HANDLER, 0x10, 0x8E00, 0))
    increment = b"\xff\x05" + struct.pack("<I", RESULT + 4)
    guest.memory.write(HANDLER, increment + store32(0xFEE000B0, 0) + b"\x83\xc4\x0c\xfb" + HALT)


def test_irqfd_raises_its_message_and_keeps_signals_while_deassigned(guest: Guest, fd: int) -> None:
    set_idt(guest, 0x40)
    set_idt(guest, 0x41)
    guest.run(TAKE_INTERRUPTS, PROTECTED)
    guest.wait(lambda: guest.result() == 1)
    handle = guest.accel.assign_irqfd(fd, MsiMessage(0xFEE00000, 0x40))
    os.eventfd_write(fd, 1)
    guest.wait(lambda: guest.result(4) == 1)
    guest.accel.update_irqfd(handle, MsiMessage(0xFEE00000, 0x41))
    os.eventfd_write(fd, 1)
    guest.wait(lambda: guest.result(4) == 2)
    guest.accel.deassign_irqfd(handle)
    os.eventfd_write(fd, 1)
    assert guest.result(4) == 2
    guest.accel.assign_irqfd(fd, MsiMessage(0xFEE00000, 0x40))
    guest.wait(lambda: guest.result(4) == 3)


@pytest.mark.parametrize("native", [False, True])
def test_gsi_level_reaches_the_pic(guest: Guest, native: bool) -> None:
    guest.memory.write(4 * 0x25, struct.pack("<HH", HANDLER, 0))
    guest.memory.write(HANDLER, store8_real(RESULT + 4, 1) + HLT)
    init = b"".join(b"\xb0" + bytes([value]) + b"\xe6" + bytes([port]) for port, value in PIC_SETUP)
    guest.run(init + b"\xfb" + store8_real(RESULT, 1) + HALT, REAL)
    guest.wait(lambda: guest.result(size=1) == 1)
    if native:
        function, opaque = guest.accel.set_gsi_pointer
        ffi.cast("void (*)(void *, int, int)", function)(opaque, 5, 1)
    else:
        guest.accel.set_gsi(5, True)
    guest.wait(lambda: guest.result(4, 1) == 1)


#: ICW1 to ICW4: vectors from 20h; then all but IRQ 5 masked
PIC_SETUP = [(0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0xDF)]


def test_pause_stops_the_guest_and_resume_goes_on(guest: Guest) -> None:
    counter = b"\xff\x05" + struct.pack("<I", RESULT)  # inc dword [RESULT]
    guest.run(counter + b"\xeb\xf8", PROTECTED)
    for _ in range(20):
        before = guest.result()
        guest.wait(lambda before=before: guest.result() != before)  # type: ignore[misc]
        guest.accel.pause()
        stopped = guest.result()
        assert [guest.result() for _ in range(100)] == [stopped] * 100
        guest.accel.resume()


def test_pause_while_the_guest_halts_returns(guest: Guest) -> None:
    guest.run(store32(RESULT, 1) + HALT, PROTECTED)
    guest.wait(lambda: guest.result() == 1)
    guest.accel.pause()
    guest.accel.resume()
    guest.accel.pause()


def test_guests_clock_stands_still_while_it_is_paused(guest: Guest) -> None:
    def clock() -> int:
        return int(api.CLOCK_DATA.unpack_from(api.ioctl_read(guest.accel.vm_fd, api.GET_CLOCK))[0])

    guest.run(HALT, PROTECTED)
    start, before = time.monotonic_ns(), clock()
    guest.accel.pause()
    paused = time.monotonic_ns()
    while time.monotonic_ns() - paused < 200_000_000:
        os.sched_yield()
    guest.accel.resume()
    ran = clock() - before
    assert 0 < ran < time.monotonic_ns() - start - 150_000_000


def test_pause_completes_the_access_under_way(guest: Guest) -> None:
    """A vCPU that is kicked while its exit is served stops behind the instruction, with the value in its register."""
    seen: list[int] = []

    def read(offset: int, size: int) -> int:
        guest.accel.vcpus[0].kick()
        seen.append(offset)
        return 0x77

    guest.space.map("pio", 0x500, 1, read, lambda offset, value, size: None)
    guest.run(b"\xba\x00\x05\xec\xa2" + struct.pack("<H", RESULT) + HALT, REAL)
    guest.wait(lambda: guest.result(size=1) == 0x77)
    assert seen == [0]


def test_registers_and_translation_of_a_paused_vcpu_are_read(guest: Guest) -> None:
    guest.memory.write(PAGES, struct.pack("<Q", PAGES + 0x1003))
    guest.memory.write(PAGES + 0x1000, struct.pack("<Q", PAGES + 0x2003))
    guest.memory.write(PAGES + 0x2000, struct.pack("<Q", 0x83))  # 2 MiB, onto themselves
    code = b"\x48\xc7\xc0\x34\x12\x00\x00" + b"\xeb\xfe"  # mov rax, 1234h; jmp $
    guest.run(code, BootState("long", rip=CODE, cr3=PAGES, gdt_base=GDT, gdt_limit=31))

    def paused_at_the_loop() -> bool:
        guest.accel.pause()
        if guest.accel.registers(0)["rip"] == CODE + 7:
            return True
        guest.accel.resume()
        return False

    guest.wait(paused_at_the_loop)
    registers = guest.accel.registers(0)
    assert (registers["rax"], registers["cr3"], registers["gdt_base"]) == (0x1234, PAGES, GDT)
    assert guest.accel.translate(0, CODE) == CODE
    assert guest.accel.translate(0, 1 << 40) is None


def test_vcpu_that_asked_to_be_held_runs_no_further_instruction_until_resume(guest: Guest) -> None:
    after = Recorder()
    guest.space.map("pio", 0x501, 1, lambda offset, size: 0, lambda offset, value, size: guest.accel.hold_current())
    guest.space.map("pio", 0x502, 1, after.read, after.write)
    guest.run(out_dx_al(0x501, 1) + out_dx_al(0x502, 2) + HALT, REAL)

    guest.wait(lambda: guest.accel._held == {0} and guest.accel._parked == {0})
    assert after.writes == []
    guest.accel.pause()
    guest.accel.resume()
    guest.wait(lambda: after.writes == [(0, 2, 1)])


def test_long_mode_boot_state_runs_64_bit_code(guest: Guest) -> None:
    guest.memory.write(PAGES, struct.pack("<Q", PAGES + 0x1003))
    guest.memory.write(PAGES + 0x1000, struct.pack("<Q", PAGES + 0x2003))
    guest.memory.write(PAGES + 0x2000, struct.pack("<Q", 0x83))
    value = 0x1122334455667788
    # mov rax, VALUE; mov [RESULT], rax; mov [RESULT + 8], rsi
    code = b"\x48\xb8" + struct.pack("<Q", value) + b"\x48\xa3" + struct.pack("<Q", RESULT)
    code += b"\x48\x89\x34\x25" + struct.pack("<I", RESULT + 8)
    guest.run(code + HALT, BootState("long", rip=CODE, rsi=0x7000, cr3=PAGES, gdt_base=GDT, gdt_limit=31))
    guest.wait(lambda: guest.result(8, 8) == 0x7000)
    assert guest.result(size=8) == value


def test_triple_fault_stops_with_shutdown_and_reset_runs_again(guest: Guest) -> None:
    guest.memory.write(IDTR, bytes(6))
    load_idt = b"\x0f\x01\x1d" + struct.pack("<I", IDTR)
    # mov ax, FFF8h; mov ds, ax: a fault, whose handler is not there, nor are those of the faults that follow
    guest.run(load_idt + b"\x66\xb8\xf8\xff\x8e\xd8", PROTECTED)
    guest.wait(lambda: bool(guest.stops))
    assert guest.stops == [StopReason("shutdown", "vCPU 0: triple fault", 0)]
    guest.accel.pause()
    guest.stops.clear()
    guest.run(store32(RESULT, 1) + HALT, PROTECTED)
    guest.wait(lambda: guest.result() == 1)


def test_instruction_that_cannot_be_emulated_crashes_with_rip_and_bytes(guest: Guest) -> None:
    guest.run(b"\xd9\x05" + struct.pack("<I", 0xD0000000) + HALT, PROTECTED)  # fld dword [D0000000h]: x87 from MMIO
    guest.wait(lambda: bool(guest.stops))
    stop = guest.stops[0]
    assert stop.kind == "crash"
    assert "vCPU 0: KVM cannot emulate the instruction at RIP 0x1000: bytes d9 05 00 00 00 d0" in stop.message
    assert guest.accel.vcpus[0].code(6) == b"\xd9\x05" + struct.pack("<I", 0xD0000000)


def test_code_where_nothing_is_mapped_is_empty(guest: Guest) -> None:
    guest.accel.set_boot_state(BootState("protected", rip=0xD0000000))
    assert guest.accel.vcpus[0].instruction() == b""


def test_report_that_raises_leaves_the_vcpu_pausable(guest: Guest, caplog: pytest.LogCaptureFixture) -> None:
    def fail(stop: StopReason) -> None:
        guest.stops.append(stop)
        raise RuntimeError("no machine")

    guest.accel.on_stop = fail
    guest.run(b"\xd9\x05" + struct.pack("<I", 0xD0000000), PROTECTED)
    guest.wait(lambda: bool(guest.stops))
    guest.accel.pause()
    assert "no machine" in caplog.text


def test_vcpu_whose_registers_kvm_refuses_stops_with_the_reason(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(guest.accel.vcpus[0], "run", refuse)
    guest.accel.resume()
    guest.wait(lambda: bool(guest.stops))
    assert guest.stops == [StopReason("crash", "vCPU 0: Input/output error", 0)]


def test_level_triggered_lines_are_seen_by_the_guest_until_reset(guest: Guest) -> None:
    guest.accel.set_level_triggered([9, 10, 11])
    code = b"\xba\xd0\x04\xec\xa2" + struct.pack("<H", RESULT)  # mov dx, 4D0h; in al, dx; mov [RESULT], al
    code += b"\xba\xd1\x04\xec\xa2" + struct.pack("<H", RESULT + 1) + store8_real(RESULT + 2, 1) + HALT
    guest.memory.write(CODE, code)
    guest.accel.set_boot_state(REAL)
    guest.accel.resume()
    guest.wait(lambda: guest.result(2, 1) == 1)
    assert guest.result(size=2) == 0x0E00

    guest.accel.pause()
    guest.memory.write(RESULT, bytes(4))
    guest.run(code, REAL)
    guest.wait(lambda: guest.result(2, 1) == 1)
    assert guest.result(size=2) == 0


def test_reset_brings_the_local_apic_back(guest: Guest) -> None:
    lapic = api.ioctl_read(guest.accel.vcpus[0].fd, api.GET_LAPIC)
    guest.run(store32(0xFEE000F0, 0x1FF) + store32(RESULT, 1) + HALT, PROTECTED)
    guest.wait(lambda: guest.result() == 1)
    guest.accel.pause()
    assert api.ioctl_read(guest.accel.vcpus[0].fd, api.GET_LAPIC)[0xF0:0xF4] == b"\xff\x01\0\0"
    guest.accel.reset_vcpus()
    assert api.ioctl_read(guest.accel.vcpus[0].fd, api.GET_LAPIC)[0xF0:0xF4] == lapic[0xF0:0xF4]


def test_reset_brings_vector_registers_back(guest: Guest) -> None:
    vcpu = guest.accel.vcpus[0]
    before = api.ioctl_read(vcpu.fd, api.GET_XSAVE)
    dirty = bytearray(before)
    dirty[160:176] = bytes(range(16))  # xmm0
    dirty[512] |= 2  # XSTATE_BV: SSE is not in its initial state
    api.ioctl_write(vcpu.fd, api.SET_XSAVE, bytes(dirty))
    guest.accel.set_boot_state(REAL)
    assert api.ioctl_read(vcpu.fd, api.GET_XSAVE)[160:176] == bytes(range(16))

    guest.accel.reset_vcpus()

    assert api.ioctl_read(vcpu.fd, api.GET_XSAVE)[160:176] == before[160:176]


def test_fast_strings_are_on_as_firmware_leaves_them(guest: Guest) -> None:
    def misc_enable() -> int:
        data = bytearray(api.MSRS_HEAD.pack(1, 0) + api.MSR_ENTRY.pack(0x1A0, 0, 0))
        assert api.ioctl_update(guest.accel.vcpus[0].fd, api.GET_MSRS, data) == 1
        return int(api.MSR_ENTRY.unpack_from(data, api.MSRS_HEAD.size)[2])

    assert misc_enable() & 1
    api.ioctl_write(guest.accel.vcpus[0].fd, api.SET_MSRS, api.MSRS_HEAD.pack(1, 0) + api.MSR_ENTRY.pack(0x1A0, 0, 0))
    guest.accel.set_boot_state(REAL)
    guest.accel.reset_vcpus()
    assert misc_enable() & 1


def test_second_vcpu_starts_at_its_sipi_vector() -> None:
    guest = Guest(cpus=2)
    try:
        guest.memory.write(AP_CODE, b"\x31\xc0\x8e\xd8" + store8_real(RESULT + 4, 1) + HALT)
        guest.run(START_SECOND + store32(RESULT, 1) + HALT, PROTECTED)
        guest.wait(lambda: guest.result(4, 1) == 1)
        guest.accel.pause()
        guest.memory.write(RESULT, bytes(8))
        guest.run(store32(RESULT, 1) + HALT, PROTECTED)  # after reset the second one waits again
        guest.wait(lambda: guest.result() == 1)
        assert guest.result(4, 1) == 0
    finally:
        guest.close()


def test_more_vcpus_than_kvm_allows_says_how_many(guest: Guest) -> None:
    with pytest.raises(AccelError, match=r"cpus: 100000: this host's KVM allows \d+"):
        guest.accel.create_vcpus(100000)


def test_boot_mode_unknown_is_refused(guest: Guest) -> None:
    with pytest.raises(ValueError, match="expected real, protected or long"):
        guest.accel.set_boot_state(BootState("virtual", rip=0))


def test_close_while_the_guest_runs_ends_its_thread(guest: Guest) -> None:
    guest.run(b"\xeb\xfe", PROTECTED)
    guest.accel.close()
    guest.accel.close()
    assert guest.accel.vcpus == []


def test_host_report_measures_this_host() -> None:
    report = host_report()
    assert report.problem is None
    assert report.instructions_per_second is not None
    assert report.instructions_per_second > 10_000
    assert all(report.capabilities[name] for name in report.needed)
    assert any(name.startswith("kvm") for name in report.modules)


def test_capability_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "NEEDED", {"KVM_CAP_FLUX": 100_000})
    with pytest.raises(AccelError, match="lacks KVM_CAP_FLUX"):
        Guest()


@pytest.mark.parametrize(
    ("stop", "detail", "kind", "words"),
    [
        (lib.QD_STOP_SYSTEM, 1, "shutdown", "asked KVM for shutdown"),
        (lib.QD_STOP_SYSTEM, 3, "crash", "system event 3 (crash)"),
        (lib.QD_STOP_INTERNAL, 3, "crash", "KVM internal error 3 at RIP 0x1000"),
        (lib.QD_STOP_FAIL_ENTRY, 0x21, "crash", "hardware reason 0x21"),
        (lib.QD_STOP_ERRNO, 14, "crash", "KVM_RUN: Bad address"),
        (lib.QD_STOP_UNKNOWN, 5, "crash", "KVM exit 5"),
        (lib.QD_STOP_DEBUG, 0, "crash", "debug exit"),
    ],
)
def test_stop_is_described_for_the_user(guest: Guest, stop: int, detail: int, kind: str, words: str) -> None:
    guest.accel.set_boot_state(REAL)
    guest.accel.vcpus[0].pointer.detail = detail
    reason = guest.accel.vcpus[0].describe(stop)
    assert reason.kind == kind
    assert words in reason.message
