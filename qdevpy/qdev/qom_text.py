# SPDX-License-Identifier: Apache-2.0
"""The composition tree as text, as QEMU's human monitor prints it (qom/qom-hmp-cmds.c)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from qdevpy.errors import PathError
from qdevpy.qdev.qom import Tree, type_of

if TYPE_CHECKING:
    from qdevpy.vm.machine import Machine


def format_qom_tree(machine: Machine, path: str | None = None) -> Iterator[str]:
    """The lines of ``info qom-tree PATH``: an object and all that is part of it, by name.

    :param path: None: the machine
    """
    tree = Tree(machine)
    try:
        obj = tree.resolve(path or "/machine")
    except PathError:
        yield f"Path '{path}' could not be resolved."
        return
    yield from _format(tree, obj, name=(path or "/machine").rstrip("/").rpartition("/")[2], level=0)


def _format(tree: Tree, obj: Any, name: str, level: int) -> Iterator[str]:
    yield f"{'  ' * level}/{name} ({type_of(obj)})"
    for child_name, child in sorted(tree.children(obj).items()):
        yield from _format(tree, child, child_name, level + 1)
