# SPDX-License-Identifier: Apache-2.0
"""The machine as a whole: version, name, CPUs, memory."""

from __future__ import annotations

from collections.abc import Mapping

from qdevpy.monitor.hmp.command import HmpCommand, HmpError, hmp
from qdevpy.monitor.hmp.monitor import Hmp
from qdevpy.monitor.hmp.registers import read_registers


@hmp("version", help="show the version")
def info_version(monitor: Hmp) -> str:
    """As QEMU's."""
    version = monitor.qmp("query-version")
    number = version["qemu"]
    return f"{number['major']}.{number['minor']}.{number['micro']}{version['package']}\n"


@hmp("name", help="show the machine's name")
def info_name(monitor: Hmp) -> str:
    """As QEMU's: nothing where it has none."""
    name = monitor.qmp("query-name").get("name")
    return f"{name}\n" if name else ""


@hmp("uuid", help="show the machine's UUID")
def info_uuid(monitor: Hmp) -> str:
    """As QEMU's."""
    return f"{monitor.qmp('query-uuid')['UUID']}\n"


@hmp("kvm", help="show whether KVM is used")
def info_kvm(monitor: Hmp) -> str:
    """As QEMU's."""
    info = monitor.qmp("query-kvm")
    return f"kvm support: {('enabled' if info['enabled'] else 'disabled') if info['present'] else 'not compiled'}\n"


@hmp("cpus", help="show vCPUs and their threads")
def info_cpus(monitor: Hmp) -> str:
    """As QEMU's; the star marks what ``cpu`` has chosen."""
    lines = []
    for cpu in monitor.qmp("query-cpus-fast"):
        mark = "*" if cpu["cpu-index"] == monitor.cpu else " "
        lines.append(f"{mark} CPU #{cpu['cpu-index']}: thread_id={cpu['thread-id']}\n")
    return "".join(lines)


@hmp("registers", "cpustate_all:-a,vcpu:i?", "[-a|vcpu]", "show registers (-a: of all vCPUs)")
def info_registers(monitor: Hmp, *, cpustate_all: bool = False, vcpu: int | None = None) -> str:
    """General, segment and control registers, in QEMU's form."""
    count = monitor.machine.cpus
    if vcpu is not None and not 0 <= vcpu < count:
        raise HmpError(f"CPU#{vcpu} not available")
    chosen = range(count) if cpustate_all else [monitor.cpu if vcpu is None else vcpu]
    text = ""
    for index in chosen:
        values = read_registers(monitor, index)
        if not values:
            raise HmpError("No CPU available")
        text += f"\nCPU#{index}\n{_registers(values)}"
    return text


def _registers(values: Mapping[str, int]) -> str:
    general = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{n}" for n in range(8, 16)))
    lines = []
    for at in range(0, len(general), 4):
        lines.append(" ".join(f"{name.upper():<3}={values[name]:016x}" for name in general[at : at + 4]))
    lines.append(f"RIP={values['rip']:016x} RFL={values['rflags']:08x}")
    for name in ("es", "cs", "ss", "ds", "fs", "gs", "ldt", "tr"):
        parts = (values[f"{name}_selector"], values[f"{name}_base"], values[f"{name}_limit"])
        lines.append(f"{name.upper():<3}={parts[0]:04x} {parts[1]:016x} {parts[2]:08x}")
    for name in ("gdt", "idt"):
        lines.append(f"{name.upper()}=     {values[f'{name}_base']:016x} {values[f'{name}_limit']:08x}")
    lines.append(f"CR0={values['cr0']:08x} CR2={values['cr2']:016x} CR3={values['cr3']:016x} CR4={values['cr4']:08x}")
    lines.append(f"EFER={values['efer']:016x}")
    return "\n".join(lines) + "\n"


@hmp("memory_size_summary", help="show how much memory there is, in bytes")
def info_memory_size_summary(monitor: Hmp) -> str:
    """As QEMU's."""
    sizes = monitor.qmp("query-memory-size-summary")
    return f"base memory: {sizes['base-memory']}\nplugged memory: {sizes['plugged-memory']}\n"


@hmp("hotpluggable-cpus", help="show places of CPUs")
def info_hotpluggable_cpus(monitor: Hmp) -> str:
    """As QEMU's."""
    text = "Hotpluggable CPUs:\n"
    for cpu in monitor.qmp("query-hotpluggable-cpus"):
        text += f'  type: "{cpu["type"]}"\n  vcpus_count: "{cpu["vcpus-count"]}"\n'
        if "qom-path" in cpu:
            text += f'  qom_path: "{cpu["qom-path"]}"\n'
        text += "  CPUInstance Properties:\n" + "".join(f'    {name}: "{value}"\n' for name, value in cpu["props"].items())
    return text


@hmp("numa", help="show NUMA nodes; there are none")
def info_numa(monitor: Hmp) -> str:
    """As QEMU's without any."""
    return "0 nodes\n"


@hmp("usb", help="show USB devices; there are none")
def info_usb(monitor: Hmp) -> str:
    """As QEMU's without a controller."""
    raise HmpError("Error: USB support not enabled")


@hmp("balloon", help="show the balloon; there is none")
def info_balloon(monitor: Hmp) -> str:
    """As QEMU's without one."""
    raise HmpError("Error: No balloon device has been activated")


@hmp("snapshots", help="show snapshots; there are none")
def info_snapshots(monitor: Hmp) -> str:
    """As QEMU's without qcow2 images."""
    return "no block device can store vmstate for snapshot\n"


COMMANDS: tuple[HmpCommand, ...] = ()
INFO: tuple[HmpCommand, ...] = (
    info_version,
    info_name,
    info_uuid,
    info_kvm,
    info_cpus,
    info_registers,
    info_memory_size_summary,
    info_hotpluggable_cpus,
    info_numa,
    info_usb,
    info_balloon,
    info_snapshots,
)
