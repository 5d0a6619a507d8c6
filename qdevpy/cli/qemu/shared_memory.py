# SPDX-License-Identifier: Apache-2.0
"""RAM that a vhost-user back end can map. Here it always can; QEMU wants an object for it, and the machine's name of that.

``-object memory-backend-memfd,id=ID,size=SIZE,share=on -machine memory-backend=ID``
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from qdevpy.cli.qemu.opts import CommandLineError, join
from qdevpy.definition.dump import size_text
from qdevpy.definition.nodes import Map

if TYPE_CHECKING:
    from qdevpy.cli.qemu.draft import Draft
    from qdevpy.cli.qemu.opts import Options
    from qdevpy.definition.model import MachineDefinition

#: QEMU's objects that another program can map
SHAREABLE = ("memory-backend-memfd", "memory-backend-file")
#: options of theirs that say where pages come from, which is the host's business here
_PLACEMENT = ("share", "prealloc", "merge", "dump", "seal", "mem-path", "discard-data")
OBJECT = "ram"


def take_object(draft: Draft, type_name: str, name: str, options: Options) -> None:
    """``-object memory-backend-memfd``: remembered until ``-machine memory-backend`` names it.

    :raises CommandLineError: it has an option that we do not know
    """
    size = options.need("size")
    for option in _PLACEMENT:
        options.pop(option)
    options.end()
    draft.shared_memory[name] = size
    if type_name == "memory-backend-file":
        draft.note("RAM is the machine's own memory, not that of a file")


def take_machine_option(draft: Draft, given: Map, default: int) -> None:
    """``-machine memory-backend=ID``, at the end of the command line, where every object is known.

    :param default: bytes of memory of a machine that is not told
    :raises CommandLineError: there is no such object
    """
    if "memory-backend" not in given.entries:
        return
    value = given.entries.pop("memory-backend")[1]
    draft.at = value.position
    if value.text not in draft.shared_memory:
        known = ", ".join(draft.shared_memory) or "none"
        raise CommandLineError(
            f"memory-backend={value.text}: no object of type {' or '.join(SHAREABLE)} is called so (there is {known})"
        )
    size = draft.shared_memory[value.text]
    if "memory" not in draft.root.entries and size != size_text(default):
        draft.put(size, "memory")


def export(definition: MachineDefinition, default: int) -> Iterator[list[str]]:
    """What QEMU wants beside a vhost-user back end."""
    devices = any(entry.type.startswith("vhost-user-") for entry in definition.devices)
    if devices or any(entry.type == "vhost-user" for entry in definition.netdevs.values()):
        size = size_text(definition.memory or default)
        yield ["-object", join([("id", OBJECT), ("size", size), ("share", "on")], "memory-backend-memfd")]
        yield ["-machine", join([("memory-backend", OBJECT)])]
