# SPDX-License-Identifier: Apache-2.0
"""How a QMP command is declared: a typed function, from which its schema, checks and conversions are made.

::

    @command("block_resize")
    def block_resize(ctx: Context, *, device: str | None = None, node_name: str | None = None, size: int) -> None:
        ...

    COMMANDS = (block_resize,)          # at the module's end; qdevpy/monitor/table.py lists the module

Arguments are keyword-only. Annotations are evaluated when the table is made, so what they name is imported at
run time (not under TYPE_CHECKING) and stands at the top level of its module.

**Names.** ``_`` in the name of an argument, or of a field of a NamedTuple, is ``-`` on the wire, and one ``_`` at
the end is dropped (``class_``: ``class``). Where QEMU has ``_`` (or anything else) the annotation says so:
``Annotated[int, Name("io_size")]``. Keys of a TypedDict stand as they are written; one with ``-`` takes
``TypedDict("Peer", {"node-name": str})``.

**Types.**

=============================================  =====================================================================
annotation                                     QAPI
=============================================  =====================================================================
``str``, ``bool``, ``float``                   str, bool, number (an integer is a number, too)
``int``; :data:`UInt8` ... :data:`UInt64`       an integer of 64 bits with sign; of that range
``Literal["on", "off"]``                       an enum
``list[T]``                                    an array
``Any``, ``dict[str, Any]``                    any; any JSON object (the schema says ``any``)
a NamedTuple                                   a struct: the handler gets (or returns) an instance
a TypedDict                                    a struct: the handler gets (or returns) a plain dict
``T | None``, or with a default                an optional member; absent it is the default, else None (TypedDict: no
                                               key), and what is None is left out of an answer
``Annotated[dict[str, Any], Union(...)]``      a union, by the value of one member: see :class:`Union`
``str | SomeStruct``, ``str | Null``           an alternate: told apart by JSON type
=============================================  =====================================================================

**All arguments as one.** One positional-only parameter takes them together, as struct, union or dict:
``def netdev_add(ctx: Context, options: Netdev, /) -> None``. With ``gen=False`` they are not checked at all, and the
annotation serves the schema only (``device_add``).

**Errors.** A handler raises :class:`QmpError`; any other QdevpyError becomes a ``GenericError`` with its text.

**Later answers.** A handler runs on the main loop's thread with the VM lock held, so it must not wait for a vCPU.
``reply = ctx.defer()`` says that the answer comes later, with ``reply(value)`` or ``reply(error=...)``; what the
handler returns is then ignored. The client's next command waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeVar

from qdevpy.errors import QdevpyError

if TYPE_CHECKING:
    from qdevpy.monitor.table import CommandTable
    from qdevpy.vm.machine import Machine

ErrorClass = Literal["GenericError", "CommandNotFound", "DeviceNotFound", "DeviceNotActive", "KVMMissingCap"]


class QmpError(QdevpyError):
    """What a command answers when it fails.

    :param desc: for people
    :param class_: for programs (qapi/error.json)
    """

    def __init__(self, desc: str, class_: ErrorClass = "GenericError") -> None:
        super().__init__(desc)
        self.class_ = class_


class Reply(Protocol):
    """Gives a deferred answer, once; later calls, and those after the client has gone, do nothing."""

    def __call__(self, value: Any = None, *, error: Exception | None = None) -> None:
        """Answer with VALUE, of the command's return type, or with ERROR."""


class Closeable(Protocol):
    """Something that ends with a client's connection."""

    def close(self) -> None:
        """The client has gone."""


K = TypeVar("K", bound=Closeable)


class Monitor(Protocol):
    """What a command may ask of the session that it came from.

    :ivar negotiating: ``qmp_capabilities`` has not been sent yet
    """

    negotiating: bool

    def defer(self) -> Reply:
        """See :meth:`Context.defer`."""

    def keep(self, kind: type[K], make: Callable[[], K]) -> K:
        """What commands keep for this client, one of each KIND, made when first asked for and closed when the client goes."""

    def enable(self, capabilities: Sequence[str]) -> None:
        """The client asks for CAPABILITIES.

        :raises QmpError: not offered
        """


class Context:
    """What a handler is given beside its arguments.

    :ivar machine: the machine
    :ivar monitor: the session; None: the command was called by the program itself, or from the human monitor
    """

    def __init__(self, machine: Machine, monitor: Monitor | None = None, table: CommandTable | None = None) -> None:
        self.machine = machine
        self.monitor = monitor
        self._table = table

    @property
    def table(self) -> CommandTable:
        """The commands there are."""
        if self._table is None:
            from qdevpy.monitor.table import CommandTable

            self._table = CommandTable()
        return self._table

    def defer(self) -> Reply:
        """The answer comes later: call what this returns."""
        if self.monitor is None:
            return _ignore
        return self.monitor.defer()


def _ignore(value: Any = None, *, error: Exception | None = None) -> None:
    """Nobody waits for the answer."""


class Name:
    """In ``Annotated[...]``: the member's name on the wire, where it is not the one that the rule gives."""

    def __init__(self, name: str) -> None:
        self.name = name


class Range:
    """In ``Annotated[int, ...]``: an integer's range. KIND is QEMU's name of it, for messages."""

    def __init__(self, kind: str, low: int, high: int) -> None:
        self.kind, self.low, self.high = kind, low, high


UInt8 = Annotated[int, Range("uint8_t", 0, (1 << 8) - 1)]
UInt16 = Annotated[int, Range("uint16_t", 0, (1 << 16) - 1)]
UInt32 = Annotated[int, Range("uint32_t", 0, (1 << 32) - 1)]
UInt64 = Annotated[int, Range("uint64", 0, (1 << 64) - 1)]
#: QAPI's ``size``: bytes
Size = UInt64

#: JSON's null, as one of an alternate's types
Null = Literal[None]


class Union:
    """In ``Annotated[dict[str, Any], ...]``: an object whose members depend on the value of one of them.

    The handler gets (or returns) the object as it is on the wire: a plain dict, checked all the way down.

    :param tag: name of the member that tells
    :param branches: its values, each with the NamedTuple or TypedDict of the members that come with it, or None
    :param base: NamedTuple or TypedDict of the members there always are, beside the tag
    :param optional: the value that an absent tag means; None: it must be there

    Nesting as in ``chardev-add`` is a TypedDict whose ``data`` is the struct; recursion as in ``blockdev-add`` goes
    through a TypedDict with a quoted annotation.
    """

    def __init__(
        self, tag: str, branches: Mapping[str, type[Any] | None], *, base: type[Any] | None = None, optional: str | None = None
    ) -> None:
        self.tag, self.branches, self.base, self.optional = tag, branches, base, optional


class Command:
    """A declared command; made by :func:`command`.

    :ivar name: on the wire
    :ivar handler: the function
    :ivar gen: whether arguments are checked and converted
    :ivar features: QAPI's (``deprecated``, ``unstable``)
    :ivar allow_oob: may overtake others (``exec-oob``)
    :ivar allow_preconfig: may be used before the machine is made
    :ivar negotiation: may be used before ``qmp_capabilities``
    """

    def __init__(
        self,
        name: str,
        handler: Callable[..., Any],
        *,
        gen: bool,
        features: Sequence[str],
        allow_oob: bool,
        allow_preconfig: bool,
        negotiation: bool,
    ) -> None:
        self.name = name
        self.handler = handler
        self.gen = gen
        self.features = tuple(features)
        self.allow_oob = allow_oob
        self.allow_preconfig = allow_preconfig
        self.negotiation = negotiation

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the handler itself, converted arguments given; for other commands and the human monitor."""
        return self.handler(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<command {self.name}>"


def command(
    name: str,
    *,
    gen: bool = True,
    features: Sequence[str] = (),
    allow_oob: bool = False,
    allow_preconfig: bool = False,
    negotiation: bool = False,
) -> Callable[[Callable[..., Any]], Command]:
    """Declare the decorated function to be the command NAME; see the module's text and :class:`Command`."""

    def declare(handler: Callable[..., Any]) -> Command:
        return Command(
            name,
            handler,
            gen=gen,
            features=features,
            allow_oob=allow_oob,
            allow_preconfig=allow_preconfig,
            negotiation=negotiation,
        )

    return declare
