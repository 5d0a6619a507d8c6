# SPDX-License-Identifier: Apache-2.0
"""Memory of a process beyond its guest's RAM, by the kernel's own books."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import attrs

from qdevpy.bench.guest import Guest
from qdevpy.bench.measurement import Measurement
from qdevpy.bench.program import BenchError
from qdevpy.bench.suite import Figure

_HEADER = re.compile(r"([0-9a-f]+)-([0-9a-f]+) ")

#: all of it, and what belongs to this process alone: pages that it has written, or that no file holds
RESIDENT = Figure("resident", "MiB", lambda m: m.counts["Rss"] / 1024)
PRIVATE = Figure("anonymous", "MiB", lambda m: m.counts["Anonymous"] / 1024)


@attrs.frozen
class Mapping:
    """A mapping of a process.

    :ivar size: bytes of address space
    :ivar kib: by the kernel's names (``Rss``, ``Anonymous``), what of it is there
    """

    size: int
    kib: dict[str, int]


def mappings(text: str) -> Iterator[Mapping]:
    """Read ``/proc/PID/smaps`` (Linux, Documentation/filesystems/proc.rst)."""
    current: Mapping | None = None
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header:
            if current is not None:
                yield current
            current = Mapping(int(header[2], 16) - int(header[1], 16), {})
        elif current is not None and line.endswith(" kB"):
            name, _, value = line.partition(":")
            current.kib[name] = int(value.split()[0])
    if current is not None:
        yield current


def beyond_guest(text: str, ram: int) -> dict[str, int]:
    """KiB by the kernel's names, all mappings together but the guest's RAM: the one of RAM bytes.

    :raises BenchError: there is no such mapping, or several
    """
    found = list(mappings(text))
    guest = [mapping for mapping in found if mapping.size == ram]
    if len(guest) != 1:
        raise BenchError(f"{len(guest)} mappings of {ram >> 20} MiB, expected the guest's RAM and nothing else of that size")
    total: dict[str, int] = {}
    for mapping in found:
        if mapping is not guest[0]:
            for name, kib in mapping.kib.items():
                total[name] = total.get(name, 0) + kib
    return total


class FootprintGuest(Guest):
    """A guest whose process is looked at; steps are what is kicked before."""

    def measure(self, step: str) -> Measurement:
        """The process's memory after STEP."""
        measurement = super().measure(step)
        smaps = Path(f"/proc/{self.pid}/smaps").read_text()
        return attrs.evolve(measurement, counts={**measurement.counts, **beyond_guest(smaps, self.rig.memory << 20)})
