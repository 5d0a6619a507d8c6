# SPDX-License-Identifier: Apache-2.0
"""The commands there are: found by name, their arguments converted, carried out."""

from __future__ import annotations

import inspect
import logging
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any

from qdevpy.errors import QdevpyError
from qdevpy.monitor.command import Command, Context, QmpError
from qdevpy.monitor.qapi import Compiler, ObjectType, Struct, Type

log = logging.getLogger(__name__)

#: modules that have COMMANDS
MODULES = (
    "qdevpy.monitor.commands.control",
    "qdevpy.monitor.commands.machine",
    "qdevpy.monitor.commands.memory",
    "qdevpy.monitor.commands.run",
    "qdevpy.monitor.commands.qom",
    "qdevpy.monitor.commands.device",
    "qdevpy.monitor.commands.block",
    "qdevpy.monitor.commands.objects",
    "qdevpy.monitor.commands.net",
    "qdevpy.monitor.commands.char",
    "qdevpy.monitor.commands.pci",
    "qdevpy.monitor.commands.virtio",
    "qdevpy.monitor.commands.rings",
    "qdevpy.monitor.commands.counters",
    "qdevpy.monitor.commands.human",
)


class Bound:
    """A command with its types.

    :ivar arguments: what it takes
    :ivar returns: what it answers; None: ``{}``
    """

    def __init__(self, command: Command, compiler: Compiler) -> None:
        self.command = command
        self.name = command.name
        hints = typing.get_type_hints(command.handler, include_extras=True)
        parameters = list(inspect.signature(command.handler).parameters.values())[1:]
        self.boxed = bool(parameters) and parameters[0].kind is inspect.Parameter.POSITIONAL_ONLY
        if self.boxed:
            self.arguments: Type = compiler.type_of(hints[parameters[0].name])
        else:
            if wrong := [p.name for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]:
                raise TypeError(f"command {command.name}: arguments must be keyword-only: {', '.join(wrong)}")
            empty = inspect.Parameter.empty
            members = (
                compiler.member(
                    p.name, hints[p.name], optional=p.default is not empty, default=None if p.default is empty else p.default
                )
                for p in parameters
            )
            self.arguments = Struct(None, compiler, tuple(members))
        answer = hints.get("return", type(None))
        self.returns: Type | None = None if answer is type(None) else compiler.type_of(answer)

    def call(self, ctx: Context, arguments: Mapping[str, Any]) -> Any:
        """Check, convert, carry out; what the handler returned, not yet encoded.

        :raises QmpError: arguments that do not fit
        """
        if not self.command.gen:
            return self.command.handler(ctx, dict(arguments))
        decoded = self.arguments.decode(dict(arguments), "")
        if self.boxed:
            return self.command.handler(ctx, decoded)
        return self.command.handler(ctx, **decoded)

    def encode(self, value: Any) -> Any:
        """An answer in JSON."""
        return {} if self.returns is None else self.returns.encode(value)


class CommandTable:
    """Commands by name, in the order of their modules.

    :param modules: names of modules with COMMANDS
    """

    def __init__(self, modules: Iterable[str] = MODULES) -> None:
        self.compiler = Compiler()
        self._declared: dict[str, Command] = {}
        self._bound: dict[str, Bound] = {}
        for name in modules:
            for command in import_module(name).COMMANDS:
                if command.name in self._declared:
                    raise TypeError(f"{name}: command {command.name} is declared twice")
                self._declared[command.name] = command

    def __iter__(self) -> Iterator[Bound]:
        return iter([self.bind(command) for command in self._declared.values()])

    @property
    def names(self) -> list[str]:
        """Every command's."""
        return list(self._declared)

    def find(self, name: str, *, negotiating: bool = False) -> Bound:
        """The command called NAME.

        :param negotiating: before ``qmp_capabilities``
        :raises QmpError: there is none; CommandNotFound
        """
        command = self._declared.get(name)
        if command is None or (negotiating and not command.negotiation):
            raise QmpError(f"The command {name} has not been found", "CommandNotFound")
        return self.bind(command)

    def bind(self, command: Command) -> Bound:
        """COMMAND with its types, made when first used."""
        bound = self._bound.get(command.name)
        if bound is None:
            bound = self._bound[command.name] = Bound(command, self.compiler)
        return bound

    def execute(self, ctx: Context, name: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Carry out NAME as a client would, at once; its answer in JSON. For the program itself and tests.

        :raises QmpError: as the command
        """
        bound = self.find(name)
        return bound.encode(guarded(name, lambda: bound.call(ctx, arguments or {})))


def guarded(name: str, work: Callable[[], Any]) -> Any:
    """What WORK returns.

    :raises QmpError: for everything that it raises; what is not meant for users is logged
    """
    try:
        return work()
    except QmpError:
        raise
    except QdevpyError as error:
        raise QmpError(str(error)) from error
    except Exception as error:  # a command's mistake must not end the machine
        log.exception("QMP command %s", name)
        raise QmpError(f"{name}: internal error: {type(error).__name__}: {error}") from error


def arguments_type(bound: Bound) -> ObjectType:
    """The object type of a command's arguments, for the schema: one that says any is without members."""
    return bound.arguments if isinstance(bound.arguments, ObjectType) else Struct(None, Compiler(), ())
