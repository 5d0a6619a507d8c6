# SPDX-License-Identifier: Apache-2.0
"""What one measurement found, and the figures that can be read off any."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from qdevpy.bench.suite import Figure

NANO = 1_000_000_000
MEGA = 1_000_000


@attrs.frozen
class Measurement:
    """What the guest counted between "ready" and "done", and what the process spent meanwhile.

    :ivar counts: what the guest reported: ``requests``, ``bytes``, ``kicks``; in cycles ``start``, ``end``, ``waited``,
        and percentiles ``p50``, ``p99``, ...
    :ivar hz: cycles a second
    :ivar vcpu_ns: CPU time of the vCPU threads
    :ivar other_ns: CPU time of all other threads of the process
    :ivar histogram: lower bound of a bucket, in cycles, to how many; empty where none was asked for
    """

    counts: Mapping[str, int]
    hz: float
    vcpu_ns: int
    other_ns: int
    histogram: Mapping[int, int] = attrs.field(factory=dict)

    def nanoseconds(self, name: str) -> float:
        """A count of cycles as time."""
        return self.counts[name] / self.hz * NANO

    @property
    def has_requests(self) -> bool:
        """Whether requests were served; else there is nothing that their cost could be of."""
        return self.counts.get("bytes", 0) > 0

    @property
    def requests(self) -> int:
        """At least one, to divide by."""
        return max(self.counts["requests"], 1)

    @property
    def seconds(self) -> float:
        """How long it took, by the guest."""
        return (self.counts["end"] - self.counts["start"]) / self.hz

    @property
    def busy_ns(self) -> float:
        """Time in which the guest's driver had something to do, of all vCPUs; what is left an idle guest would have slept."""
        return self.seconds * NANO * self.counts.get("vcpus", 1) - self.nanoseconds("waited")


def _per_second(name: str) -> Figure:
    return Figure("rate", f"{name}/s", lambda m: m.counts["requests"] / m.seconds, more_is_better=True)


def _percentile(name: str, key: str) -> Figure:
    return Figure(name, "us", lambda m: m.nanoseconds(key) / 1000)


#: requests a second
REQUESTS = _per_second("requests")
PACKETS = _per_second("packets")
KICK_RATE = Figure("kicks", "kicks/s", lambda m: m.counts["kicks"] / m.seconds, more_is_better=True)
THROUGHPUT = Figure("throughput", "MB/s", lambda m: m.counts["bytes"] / m.seconds / MEGA, more_is_better=True)
P50, P99, P999 = _percentile("p50", "p50"), _percentile("p99", "p99"), _percentile("p99.9", "p999")

#: what the guest's CPU has to do for a request: driver, kicks, exits; not the waiting
VCPU_BUSY = Figure("vCPU busy", "us/request", lambda m: m.busy_ns / 1000 / m.requests)
#: what the host's CPUs do for a request besides running the guest
HOST_CPU = Figure("host CPU", "us/request", lambda m: m.other_ns / 1000 / m.requests)
KICKS = Figure("kicks", "per request", lambda m: m.counts["kicks"] / m.requests)
#: both together, per megabyte a second: milliseconds of CPU for a megabyte
CPU_PER_MEGABYTE = Figure("CPU", "ms/MB", lambda m: (m.busy_ns + m.other_ns) / MEGA / max(m.counts["bytes"] / MEGA, 1e-9))
EFFICIENCY = (VCPU_BUSY, HOST_CPU, CPU_PER_MEGABYTE, KICKS)
