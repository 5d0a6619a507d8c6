# SPDX-License-Identifier: Apache-2.0
"""What the machine is (QEMU: qapi/machine.json, qapi/misc.json, qapi/machine-target.json). How it runs: ``run``."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from qdevpy.monitor.command import Context, Name, QmpError, Size, UInt64, command

ARCH: Literal["x86_64"] = "x86_64"
NO_UUID = "00000000-0000-0000-0000-000000000000"
CPU_TYPE = "host-x86_64-cpu"
#: bytes copied at a time by pmemsave
PIECE = 1 << 20


class MachineInfo(NamedTuple):
    """A board there is."""

    name: str
    cpu_max: int
    hotpluggable_cpus: bool
    numa_mem_supported: bool
    deprecated: bool
    alias: str | None = None
    is_default: bool | None = None
    default_cpu_type: str | None = None
    default_ram_id: str | None = None


class CpuProperties(NamedTuple):
    """Where a CPU sits."""

    socket_id: int
    core_id: int
    thread_id: int


class CpuInfo(NamedTuple):
    """A vCPU; ``thread-id`` is the host's."""

    cpu_index: int
    qom_path: str
    thread_id: int
    props: CpuProperties
    target: Literal["x86_64"]


class HotpluggableCpu(NamedTuple):
    """A place for a CPU; all of them are taken."""

    type: str
    vcpus_count: int
    props: CpuProperties
    qom_path: str


class CpuDefinition(NamedTuple):
    """A CPU model."""

    name: str
    typename: str
    static: bool
    migration_safe: bool
    unavailable_features: list[str]
    deprecated: bool


class CurrentMachine(NamedTuple):
    """What this machine can do."""

    wakeup_suspend_support: bool


class MemorySize(NamedTuple):
    """Bytes of RAM."""

    base_memory: Size
    plugged_memory: Size


class KvmInfo(NamedTuple):
    """Whether KVM is there, and used."""

    enabled: bool
    present: bool


class TargetInfo(NamedTuple):
    """What CPU the guest has."""

    arch: Literal["x86_64"]


class UuidInfo(NamedTuple):
    """The machine's UUID; all zeros: it has none."""

    uuid: Annotated[str, Name("UUID")]


class NameInfo(NamedTuple):
    """The machine's name, where it has one."""

    name: str | None


@command("query-machines")
def query_machines(ctx: Context) -> list[MachineInfo]:
    """Every board that plugins offer."""
    if ctx.machine.registry is None:
        return []
    return [
        MachineInfo(
            board.type_name,
            board.max_cpus if board.has_cpus else 1,
            board.hotpluggable_cpus,
            board.numa_mem_supported,
            board.deprecated,
            board.aliases[0] if board.aliases else None,
            board.is_default or None,
            board.default_cpu_type,
            board.default_ram_id,
        )
        for board in dict.fromkeys(ctx.machine.registry.boards.values())
    ]


def cpu_properties(ctx: Context, index: int) -> CpuProperties:
    """Where CPU INDEX sits: threads in cores in sockets; without a topology every CPU is a socket (hw/core/machine-smp.c)."""
    topology = ctx.machine.definition.topology
    threads, cores = topology.get("threads", 1), topology.get("cores", 1)
    return CpuProperties(index // (threads * cores), index // threads % cores, index % threads)


def cpu_count(ctx: Context) -> int:
    """How many vCPUs there are."""
    return ctx.machine.cpus if ctx.machine.board.has_cpus else 0


@command("query-cpus-fast")
def query_cpus_fast(ctx: Context) -> list[CpuInfo]:
    """Every vCPU; it is not disturbed."""
    ids = ctx.machine.accel.thread_ids
    return [
        CpuInfo(
            index,
            f"/machine/unattached/device[{index}]",
            ids[index] if index < len(ids) else 0,
            cpu_properties(ctx, index),
            ARCH,
        )
        for index in range(cpu_count(ctx))
    ]


@command("query-hotpluggable-cpus", allow_preconfig=True)
def query_hotpluggable_cpus(ctx: Context) -> list[HotpluggableCpu]:
    """Every place for a CPU, the last first, as QEMU."""
    if not ctx.machine.board.has_cpus:
        raise QmpError("The feature 'query-hotpluggable-cpus' is not enabled")
    return [
        HotpluggableCpu(CPU_TYPE, 1, cpu_properties(ctx, index), f"/machine/unattached/device[{index}]")
        for index in reversed(range(cpu_count(ctx)))
    ]


@command("query-cpu-definitions")
def query_cpu_definitions(ctx: Context) -> list[CpuDefinition]:
    """The one model there is: the host's."""
    return [CpuDefinition("host", CPU_TYPE, False, False, [], False)]


@command("query-current-machine")
def query_current_machine(ctx: Context) -> CurrentMachine:
    """It does not sleep."""
    return CurrentMachine(False)


@command("query-memory-size-summary")
def query_memory_size_summary(ctx: Context) -> MemorySize:
    """Its RAM."""
    return MemorySize(ctx.machine.memory_size, 0)


@command("query-kvm")
def query_kvm(ctx: Context) -> KvmInfo:
    """KVM is always compiled in."""
    return KvmInfo(ctx.machine.accel.name == "kvm", True)


@command("query-target")
def query_target(ctx: Context) -> TargetInfo:
    """The guest's architecture."""
    return TargetInfo(ARCH)


@command("query-uuid", allow_preconfig=True)
def query_uuid(ctx: Context) -> UuidInfo:
    """The machine's UUID."""
    uuid = ctx.machine.definition.uuid
    return UuidInfo(uuid.given if uuid is not None else NO_UUID)


@command("query-name", allow_preconfig=True)
def query_name(ctx: Context) -> NameInfo:
    """The machine's name."""
    return NameInfo(ctx.machine.definition.name or None)


@command("pmemsave")
def pmemsave(ctx: Context, *, val: UInt64, size: UInt64, filename: str) -> None:
    """Write SIZE bytes of guest memory at physical address VAL to a file."""
    end = val + size
    if end > 1 << 64:
        raise QmpError(f"addresses {val:#x} to {end:#x} leave the address space")
    try:
        with open(filename, "wb") as file:
            for start in range(val, end, PIECE):
                file.write(ctx.machine.memory.read(start, min(PIECE, end - start)))
    except (OSError, ValueError) as error:
        raise QmpError(f"Could not open '{filename}': {getattr(error, 'strerror', None) or error}") from error


COMMANDS = (
    query_machines,
    query_cpus_fast,
    query_hotpluggable_cpus,
    query_cpu_definitions,
    query_current_machine,
    query_memory_size_summary,
    query_kvm,
    query_target,
    query_uuid,
    query_name,
    pmemsave,
)
