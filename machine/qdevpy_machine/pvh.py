# SPDX-License-Identifier: Apache-2.0
"""PVH direct boot (xen/include/public/arch-x86/hvm/start_info.h): protected mode, EBX points at the start info."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from qdevpy_machine import layout

if TYPE_CHECKING:
    from qdevpy.accel.base import BootState
    from qdevpy_machine.loader import Payload

MAGIC = 0x336E_C578
VERSION = 1
INFO_SIZE = 56
MODULE_SIZE = 32


def enter(payload: Payload, entry: int) -> BootState:
    """Write start info, module list and memory map, and start at ENTRY."""
    modules = b""
    if payload.initrd is not None:
        modules = struct.pack("<QQQQ", payload.initrd.start, payload.initrd.size, 0, 0)
    entries = layout.memory_map(payload.memory_size)
    modules_at = layout.PVH_INFO + INFO_SIZE
    map_at = modules_at + MODULE_SIZE
    info = struct.pack(
        "<IIIIQQQQII", MAGIC, VERSION, 0, 1 if modules else 0, modules_at if modules else 0,
        layout.COMMAND_LINE, payload.rsdp, map_at, len(entries), 0,
    )  # fmt: skip
    memory_map = b"".join(struct.pack("<QQII", piece.start, piece.size, kind, 0) for piece, kind in entries)
    payload.memory.write(layout.PVH_INFO, info + modules.ljust(MODULE_SIZE, b"\0") + memory_map)
    return payload.boot_state(entry, wide=False, rbx=layout.PVH_INFO)
