# SPDX-License-Identifier: Apache-2.0
"""Everything that qdevpy raises on purpose.

::

    QdevpyError
     ├── DefinitionError      a machine definition is wrong; carries every problem found
     ├── LocatedError         any of the others, with the place in the definition that caused it
     ├── PluginError          a plugin cannot be loaded or breaks the rules
     ├── UnknownNameError     no device type, board, back end or definition of that name
     ├── PathError            no object at a QOM path, or several
     ├── HotplugError         a device cannot come or go while the machine runs
     ├── DeviceError          a device: names its id and type
     │    ├── PropertyError   unknown, unparsable or forbidden property
     │    ├── RealizeError    the device cannot come to life with what it was given
     │    ├── DMAError        a device's access to memory that it may not have now; its code may catch it
     │    └── FaultError      a fault that was asked for cannot be: a rule, or a log that is to be replayed
     ├── ScaffoldError        a plugin's package cannot be written as asked
     ├── MonitorClientError   a running machine cannot be reached over its monitor, or says no
     │    └── MachineGoneError     it has ended meanwhile
     ├── BackendError         a drive, netdev or chardev cannot be opened or used
     ├── VhostError           who serves queues in a device's stead refuses, breaks a rule, or is gone
     ├── AccelError           the accelerator is missing or refuses
     │    └── GuestCrashError      the guest cannot go on: triple fault, emulation failure
     ├── BootError            kernel, initrd or firmware cannot be loaded
     ├── TraceError           a trace cannot be written or read
     └── GuestAddressError    an address that is not guest memory (raised by Python devices' DMA)

A message says what was given, where, what is accepted, and what to do. The command line prints
``str(error)`` of these and no traceback; anything else is a bug and shows one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qdevpy.definition.model import Position, Problem


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """The end of a message about an unknown NAME: ``; did you mean 'NEAREST'?``, or nothing."""
    import difflib  # only errors need it, and it is slow to import

    near = difflib.get_close_matches(name, list(candidates), 1)
    return f"; did you mean '{near[0]}'?" if near else ""


class QdevpyError(Exception):
    """Base of all errors meant for the user."""


class DefinitionError(QdevpyError):
    """A machine definition is wrong; ``str()`` has a line for each problem.

    :ivar problems: all that were found, in the order of files and lines
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class LocatedError(QdevpyError):
    """An error with the place in a machine definition that caused it.

    :param error: what happened
    :param position: file, line and column
    """

    def __init__(self, error: QdevpyError, position: Position) -> None:
        super().__init__(f"{position}: error: {error}")
        self.error = error
        self.position = position


class PluginError(QdevpyError):
    """A plugin cannot be loaded, or what it offers breaks a rule; names its distribution."""


class UnknownNameError(QdevpyError):
    """Nothing of that name; the message has the nearest one, and plugins that could not be loaded."""


class HotplugError(QdevpyError):
    """A device cannot come or go while the machine is there."""


class PathError(QdevpyError):
    """A QOM path leads nowhere, or, being the end of a path, to several objects.

    :param ambiguous: to several
    """

    def __init__(self, message: str, *, ambiguous: bool = False) -> None:
        super().__init__(message)
        self.ambiguous = ambiguous


class DeviceError(QdevpyError):
    """Something about one device.

    :param message: what is wrong, what is accepted, what to do
    :param device: the device as a user knows it: its id, else its type
    """

    def __init__(self, message: str, *, device: str | None = None) -> None:
        super().__init__(f"{device}: {message}" if device else message)
        self.device = device
        self.message = message


class PropertyError(DeviceError):
    """A property is unknown, cannot take the value, or cannot be set now.

    :param name: the property's name, as the user writes it
    """

    def __init__(self, message: str, *, device: str | None = None, name: str | None = None) -> None:
        super().__init__(message, device=device)
        self.name = name


class RealizeError(DeviceError):
    """The device cannot be realized; nothing of it is left behind."""


class DMAError(DeviceError):
    """A device's access to guest memory is not carried out: bus mastering is off, or the range is not RAM.

    :param address: first guest-physical address
    :param length: bytes
    """

    def __init__(self, message: str, *, address: int, length: int, device: str | None = None) -> None:
        super().__init__(f"DMA at {address:#x}, {length} bytes: {message}", device=device)
        self.address = address
        self.length = length


class FaultError(DeviceError):
    """A fault cannot be as asked for: a rule does not fit the device, or a log cannot be replayed."""


class ScaffoldError(QdevpyError):
    """A plugin's package cannot be written as asked; says what can."""


class BackendError(QdevpyError):
    """A drive, netdev or chardev cannot be opened or used."""


class MonitorClientError(QdevpyError):
    """A running machine cannot be reached over its monitor, or says no; names it."""


class MachineGoneError(MonitorClientError):
    """The machine has ended while somebody was looking at it.

    :param reason: QMP's word for why (``guest-shutdown``); empty: it did not say
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class VhostError(QdevpyError):
    """A vhost back end refuses, breaks the protocol, does not answer in time, or is gone.

    The message is a predicate (``refuses SET_MEM_TABLE``); who tells a user says of whom.
    """


class AccelError(QdevpyError):
    """The accelerator is missing or refuses; says what to do."""


class GuestCrashError(AccelError):
    """A vCPU cannot go on. The message has RIP and, where known, the instruction's bytes."""


class BootError(QdevpyError):
    """A kernel, initrd or firmware image cannot be loaded."""


class TraceError(QdevpyError):
    """A trace cannot be written, or is none."""


class GuestAddressError(QdevpyError):
    """A range is not wholly inside guest memory.

    :param gpa: first guest-physical address
    :param length: bytes
    """

    def __init__(self, gpa: int, length: int) -> None:
        super().__init__(f"guest address {gpa:#x}, {length} bytes: not inside guest memory")
        self.gpa = gpa
        self.length = length
