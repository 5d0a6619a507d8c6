# SPDX-License-Identifier: Apache-2.0
"""What a machine definition says, typed and frozen; every value knows where it was written."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Position(NamedTuple):
    """Where something was written.

    :ivar file: as given on the command line or in ``include:``; ``--set PATH=VALUE`` for such an option
    :ivar line, column: from 1; 0 where there are none (command line)
    """

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class Value(NamedTuple):
    """A value as the user wrote it: text, to be parsed by whoever knows its kind.

    :ivar given: the scalar's source text (without quotes); for paths, already resolved
    """

    given: str
    position: Position


class Problem(NamedTuple):
    """One error in a definition. ``str()`` is the line that ``qdevpy check`` prints.

    :ivar code: ``Q101`` and so on; the table is in :mod:`qdevpy.definition.problems`
    """

    code: str
    message: str
    position: Position

    def __str__(self) -> str:
        return f"{self.position}: error[{self.code}]: {self.message}"


class BootDefinition(NamedTuple):
    """``boot:``. Paths are resolved.

    :ivar cmdline: the kernel's command line, ``--append`` included
    :ivar firmware: a BIOS image (QEMU: -bios)
    :ivar order, once: drive letters, ``cdn``: in which order to boot; ``once``: only until the first reset
    :ivar menu: offer a menu (``on``, ``off``)
    :ivar strict: boot from nothing that has no ``bootindex`` (``on``, ``off``)
    :ivar reboot_timeout: milliseconds after which a failed boot starts again; -1: never
    :ivar splash_time: milliseconds that a splash picture stands
    """

    kernel: Value | None = None
    initrd: Value | None = None
    cmdline: Value | None = None
    firmware: Value | None = None
    order: Value | None = None
    once: Value | None = None
    menu: Value | None = None
    strict: Value | None = None
    reboot_timeout: Value | None = None
    splash_time: Value | None = None


class MonitorDefinition(NamedTuple):
    """One entry of ``monitors:``: QMP, or QEMU's human monitor, on a chardev.

    :ivar mode: ``control`` (QMP) or ``readline``
    :ivar pretty: QMP's answers are indented
    """

    chardev: Value
    mode: str = "control"
    pretty: bool = False


class RunDefinition(NamedTuple):
    """``run:``: how the machine starts and ends.

    :ivar paused: wait in state ``prelaunch`` for ``cont`` (QEMU: -S)
    :ivar reboot: off: a reset ends the machine (QEMU: -no-reboot)
    :ivar shutdown: off: power-off leaves it standing, for monitors to look at (QEMU: -no-shutdown)
    :ivar panic: what a guest's panic does: ``shutdown``, ``pause``, ``exit-failure`` or ``none`` (QEMU: -action panic=)
    :ivar preconfig: wait for QMP's ``x-exit-preconfig`` (QEMU: --preconfig)
    """

    paused: bool = False
    reboot: bool = True
    shutdown: bool = True
    panic: str = "shutdown"
    preconfig: bool = False


class QtestDefinition(NamedTuple):
    """``qtest:``: where QEMU's qtest protocol is served (QEMU: -qtest, -qtest-log).

    :ivar chardev: an entry of ``chardevs:``
    :ivar log: a file that gets every line; None: none is kept
    """

    chardev: Value
    log: Value | None = None


class FaultDefinition(NamedTuple):
    """One entry of ``faults: inject:``.

    :ivar device: the id of a device
    :ivar what: the effect
    :ivar options: as written; lists are JSON
    """

    device: str
    what: str
    options: Mapping[str, Value]
    position: Position


class FaultsDefinition(NamedTuple):
    """``faults:``: what goes wrong on purpose (docs/faults.md).

    :ivar log: a file that gets a line for each fault that fires; None: none is kept
    :ivar replay: a log of an earlier run, whose faults happen again, and those of INJECT do not
    :ivar seed: of those that have a probability
    """

    log: Value | None = None
    replay: Value | None = None
    seed: int = 0
    inject: tuple[FaultDefinition, ...] = ()


class BackendDefinition(NamedTuple):
    """One entry of ``drives:``, ``netdevs:``, ``chardevs:`` or ``objects:``.

    :ivar type: the back end's type; ``drive`` in ``drives:``
    :ivar options: all other keys, nested ones joined by dots (``cache.direct``)
    """

    name: str
    type: str
    options: Mapping[str, Value]
    position: Position


class DeviceDefinition(NamedTuple):
    """One entry of ``devices:``.

    :ivar options: as written, ``id`` and ``bus`` among them
    """

    type: str
    options: Mapping[str, Value]
    position: Position


class GlobalDefinition(NamedTuple):
    """One entry of ``global:``: a default for all devices of a type (or derived from it)."""

    type: str
    property: str
    value: Value


class MachineDefinition(NamedTuple):
    """A whole machine.

    :ivar machine: the board's type name, or an alias of it
    :ivar accel: ``kvm``, ``qtest`` or ``none``
    :ivar memory: bytes; 0: the board's default
    :ivar path: the file it came from; None for text
    :ivar name: of the guest, for people (QEMU: -name)
    :ivar machine_options: the board's own options (QEMU: -machine pc,NAME=VALUE)
    :ivar uuid: of the machine, for firmware tables (QEMU: -uuid)
    :ivar cpu: model and features, ``host,-avx2`` (QEMU: -cpu); None: the accelerator's default
    :ivar topology: ``sockets``, ``dies``, ``cores``, ``threads``, all of them where any is given; their product is ``cpus``
        (QEMU: -smp)
    :ivar rtc: ``base`` (``utc``, ``localtime``, or a date), ``clock`` (``host``, ``rt`` or ``vm``), ``driftfix`` (QEMU: -rtc)
    :ivar fw_cfg: files of the firmware configuration device by name, each with ``file`` or ``string`` (QEMU: -fw_cfg)
    :ivar smbios: additions to the SMBIOS tables: ``type`` and that table's fields, or ``file`` (QEMU: -smbios)
    :ivar faults: what goes wrong on purpose; None: nothing
    :ivar data_dirs: where firmware and option ROMs are looked for, first to last, before the board's own places (QEMU: -L)
    """

    machine: str = "pc"
    accel: str = "kvm"
    memory: int = 0
    cpus: int = 1
    boot: BootDefinition = BootDefinition()
    drives: Mapping[str, BackendDefinition] = MappingProxyType({})
    netdevs: Mapping[str, BackendDefinition] = MappingProxyType({})
    chardevs: Mapping[str, BackendDefinition] = MappingProxyType({})
    objects: Mapping[str, BackendDefinition] = MappingProxyType({})
    devices: tuple[DeviceDefinition, ...] = ()
    globals: tuple[GlobalDefinition, ...] = ()
    path: str | None = None
    name: str = ""
    machine_options: Mapping[str, Value] = MappingProxyType({})
    monitors: tuple[MonitorDefinition, ...] = ()
    qtest: QtestDefinition | None = None
    run: RunDefinition = RunDefinition()
    uuid: Value | None = None
    cpu: Value | None = None
    topology: Mapping[str, int] = MappingProxyType({})
    rtc: Mapping[str, Value] = MappingProxyType({})
    fw_cfg: Mapping[str, Mapping[str, Value]] = MappingProxyType({})
    smbios: tuple[Mapping[str, Value], ...] = ()
    data_dirs: tuple[str, ...] = ()
    faults: FaultsDefinition | None = None
