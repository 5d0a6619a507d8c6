# SPDX-License-Identifier: Apache-2.0
"""The events of a machine (see :mod:`qdevpy.vm.events`).

An event is a NamedTuple; its QMP name is the class's in capitals (``DeviceDeleted``: ``DEVICE_DELETED``), its
data are the fields, ``_`` written as ``-``, those that are None left out. Names and members as in QEMU's ``qapi/*.json``.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

#: why a machine ended or was reset (qapi/run-state.json, ShutdownCause)
Cause = Literal[
    "none",
    "host-error",
    "host-qmp-quit",
    "host-qmp-system-reset",
    "host-signal",
    "host-ui",
    "guest-shutdown",
    "guest-reset",
    "guest-panic",
    "subsystem-reset",
    "snapshot-load",
]


class Shutdown(NamedTuple):
    """The machine ends, or stands still where ``-no-shutdown`` was given."""

    guest: bool
    reason: Cause


class Reset(NamedTuple):
    """The machine was reset."""

    guest: bool
    reason: Cause


class Powerdown(NamedTuple):
    """The power button was pressed."""


class Stop(NamedTuple):
    """vCPUs stand still and devices have drained."""


class Resume(NamedTuple):
    """The machine runs (again)."""


class GuestPanicked(NamedTuple):
    """The guest says that it panicked.

    :ivar action: what comes of it
    """

    action: Literal["pause", "poweroff", "run"]


class DeviceDeleted(NamedTuple):
    """A device is gone.

    :ivar device: its id, where it has one
    :ivar path: where in the composition tree it was
    """

    device: str | None
    path: str


class DeviceUnplugGuestError(NamedTuple):
    """The guest refused to let a device go."""

    device: str | None
    path: str


class BlockIoError(NamedTuple):
    """A request failed on the host's side.

    :ivar device: name of the drive; ``node_name``: the node's
    :ivar nospace: whether the host had no space
    :ivar reason: the host's text
    """

    device: str
    node_name: str | None
    operation: Literal["read", "write"]
    action: Literal["ignore", "report", "stop"]
    nospace: bool
    reason: str


class NicRxFilterChanged(NamedTuple):
    """The driver changed what a card receives; not told again before ``query-rx-filter`` was asked."""

    name: str | None
    path: str


class VserportChange(NamedTuple):
    """The guest opened or closed a port of a virtio-serial device."""

    id: str
    open: bool


EVENTS: tuple[type[Any], ...] = (
    Shutdown,
    Reset,
    Powerdown,
    Stop,
    Resume,
    GuestPanicked,
    DeviceDeleted,
    DeviceUnplugGuestError,
    BlockIoError,
    NicRxFilterChanged,
    VserportChange,
)


class RtcChange(NamedTuple):
    """The guest set its clock.

    :ivar offset: seconds by which it is ahead of the host's
    :ivar qom_path: of the clock
    """

    offset: int
    qom_path: str


class GuestCrashloaded(NamedTuple):
    """The guest panicked, and its crash kernel takes over.

    :ivar action: what comes of it: nothing
    """

    action: Literal["pause", "poweroff", "run"]
