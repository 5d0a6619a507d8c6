# SPDX-License-Identifier: Apache-2.0
"""How long things took: distributions of a trace's stages and exits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from qdevpy.trace.requests import STAGES, Trace


@attrs.frozen
class Distribution:
    """Nanoseconds of many of the same sort, in order of size."""

    sorted_ns: Sequence[int]

    @classmethod
    def of(cls, values: Iterable[int]) -> Distribution:
        """Of values in any order."""
        return cls(sorted(values))

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.sorted_ns)

    @property
    def total(self) -> int:
        """Nanoseconds of all."""
        return sum(self.sorted_ns)

    def percentile(self, share: float) -> int:
        """The smallest value that SHARE (0 to 100) per cent do not exceed."""
        rank = -(-self.count * share // 100)
        return self.sorted_ns[max(0, int(rank) - 1)]

    def summary(self) -> dict[str, int]:
        """Count, p50, p90, p99 and maximum."""
        values = {f"p{share}": self.percentile(share) for share in (50, 90, 99)}
        return {"count": self.count, **values, "max": self.sorted_ns[-1]}


def stage_latencies(trace: Trace) -> dict[tuple[str, str], dict[str, Distribution]]:
    """By device and queue, then by stage in its order; stages that no request went through are left out."""
    found: dict[tuple[str, str], dict[str, list[int]]] = {}
    for request in trace.requests:
        stages = found.setdefault((request.device, request.queue), {name: [] for name in STAGES})
        for name, ns in request.stages():
            stages[name].append(ns)
    return {
        where: {name: Distribution.of(values) for name, values in stages.items() if values} for where, stages in found.items()
    }


def exit_latencies(trace: Trace) -> dict[tuple[str, str], Distribution]:
    """By kind and owner, the one that took most of the time first."""
    found: dict[tuple[str, str], list[int]] = {}
    for each in trace.exits:
        found.setdefault((each.kind, each.owner), []).append(each.ns)
    exits = {key: Distribution.of(values) for key, values in found.items()}
    return dict(sorted(exits.items(), key=lambda item: -item[1].total))
