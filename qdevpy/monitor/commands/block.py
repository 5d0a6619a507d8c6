# SPDX-License-Identifier: Apache-2.0
"""Commands on disks (QEMU: qapi/block-core.json, qapi/block.json)."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any, Literal, NamedTuple, Required, TypedDict

from qdevpy.backend.drive import Drive
from qdevpy.errors import QdevpyError
from qdevpy.monitor.command import Context, Name, Null, QmpError, Union, command
from qdevpy.virtio.device import VirtIODevice
from qdevpy.vm.backends import create_backend, users
from qdevpy.vm.machine import Machine

#: characters of a file of blkdebug's rules
MAX_RULES = 1 << 20
_NODE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,30}")


class CacheInfo(NamedTuple):
    """How the host caches."""

    writeback: bool
    direct: bool
    no_flush: bool


class ImageInfo(NamedTuple):
    """What ``qemu-img info`` says; sizes in bytes."""

    filename: str
    format: str
    virtual_size: int
    actual_size: int | None = None
    dirty_flag: bool | None = None


class BlockDeviceInfo(NamedTuple):
    """A block node. There are no throttles, backing files or zero detection here, so their members have one value."""

    file: str
    node_name: Annotated[str, Name("node-name")]
    ro: bool
    drv: str
    image: ImageInfo
    cache: CacheInfo
    backing_file_depth: Annotated[int, Name("backing_file_depth")]
    encrypted: bool
    detect_zeroes: Annotated[Literal["off", "on", "unmap"], Name("detect_zeroes")]
    bps: int
    bps_rd: Annotated[int, Name("bps_rd")]
    bps_wr: Annotated[int, Name("bps_wr")]
    iops: int
    iops_rd: Annotated[int, Name("iops_rd")]
    iops_wr: Annotated[int, Name("iops_wr")]
    write_threshold: Annotated[int, Name("write_threshold")]


class BlockInfo(NamedTuple):
    """A drive, and the device that has it."""

    device: str
    type: str
    removable: bool
    locked: bool
    qdev: str | None = None
    inserted: BlockDeviceInfo | None = None
    io_status: Literal["ok", "failed", "nospace"] | None = None


class BlockDeviceStats(NamedTuple):
    """What a device has done with its disk. Times and merges are not measured here and are 0."""

    rd_bytes: Annotated[int, Name("rd_bytes")]
    wr_bytes: Annotated[int, Name("wr_bytes")]
    unmap_bytes: Annotated[int, Name("unmap_bytes")]
    rd_operations: Annotated[int, Name("rd_operations")]
    wr_operations: Annotated[int, Name("wr_operations")]
    flush_operations: Annotated[int, Name("flush_operations")]
    unmap_operations: Annotated[int, Name("unmap_operations")]
    rd_total_time_ns: Annotated[int, Name("rd_total_time_ns")]
    wr_total_time_ns: Annotated[int, Name("wr_total_time_ns")]
    flush_total_time_ns: Annotated[int, Name("flush_total_time_ns")]
    unmap_total_time_ns: Annotated[int, Name("unmap_total_time_ns")]
    wr_highest_offset: Annotated[int, Name("wr_highest_offset")]
    rd_merged: Annotated[int, Name("rd_merged")]
    wr_merged: Annotated[int, Name("wr_merged")]
    unmap_merged: Annotated[int, Name("unmap_merged")]
    failed_rd_operations: Annotated[int, Name("failed_rd_operations")]
    failed_wr_operations: Annotated[int, Name("failed_wr_operations")]
    failed_flush_operations: Annotated[int, Name("failed_flush_operations")]
    failed_unmap_operations: Annotated[int, Name("failed_unmap_operations")]
    invalid_rd_operations: Annotated[int, Name("invalid_rd_operations")]
    invalid_wr_operations: Annotated[int, Name("invalid_wr_operations")]
    invalid_flush_operations: Annotated[int, Name("invalid_flush_operations")]
    invalid_unmap_operations: Annotated[int, Name("invalid_unmap_operations")]
    account_invalid: Annotated[bool, Name("account_invalid")]
    account_failed: Annotated[bool, Name("account_failed")]
    timed_stats: Annotated[list[dict[str, Any]], Name("timed_stats")]
    idle_time_ns: Annotated[int | None, Name("idle_time_ns")] = None


class BlockStats(NamedTuple):
    """The statistics of one drive."""

    stats: BlockDeviceStats
    device: str | None = None
    qdev: str | None = None
    node_name: str | None = None


# -- looking


def drives(machine: Machine) -> Iterator[Drive]:
    """All drives, in the order they came."""
    yield from (backend for backend in machine.backends.values() if isinstance(backend, Drive))


def device_of(drive: Drive, machine: Machine) -> str:
    """The drive's id; nothing for a block node."""
    return "" if drive.is_node_only else drive.name


def describe(drive: Drive, node: tuple[str, str]) -> BlockDeviceInfo:
    """One of DRIVE's nodes."""
    name, driver = node
    is_file = drive.fd >= 0 and not drive.is_block_device
    used = os.fstat(drive.fd).st_blocks * 512 if drive.fd >= 0 else 0
    image = ImageInfo(drive.filename, driver, drive.size, used, False if is_file else None)
    cache = CacheInfo(True, drive.cache_direct, False)
    return BlockDeviceInfo(drive.filename, name, drive.readonly, driver, image, cache, 0, False, "off", 0, 0, 0, 0, 0, 0, 0)


def block_info(machine: Machine, drive: Drive) -> BlockInfo | None:
    """As query-block shows a drive; None: it is a node that no device has."""
    user = next(users(machine, drive), None)
    if user is None and drive.is_node_only:
        return None
    return BlockInfo(
        device=device_of(drive, machine),
        type="unknown",
        removable=user is None,
        locked=False,
        qdev=user.qom_path if user is not None else None,
        inserted=describe(drive, drive.nodes[0]) if drive.is_inserted else None,
        io_status="ok" if user is not None else None,
    )


@command("query-block", allow_preconfig=True)
def query_block(ctx: Context) -> list[BlockInfo]:
    """Drives, and nodes that a device has."""
    return [info for drive in drives(ctx.machine) if (info := block_info(ctx.machine, drive)) is not None]


@command("query-named-block-nodes", allow_preconfig=True)
def query_named_block_nodes(ctx: Context, *, flat: bool | None = None) -> list[BlockDeviceInfo]:
    """All nodes, newest first; ``flat`` is about backing files, which there are none of."""
    found = [describe(drive, node) for drive in drives(ctx.machine) if drive.is_inserted for node in reversed(drive.nodes)]
    return found[::-1]


def statistics(machine: Machine, drive: Drive) -> BlockDeviceStats:
    """Of the device that has the drive, where it counts (a method ``statistics()``, see virtio-blk's)."""
    user = next(users(machine, drive), None)
    counted = user.statistics() if user is not None and hasattr(user, "statistics") else {}
    values: dict[str, Any] = dict.fromkeys(BlockDeviceStats._fields, 0)
    values.update(account_invalid=True, account_failed=True, timed_stats=[], idle_time_ns=None)
    for operation, short in (("read", "rd"), ("write", "wr"), ("flush", "flush"), ("discard", "unmap")):
        counter = counted.get(operation)
        if counter is None:
            continue
        values[f"{short}_operations"] = counter["requests"] - counter["errors"]
        values[f"failed_{short}_operations"] = counter["errors"]
        if short != "flush":
            values[f"{short}_bytes"] = counter["bytes"]
            values[f"{short}_merged"] = counter["merged"]
    return BlockDeviceStats(**values)


@command("query-blockstats", allow_preconfig=True)
def query_blockstats(ctx: Context, *, query_nodes: bool | None = None) -> list[BlockStats]:
    """What devices did with their disks; ``query-nodes`` asks for nodes that no device has as well."""
    found = []
    for drive in drives(ctx.machine):
        info = block_info(ctx.machine, drive)
        if info is None and not query_nodes:
            continue
        node = drive.nodes[0][0] if drive.is_inserted else None
        qdev = info.qdev if info is not None else None
        found.append(BlockStats(statistics(ctx.machine, drive), device_of(drive, ctx.machine), qdev, node))
    return found


# -- changing


def find_drive(machine: Machine, device: str | None, node_name: str | None) -> Drive:
    """By drive id, qdev id or path, or by node name.

    :raises QmpError: there is none
    """
    for drive in drives(machine):
        if device and not drive.is_node_only and drive.name == device:
            return drive
        if node_name and drive.is_inserted and node_name in (name for name, _ in drive.nodes):
            return drive
    raise QmpError(f"Cannot find device='{device or ''}' nor node-name='{node_name or ''}'")


@command("block_resize")
def block_resize(ctx: Context, *, device: str | None = None, node_name: str | None = None, size: int) -> None:
    """Make a disk longer or shorter; the guest is told."""
    drive = find_drive(ctx.machine, device, node_name)
    if size < 0:
        raise QmpError("Parameter 'size' expects a >0 size")
    if not drive.is_inserted:
        raise QmpError(f"Device '{device}' has no medium")
    drive.resize(size)


OnOff = Literal["on", "off"]
Aio = Literal["threads", "native", "io_uring"]
Discard = Literal["ignore", "unmap"]
DetectZeroes = Literal["off", "on", "unmap"]
OnOffAuto = Literal["auto", "on", "off"]


#: of ``cache``; flushes are carried out whatever ``no-flush`` says
BlockdevCacheOptions = TypedDict("BlockdevCacheOptions", {"direct": bool, "no-flush": bool}, total=False)


class NodeBase(NamedTuple):
    """What all drivers take."""

    node_name: str | None = None
    discard: Discard | None = None
    cache: BlockdevCacheOptions | None = None
    read_only: bool | None = None
    auto_read_only: bool | None = None
    force_share: bool | None = None
    detect_zeroes: DetectZeroes | None = None


class BlockdevOptionsFile(NamedTuple):
    """``driver: file`` and ``host_device``."""

    filename: str
    aio: Aio | None = None
    locking: OnOffAuto | None = None


class BlockdevOptionsNull(NamedTuple):
    """``driver: null-co`` and ``null-aio``."""

    size: int | None = None
    read_zeroes: bool | None = None


class BlockdevOptionsRaw(TypedDict, total=False):
    """``driver: raw``; ``file`` is a node's name, or another node's options."""

    file: Required[str | Node]
    size: int
    offset: int


class BlockdevOptionsBlkdebug(TypedDict, total=False):
    """``driver: blkdebug``, with a file of rules that has none: no errors are injected."""

    config: str
    image: Required[str | Node]


NODE = Union(
    "driver",
    {
        "blkdebug": BlockdevOptionsBlkdebug,
        "file": BlockdevOptionsFile,
        "host_device": BlockdevOptionsFile,
        "null-co": BlockdevOptionsNull,
        "null-aio": BlockdevOptionsNull,
        "raw": BlockdevOptionsRaw,
    },
    base=NodeBase,
)
Node = Annotated[dict[str, Any], NODE]


def node_options(options: dict[str, Any]) -> dict[str, Any]:
    """Options of a drive, of those of a block node.

    :raises QmpError: what is not here
    """
    found = dict(options)
    found.pop("node-name", None)
    if found.pop("detect-zeroes", "off") != "off":
        raise QmpError("Parameter 'detect-zeroes' expects 'off': zeroes are written as they are")
    if found.pop("force-share", False):
        raise QmpError("Parameter 'force-share' expects 'false'; use share-rw=on at the device")
    found.pop("auto-read-only", None)
    found.pop("locking", None)  # images are locked where their file system can
    if "read-only" in found:
        found["readonly"] = found.pop("read-only")
    for name, value in (found.pop("cache", None) or {}).items():
        if name != "no-flush":
            found[f"cache.{name}"] = value
    if "filename" in found:
        found["file"] = found.pop("filename")
    return found


@command("blockdev-add", allow_preconfig=True)
def blockdev_add(ctx: Context, options: Node, /) -> None:
    """Add a block node; ``raw`` stands on another one, named or given."""
    name = options.get("node-name")
    if name is None:
        raise QmpError("'node-name' must be specified for the root node")
    check_node_name(ctx.machine, name)
    if options["driver"] == "blkdebug":
        _add_blkdebug(ctx, options)
        return
    found = node_options(options)
    if options["driver"] == "raw":
        found = _below(ctx.machine, found.pop("file"), found.get("offset", 0)) | found
    create_backend(ctx.machine, "drives", "drive", name, {**found, "node-name": name})


def _add_blkdebug(ctx: Context, options: dict[str, Any]) -> None:
    """As a raw node, once the file of rules was read and found to have none. It may be a pipe: the machine does not wait."""
    reply = ctx.defer()
    rest = {name: value for name, value in options.items() if name not in ("config", "image")}

    def finish(rules: str, problem: OSError | None) -> None:
        try:
            if problem is not None:
                raise QmpError(f"Could not open blkdebug config file: {problem.strerror}")
            if re.search(r"^\s*\[", rules, re.MULTILINE):
                raise QmpError("blkdebug: rules are not there; errors are not injected")
            blockdev_add(ctx, {**rest, "driver": "raw", "file": options["image"]})
        except QdevpyError as error:
            reply(error=error)
        else:
            reply()

    def read() -> None:
        rules, problem = "", None
        try:
            if "config" in options:
                with open(options["config"], encoding="utf-8", errors="replace") as file:
                    rules = file.read(MAX_RULES)
        except (OSError, ValueError) as error:
            problem = error if isinstance(error, OSError) else OSError(0, str(error))
        with suppress(OSError):  # the machine has ended
            ctx.machine.loop.call_soon(lambda: finish(rules, problem))

    threading.Thread(target=read, daemon=True, name="blkdebug").start()


def check_node_name(machine: Machine, name: str) -> None:
    """:raises QmpError: it is none, or taken."""
    if not _NODE_NAME.fullmatch(name):
        raise QmpError(f"Invalid node-name: '{name}'")
    for drive in drives(machine):
        if not drive.is_node_only and drive.name == name:
            raise QmpError(f"node-name={name} is conflicting with a device id")
        if name in (node for node, _ in drive.nodes):
            raise QmpError(f"Duplicate nodes with node-name='{name}'")


def _below(machine: Machine, file: str | dict[str, Any], offset: int) -> dict[str, Any]:
    """What a raw node's ``file`` means."""
    if isinstance(file, str):
        found = next((drive for drive in drives(machine) if drive.is_node_only and drive.name == file), None)
        if found is None:
            raise QmpError(f"Cannot find device='{file}' nor node-name='{file}'")
        return {"below": file}
    name = file.get("node-name")
    if name is not None:
        check_node_name(machine, name)
    lower = {"file-node-name": name, **node_options(file)}
    driver = lower.pop("driver")
    if driver == "raw":
        raise QmpError("Parameter 'file.driver' expects a protocol: file, host_device, null-co or null-aio")
    if driver.startswith("null"):
        lower["file"] = f"{driver}://"
        if "size" in lower:
            lower["size"] -= offset
    return lower


@command("blockdev-del", allow_preconfig=True)
def blockdev_del(ctx: Context, *, node_name: str) -> None:
    """Take a block node out that ``blockdev-add`` or ``-blockdev`` made."""
    drive = next((drive for drive in drives(ctx.machine) if drive.is_node_only and drive.name == node_name), None)
    if drive is None:
        raise QmpError(f"Failed to find node with node-name='{node_name}'")
    if drive.user is not None:
        below = any(other.below == node_name for other in drives(ctx.machine))
        raise QmpError(f"Block device {node_name} is in use" if below else f"Node {node_name} is in use")
    ctx.machine.remove_backend("drives", node_name)


@command("x-blockdev-set-iothread")
def blockdev_set_iothread(ctx: Context, *, node_name: str, iothread: str | Null, force: bool | None = None) -> None:
    """Let another I/O thread serve the device that uses a block node; null: the one of devices that name none.

    The queues move while the driver uses them. Which thread the device was made with is what its properties go on saying.
    """
    drive = find_drive(ctx.machine, None, node_name)
    user = next(users(ctx.machine, drive), None)
    if user is not None and not force:
        raise QmpError(
            f"Node {node_name} is associated with a BlockBackend and could be in use (use force=true to override this check)"
        )
    if iothread is not None and iothread not in ctx.machine.iothreads:
        raise QmpError(f"Cannot find iothread {iothread}")
    if user is None:
        return  # nobody serves it
    if not isinstance(user, VirtIODevice):
        raise QmpError(f"Device {user.label} has no queues that an I/O thread could serve")
    try:
        user.move_queues(ctx.machine.iothread(iothread))
    except OSError as error:
        raise QmpError(f"{user.label}: {error.strerror}") from None


COMMANDS = (
    query_block,
    query_named_block_nodes,
    query_blockstats,
    block_resize,
    blockdev_add,
    blockdev_del,
    blockdev_set_iothread,
)
