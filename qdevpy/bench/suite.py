# SPDX-License-Identifier: Apache-2.0
"""What is to be measured: machines, steps in their guest, rows of the table, targets.

A :class:`Row` is a figure of a :class:`Step` in a :class:`Rig`; rows of the same step share one measurement, and steps of
the same rig one boot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import attrs

from qdevpy.bench.spread import show_number

if TYPE_CHECKING:
    from qdevpy.bench.measurement import Measurement
    from qdevpy.bench.program import Program

#: the programs that a row may be measured on, by what they are rather than where they lie
QDEVPY, PEER = "qdevpy", "qemu"
BOTH = (QDEVPY, PEER)


@attrs.frozen
class Setting:
    """One way to set a program up for a rig.

    :ivar name: what the table says
    :ivar values: what :attr:`Rig.options` reads
    """

    name: str
    values: Mapping[str, str] = attrs.field(factory=dict, hash=False)


DEFAULT = Setting("default")


@attrs.frozen
class Place:
    """Folders for what a rig needs; they go away with the run.

    :ivar memory: on tmpfs
    :ivar disk: on a file system of the host
    """

    memory: Path
    disk: Path


class Session(Protocol):
    """A machine that runs, or whatever else can be measured."""

    def measure_all(self, steps: Sequence[str]) -> Sequence[Measurement]:
        """Measure one after the other.

        :raises BenchError: it cannot
        """


@attrs.frozen
class Start:
    """What a session is started with.

    :ivar kernel: the measuring guest
    """

    program: Program
    rig: Rig
    setting: Setting
    place: Place
    kernel: Path


@attrs.frozen
class Rig:
    """A machine.

    :ivar options: its devices as options that every program takes; ``(setting, place) -> options``. May make files.
    :ivar settings: by program, the settings among which the best is looked for; without one: as it comes
    :ivar memory: MiB
    :ivar session: how it is started and measured, where that is not a guest that answers
    :ivar why_not: why it cannot be had on this host, with :attr:`Place.disk` in that folder; None: it can
    """

    name: str
    options: Callable[[Setting, Place], Sequence[str]] = attrs.field(eq=False)
    settings: Mapping[str, Sequence[Setting]] = attrs.field(factory=dict, eq=False)
    memory: int = 128
    vcpus: int = 1
    session: Callable[[Start], AbstractContextManager[Session]] | None = attrs.field(default=None, eq=False)
    why_not: Callable[[Path], str | None] = attrs.field(default=lambda folder: None, eq=False)

    def settings_of(self, program: str) -> Sequence[Setting]:
        """At least one."""
        return self.settings.get(program) or (DEFAULT,)


@attrs.frozen
class Figure:
    """A number that is read off a measurement.

    :ivar read: the number in ``unit``
    :ivar more_is_better: which way a ratio is good
    """

    name: str
    unit: str
    read: Callable[[Measurement], float] = attrs.field(eq=False)
    more_is_better: bool = False


@attrs.frozen
class Row:
    """A line of the table.

    :ivar name: what people select it by
    :ivar rig: where it is measured
    :ivar step: what the guest is asked for (machine/qdevpy_machine/guest/README.md), without its duration
    :ivar figure: the number; of rows with the same rig and step, the first one's decides which setting is the best
    :ivar programs: who can be measured
    """

    name: str
    rig: Rig
    step: str
    figure: Figure
    programs: Sequence[str] = BOTH


@attrs.frozen
class Target:
    """A ratio, or a number, that is aimed at.

    :ivar text: what is compared
    :ivar row: name of the row above the line, as qdevpy has it
    :ivar over: name of the row below the line; None: the number itself is judged
    :ivar over_program: whose; the peer's where both rows are the same
    :ivar limit: the ratio or number
    :ivar at_least: it is to reach the limit; else it is not to exceed it
    """

    text: str
    row: str
    over: str | None
    over_program: str
    limit: float
    at_least: bool

    def is_met(self, ratio: float) -> bool:
        """Whether RATIO is on the right side of the limit."""
        return ratio >= self.limit if self.at_least else ratio <= self.limit

    @property
    def wanted(self) -> str:
        """The limit in words."""
        return f"{'at least' if self.at_least else 'at most'} {show_number(self.limit)}"

    @property
    def rows(self) -> set[str]:
        """Names of the rows that it needs."""
        return {name for name in (self.row, self.over) if name is not None}


@attrs.frozen
class Suite:
    """What one module measures.

    :ivar programs: others than qdevpy and its peer, that rows name
    """

    rows: Sequence[Row]
    targets: Sequence[Target] = ()
    programs: Sequence[Program] = ()
