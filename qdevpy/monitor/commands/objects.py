# SPDX-License-Identifier: Apache-2.0
"""Commands on objects: I/O threads, memory (QEMU: qapi/qom.json, qapi/misc.json)."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple, TypedDict

from qdevpy.backend.iothread import IOThreadOptions
from qdevpy.monitor.command import Context, QmpError, Size, Union, command
from qdevpy.vm.backends import create_backend, is_identifier
from qdevpy.vm.machine import Machine


class IOThreadInfo(NamedTuple):
    """An I/O thread, with its options as they are now."""

    id: str
    thread_id: int
    poll_max_ns: int
    poll_grow: int
    poll_shrink: int
    aio_max_batch: int


class ObjectBase(NamedTuple):
    """What all objects have."""

    id: str


IothreadProperties = TypedDict(
    "IothreadProperties",
    {
        "aio-max-batch": int,
        "thread-pool-min": int,
        "thread-pool-max": int,
        "poll-max-ns": int,
        "poll-grow": int,
        "poll-shrink": int,
    },
    total=False,
)


class MemoryProperties(NamedTuple):
    """Memory under a name."""

    size: Size
    share: bool | None = None
    prealloc: bool | None = None


OBJECT = Union("qom-type", {"iothread": IothreadProperties, "memory-backend-ram": MemoryProperties}, base=ObjectBase)


def iothreads(machine: Machine) -> list[IOThreadInfo]:
    """All that have a name."""
    found = (backend for backend in machine.backends.values() if isinstance(backend, IOThreadOptions))
    return [IOThreadInfo(o.name, o.thread_id, o.poll_max_ns, o.poll_grow, o.poll_shrink, o.aio_max_batch) for o in found]


@command("query-iothreads", allow_preconfig=True)
def query_iothreads(ctx: Context) -> list[IOThreadInfo]:
    """I/O threads that were asked for by name."""
    return iothreads(ctx.machine)


@command("object-add", allow_preconfig=True)
def object_add(ctx: Context, options: Annotated[dict[str, Any], OBJECT], /) -> None:
    """Add an object."""
    given = dict(options)
    kind, name = given.pop("qom-type"), given.pop("id")
    if not is_identifier(name):
        raise QmpError("Parameter 'id' expects an identifier")
    if ("objects", name) in ctx.machine.backends:
        raise QmpError(f"attempt to add duplicate property '{name}' to object (type 'container')")
    for pool in ("thread-pool-min", "thread-pool-max"):  # queues have thread pools of their own
        given.pop(pool, None)
    create_backend(ctx.machine, "objects", kind, name, given)


@command("object-del", allow_preconfig=True)
def object_del(ctx: Context, *, id: str) -> None:  # noqa: A002 - the member's name
    """Take an object out."""
    if ("objects", id) not in ctx.machine.backends:
        raise QmpError(f"object '{id}' not found")
    ctx.machine.remove_backend("objects", id)


COMMANDS = (query_iothreads, object_add, object_del)
