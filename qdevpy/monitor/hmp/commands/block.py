# SPDX-License-Identifier: Apache-2.0
"""Disks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qdevpy.backend.drive import Drive
from qdevpy.monitor.hmp.command import HmpCommand, HmpError, hmp
from qdevpy.monitor.hmp.monitor import Hmp
from qdevpy.vm.backends import is_identifier

#: QEMU's numbers of interfaces, for one message
INTERFACES = ("none", "ide", "scsi", "floppy", "pflash", "mtd", "sd", "virtio", "xen")


@hmp("block_resize", "device:B,size:o", "device size", "make a disk longer or shorter")
def block_resize(monitor: Hmp, *, device: str, size: int) -> str:
    """As QMP's."""
    monitor.qmp("block_resize", device=device, size=size)
    return ""


@hmp("drive_add", "node:-n,pci_addr:s,opts:s", "[-n] slot options", "add a drive (if=none), or with -n a block node")
def drive_add(monitor: Hmp, *, pci_addr: str, opts: str, node: bool = False) -> str:
    """As QEMU's: the first argument means nothing any more."""
    from qdevpy.cli.qemu import blocks
    from qdevpy.cli.qemu.draft import Draft
    from qdevpy.cli.qemu.opts import parse_options, wants_help
    from qdevpy.errors import QdevpyError
    from qdevpy.monitor.hmp.drafts import create, entries

    options = parse_options(opts)
    if wants_help(options) or options.pop("format") == "help":
        return "Supported formats: raw\n"
    if not node:
        interface = options.pop("if") or "ide"
        if interface != "none":
            number = INTERFACES.index(interface) if interface in INTERFACES else 0
            raise HmpError(f"Can't hot-add drive to type {number}")
        name = options.pop("id")
        if name is not None and not is_identifier(name):
            raise HmpError("Parameter 'id' expects an identifier")
        if name is not None and ("drives", name) in monitor.machine.backends:
            raise HmpError(f"Duplicate ID '{name}' for drive")

    def block_node(draft: Draft, text: str) -> None:
        blocks.blockdev(draft, text)
        blocks.add_block_nodes(draft)

    try:
        for entry in entries(monitor.machine, block_node if node else blocks.drive, opts):
            create(monitor.machine, entry)
    except QdevpyError as error:
        raise HmpError(str(error)) from error
    return "" if node else "OK\n"


@hmp("drive_del", "id:B", "device", "take a drive out, from under its device if need be")
def drive_del(monitor: Hmp, *, id: str) -> str:  # noqa: A002
    """As QEMU's: a device that had it goes on without contents."""
    found = monitor.machine.backends.get(("drives", id))
    if not isinstance(found, Drive):
        raise HmpError(f"Device '{id}' not found")
    if found.is_node_only:
        if found.user is not None:
            raise HmpError(f"Node {id} is in use")
        monitor.machine.remove_backend("drives", id)
    elif found.user is None:
        monitor.machine.remove_backend("drives", id)
    else:
        found.eject()
        monitor.machine.forget_backend(found)
    return ""


@hmp("eject", "force:-f,device:B", "[-f] device", "eject a removable medium; there are none")
def eject(monitor: Hmp, *, device: str, force: bool = False) -> str:
    """As QEMU's for a disk."""
    if ("drives", device) not in monitor.machine.backends:
        raise HmpError(f"Error: Device '{device}' not found")
    raise HmpError(f"Error: Device '{device}' is not removable")


@hmp("commit", "device:B", "device|all", "write changes to backing files; there are none")
def commit(monitor: Hmp, *, device: str) -> str:
    """Nothing to do."""
    if device != "all" and ("drives", device) not in monitor.machine.backends:
        raise HmpError(f"Device '{device}' not found")
    return ""


@hmp("block", "nodes:-n,verbose:-v,device:B?", "[-n] [-v] [device]", "show drives (-n: block nodes; -v: more of each)")
def info_block(monitor: Hmp, *, nodes: bool = False, verbose: bool = False, device: str | None = None) -> str:
    """As QEMU's."""
    if nodes:
        listed = [info for info in monitor.qmp("query-named-block-nodes") if device in (None, info["node-name"])]
        return "\n".join("".join(_block_lines(None, info, verbose)) for info in listed)
    found = [info for info in monitor.qmp("query-block") if device in (None, info["device"])]
    return "\n".join("".join(_block_lines(info, info.get("inserted"), verbose)) for info in found)


def _block_lines(info: dict[str, Any] | None, inserted: dict[str, Any] | None, verbose: bool) -> Iterator[str]:
    yield _block_title(info, inserted)
    if info is not None:
        if "qdev" in info:
            yield f"    Attached to:      {info['qdev']}\n"
        if info["removable"]:
            yield "    Removable device: not locked, tray closed\n"
    if inserted is None:
        return
    cache = inserted["cache"]
    mode = "writeback" if cache["writeback"] else "writethrough"
    yield f"    Cache mode:       {mode}{', direct' if cache['direct'] else ''}\n"
    if verbose:
        image = inserted["image"]
        yield (
            f"\nImages:\nimage: {image['filename']}\nfile format: {image['format']}\n"
            f"virtual size: {human_size(image['virtual-size'])} ({image['virtual-size']} bytes)\n"
            f"disk size: {human_size(image.get('actual-size', 0))}\n"
        )


def _block_title(info: dict[str, Any] | None, inserted: dict[str, Any] | None) -> str:
    node = inserted["node-name"] if inserted is not None else ""
    if info is None:
        name = node
    elif info["device"]:
        name = f"{info['device']} ({node})" if node else info["device"]
    else:
        name = node or info.get("qdev", "")
    if inserted is None:
        return f"{name}: [not inserted]\n"
    return f"{name}: {inserted['file']} ({inserted['drv']}{', read-only' if inserted['ro'] else ''})\n"


def human_size(size: int) -> str:
    """Three digits and a binary unit, as QEMU's ``size_to_str``."""
    power = min(max(size, 1).bit_length() - 1, 63) // 10
    return f"{size / (1 << 10 * power):.3g} {['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei'][power]}B"


@hmp("blockstats", help="show what devices did with their disks")
def info_blockstats(monitor: Hmp) -> str:
    """As QEMU's."""
    shown = (
        "rd_bytes", "wr_bytes", "rd_operations", "wr_operations", "flush_operations", "wr_total_time_ns",
        "rd_total_time_ns", "flush_total_time_ns", "rd_merged", "wr_merged", "idle_time_ns",
    )  # fmt: skip
    lines = []
    for entry in monitor.qmp("query-blockstats"):
        counts = " ".join(f"{name}={entry['stats'].get(name, 0)}" for name in shown)
        lines.append(f"{entry['device']}: {counts}\n")
    return "".join(lines)


@hmp("block-jobs", help="show block jobs; there are none")
def info_block_jobs(monitor: Hmp) -> str:
    """As QEMU's without any."""
    return "No active jobs\n"


COMMANDS: tuple[HmpCommand, ...] = (block_resize, drive_add, drive_del, eject, commit)
INFO: tuple[HmpCommand, ...] = (info_block, info_blockstats, info_block_jobs)
