# SPDX-License-Identifier: Apache-2.0
"""Commands on memory (QEMU: qapi/machine.json)."""

from __future__ import annotations

from typing import Literal, NamedTuple

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
    """What RAM is made of: one piece of the board's, shared with nobody by name."""
    machine = ctx.machine
    name = machine.board.default_ram_id
    if name is None or not machine.memory_size:
        return []
    merge = getattr(machine.board, "mem_merge", True)
    return [
        Memdev(
            name,
            machine.memory_size,
            merge,
            dump=False,
            prealloc=False,
            share=True,
            reserve=True,
            host_nodes=[],
            policy="default",
        )
    ]


COMMANDS = (query_memdev,)
