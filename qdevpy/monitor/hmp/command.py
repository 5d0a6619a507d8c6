# SPDX-License-Identifier: Apache-2.0
"""How a command of the human monitor is declared.

::

    @hmp("block_resize", "device:B,size:o", "device size", "resize a disk")
    def block_resize(monitor: Hmp, *, device: str, size: int) -> str:
        monitor.qmp("block_resize", device=device, size=size)
        return ""

A handler gets the arguments that were given and returns what is printed, lines ended by newlines. It raises
:class:`HmpError` for a text that is printed as it is; any other QdevpyError is printed behind ``Error: ``.

**Types of arguments** (QEMU: include/monitor/monitor.h, monitor/hmp.c); ``?`` behind one makes it optional:

======  =================================================================
``s``   a word, or text in double quotes
``F``   likewise: a file's name; ``B``: a drive's
``S``   the rest of the line
``i``   an expression of 32 bits; ``l``: of 64
``o``   a size; without a suffix in MiB
``b``   ``on`` or ``off``
``/``   a format, as in ``/4xw``: arguments ``count``, ``format``, ``size``
``-x``  a flag, given as ``-x``
======  =================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from qdevpy.errors import QdevpyError

if TYPE_CHECKING:
    from qdevpy.monitor.hmp.monitor import Hmp

Handler = Callable[..., str]


class HmpError(QdevpyError):
    """Printed as it is."""


class Argument(NamedTuple):
    """One of a command's arguments; see the module's text.

    :ivar flag: the letter, for type ``-``
    """

    name: str
    type: str
    optional: bool
    flag: str = ""


class HmpCommand(NamedTuple):
    """A command.

    :ivar names: QEMU's, the aliases behind ``|``
    :ivar params: arguments, for ``help``
    :ivar help: what it does, one line
    """

    names: str
    arguments: tuple[Argument, ...]
    params: str
    help: str
    handler: Handler

    def is_called(self, name: str) -> bool:
        """Whether NAME is one of its names."""
        return name in self.names.split("|")

    def __call__(self, monitor: Hmp, **arguments: Any) -> str:
        """Carry it out."""
        return self.handler(monitor, **arguments)


def parse_arguments_type(text: str) -> tuple[Argument, ...]:
    """``"force:-f,device:B,size:o?"``."""
    found = []
    for part in filter(None, text.split(",")):
        name, _, kind = part.partition(":")
        name = name.replace("-", "_")
        if kind.startswith("-"):
            found.append(Argument(name, "-", True, kind[1:]))
        else:
            found.append(Argument(name, kind[0], kind.endswith("?")))
    return tuple(found)


def hmp(names: str, arguments: str = "", params: str = "", help: str = "") -> Callable[[Handler], HmpCommand]:  # noqa: A002 - its name
    """Declare the decorated function to be a command."""

    def declare(handler: Handler) -> HmpCommand:
        return HmpCommand(names, parse_arguments_type(arguments), params, help, handler)

    return declare
