# SPDX-License-Identifier: Apache-2.0
"""Commands on memory (QEMU: qapi/machine.json)."""

from __future__ import annotations

from typing import Literal, NamedTuple

from qdevpy.backend.memory_ram import MemoryBackendRam
from qdevpy.monitor.command import Context, command


class Memdev(NamedTuple):
    """A piece of the host's memory that is RAM."""

    id: str
    size: int
    merge: bool
    dump: bool
    prealloc: bool
    share: bool
    reserve: bool
    host_nodes: list[int]
    policy: Literal["default", "preferred", "bind", "interleave", "local"]


@command("query-memdev", allow_preconfig=True)
def query_memdev(ctx: Context) -> list[Memdev]:
    """RAM, which is one piece of the board's, and objects of type memory-backend-ram."""
    machine = ctx.machine
    found = []
    if machine.board.default_ram_id is not None and machine.memory_size:
        merge = bool(getattr(machine.board, "mem_merge", True))
        found.append(_piece(machine.board.default_ram_id, machine.memory_size, merge=merge, prealloc=False, share=True))
    for backend in machine.backends.values():
        if isinstance(backend, MemoryBackendRam):
            found.append(_piece(backend.name, backend.size, merge=False, prealloc=backend.prealloc, share=backend.share))
    return found


def _piece(name: str, size: int, *, merge: bool, prealloc: bool, share: bool) -> Memdev:
    return Memdev(name, size, merge, False, prealloc, share, True, [], "default")


COMMANDS = (query_memdev,)
