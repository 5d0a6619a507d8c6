# SPDX-License-Identifier: Apache-2.0
"""What this host's KVM offers: data for ``qdevpy doctor``."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import attrs

from qdevpy.accel.base import BootState, StopReason
from qdevpy.accel.kvm import api
from qdevpy.accel.kvm.accelerator import NEEDED, KVMAccelerator, open_kvm
from qdevpy.errors import QdevpyError

#: capabilities worth a line beside those that are needed
OPTIONAL = {
    "KVM_CAP_SIGNAL_MSI": api.CAP_SIGNAL_MSI,
    "KVM_CAP_READONLY_MEM": api.CAP_READONLY_MEM,
    "KVM_CAP_SPLIT_IRQCHIP": api.CAP_SPLIT_IRQCHIP,
    "KVM_CAP_TSC_DEADLINE_TIMER": api.CAP_TSC_DEADLINE_TIMER,
    "KVM_CAP_DIRTY_LOG_RING": api.CAP_DIRTY_LOG_RING,
    "KVM_CAP_NESTED_STATE": api.CAP_NESTED_STATE,
}

#: below this a "processor" is KVM's instruction emulator: it does one or two million, a slow real one hundreds
EMULATED_BELOW = 20e6

PORT = 0x80
#: real mode: out 80h, al; xor cx, cx; loop to itself, 65536 times; out 80h, al; hlt
LOOP_GUEST = b"\xe6\x80\x31\xc9\xe2\xfe\xe6\x80\xf4"
LOOP_INSTRUCTIONS = 65536


@attrs.frozen
class HostReport:
    """What was found.

    :ivar device: path of the KVM device
    :ivar problem: why KVM cannot be used and what to do, or None
    :ivar modules: loaded KVM modules (``kvm_intel``)
    :ivar capabilities: by name; 0 is missing
    :ivar needed: names among them without which no machine runs
    :ivar max_vcpus: vCPUs that a machine may have
    :ivar instructions_per_second: of guest kernel code, measured; None where it could not be
    :ivar start_ms: milliseconds from nothing to the first exit of a vCPU
    """

    device: str
    problem: str | None = None
    api_version: int = 0
    modules: tuple[str, ...] = ()
    capabilities: dict[str, int] = attrs.field(factory=dict)
    needed: tuple[str, ...] = tuple(NEEDED)
    max_vcpus: int = 0
    instructions_per_second: float | None = None
    start_ms: float | None = None

    @property
    def emulated(self) -> bool | None:
        """Whether guest kernels run in KVM's instruction emulator, and not on the processor; None: not measured."""
        rate = self.instructions_per_second
        return None if rate is None else rate < EMULATED_BELOW


def host_report(device: str = "/dev/kvm") -> HostReport:
    """Look at KVM and run a guest of nine bytes on it; never raises for what the host lacks."""
    modules = tuple(sorted(path.name for path in Path("/sys/module").glob("kvm*")))
    try:
        fd = open_kvm(device)
    except QdevpyError as error:
        return HostReport(device, str(error), modules=modules)
    try:
        capabilities = {name: api.ioctl(fd, api.CHECK_EXTENSION, cap) for name, cap in (NEEDED | OPTIONAL).items()}
        report = HostReport(
            device,
            modules=modules,
            api_version=api.ioctl(fd, api.GET_API_VERSION),
            capabilities=capabilities,
            max_vcpus=api.ioctl(fd, api.CHECK_EXTENSION, api.CAP_MAX_VCPUS),
        )
    finally:
        os.close(fd)
    try:
        start, rate = measure()
    except QdevpyError as error:
        return attrs.evolve(report, problem=str(error))
    return attrs.evolve(report, start_ms=start * 1000, instructions_per_second=rate)


def measure(seconds: float = 10) -> tuple[float, float]:
    """Seconds until a guest's first exit, and the instructions a second of its kernel code.

    :raises QdevpyError: the guest does not run
    """
    from qdevpy.native.memory import GuestMemory
    from qdevpy.native.space import AddressSpace

    memory, space, accel = GuestMemory(), AddressSpace(), KVMAccelerator()
    exits: list[float] = []
    stops: list[StopReason] = []
    done = threading.Event()

    def write(offset: int, value: int, size: int) -> None:
        exits.append(time.perf_counter())
        if len(exits) == 2:
            done.set()

    def stopped(stop: StopReason) -> None:
        stops.append(stop)
        done.set()

    begin = time.perf_counter()
    try:
        memory.add_ram(0, 1 << 20)
        memory.write(0x1000, LOOP_GUEST)
        space.map("pio", PORT, 1, lambda offset, size: 0, write)
        accel.open(memory, space)
        accel.on_stop = stopped
        accel.create_vcpus(1)
        accel.set_boot_state(BootState("real", rip=0x1000))
        accel.resume()
        done.wait(seconds)
    finally:
        accel.close()
        space.close()
        memory.close()
    if len(exits) < 2:
        why = stops[0].message if stops else f"a guest of nine bytes did not end within {seconds} s"
        raise QdevpyError(f"/dev/kvm: {why}")
    return exits[0] - begin, LOOP_INSTRUCTIONS / (exits[1] - exits[0])
