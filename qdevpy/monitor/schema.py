# SPDX-License-Identifier: Apache-2.0
"""query-qmp-schema, from the command table and the machine's events (QEMU: docs/devel/qapi-code-gen.rst).

Types that are not built in have numbers for names, so that clients look at commands and events, not at types.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from qdevpy.monitor.qapi import Array, Type
from qdevpy.monitor.table import CommandTable, arguments_type
from qdevpy.vm.event_types import EVENTS
from qdevpy.vm.events import event_name


class Schema:
    """Gathers descriptions; a type's is added once, when it is first named."""

    def __init__(self) -> None:
        self.infos: list[dict[str, Any]] = []
        self._names: dict[int, str] = {}
        self._known: set[str] = set()
        self._kept: list[Type] = []  # ids are unique as long as the objects live
        self._waiting: deque[tuple[str, Type]] = deque()

    def type_name(self, kind: Type) -> str:
        """The name of KIND; described in its turn."""
        name = self._name(kind)
        if name not in self._known:
            self._known.add(name)
            self._kept.append(kind)
            self._waiting.append((name, kind))
        return name

    def _name(self, kind: Type) -> str:
        if isinstance(kind, Array):
            return f"[{self.type_name(kind.element)}]"
        if kind.meta == "builtin":
            return str(kind.name)  # type: ignore[attr-defined]
        if id(kind) not in self._names:
            self._names[id(kind)] = str(len(self._names))
        return self._names[id(kind)]

    def add(self, name: str, meta: str, **members: Any) -> None:
        """Add one SchemaInfo."""
        self.infos.append({"name": name, "meta-type": meta, **members})

    def finish(self) -> list[dict[str, Any]]:
        """Describe all types that were named; everything there is."""
        while self._waiting:
            name, kind = self._waiting.popleft()
            self.add(name, kind.meta, **kind.describe(self))
        return self.infos


def make_schema(table: CommandTable) -> list[dict[str, Any]]:
    """An array of SchemaInfo."""
    schema = Schema()
    empty = table.compiler.struct(None)
    for bound in table:
        declared = bound.command
        arguments = arguments_type(bound)
        if not getattr(arguments, "members", True):
            arguments = empty
        more: dict[str, Any] = {"allow-oob": True} if declared.allow_oob else {}
        if declared.features:
            more["features"] = list(declared.features)
        schema.add(
            bound.name,
            "command",
            **{"arg-type": schema.type_name(arguments), "ret-type": schema.type_name(bound.returns or empty)},
            **more,
        )
    for event in EVENTS:
        data = table.compiler.struct(event) if event._fields else empty
        schema.add(event_name(event), "event", **{"arg-type": schema.type_name(data)})
    return schema.finish()
