# SPDX-License-Identifier: Apache-2.0
"""What happened between two answers of ``x-query-counters``, a second.

A counter is of 64 bits and grows. One that is smaller than before has come round, or has begun anew (registers that were
mapped at another place, a device of the same name plugged in again).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

COUNTER = 1 << 64
#: more than this between two answers is no growth
MOST = 1 << 48

#: sixteenths of an octave: how exact the machine's histogram is
SUB_BITS = 4

Answer = Mapping[str, Any]
#: lowest value of a bucket -> how many
Histogram = Mapping[int, int]


class Exits(NamedTuple):
    """Exits, or accesses, a second by kind."""

    pio: float
    mmio: float
    other: float = 0.0

    @property
    def total(self) -> float:
        """All of them."""
        return sum(self)


class VCpuRates(NamedTuple):
    """A vCPU.

    :ivar cpu: of a processor of the host, 1.0: all the time
    """

    number: int
    cpu: float
    exits: Exits


class ThreadRates(NamedTuple):
    """The main loop or an I/O thread.

    :ivar cpu: as of a vCPU
    :ivar polling: how much of the time it polled
    :ivar sleeps: a second; None: not counted
    """

    name: str
    cpu: float
    polling: float | None
    sleeps: float | None


class Kicks(NamedTuple):
    """Kicks a second by path."""

    ioeventfd: float
    synchronous: float
    polled: float

    @property
    def total(self) -> float:
        """All of them."""
        return sum(self)


class Latency(NamedTuple):
    """Percentiles of how long the device had chains, in nanoseconds; None: it gave none back."""

    p50: float | None = None
    p99: float | None = None
    p999: float | None = None


class QueueRates(NamedTuple):
    """A virtqueue.

    :ivar depth: chains that the device had at the later moment, of at most ``size``
    :ivar requests: chains taken a second
    :ivar histogram: chains by nanoseconds that the device had them
    """

    number: int
    name: str
    size: int
    depth: int
    kicks: Kicks
    requests: float
    interrupts: float
    latency: Latency
    histogram: Histogram


class DeviceRates(NamedTuple):
    """A device, or a part of the board with registers.

    :ivar to_guest: bytes of payload a second; None: not counted
    :ivar from_guest: likewise
    """

    name: str
    type: str
    path: str
    accesses: Exits
    to_guest: float | None
    from_guest: float | None
    queues: Sequence[QueueRates]

    @property
    def kicks(self) -> Kicks:
        """Of all queues."""
        return Kicks(*(sum(queue.kicks[way] for queue in self.queues) for way in range(3)))

    @property
    def requests(self) -> float:
        """Of all queues."""
        return sum(queue.requests for queue in self.queues)

    @property
    def interrupts(self) -> float:
        """Of all queues."""
        return sum(queue.interrupts for queue in self.queues)

    @property
    def depth(self) -> int:
        """Of all queues."""
        return sum(queue.depth for queue in self.queues)

    @property
    def latency(self) -> Latency:
        """Of all queues."""
        return percentiles(merged(queue.histogram for queue in self.queues))

    @property
    def bytes(self) -> float:
        """Both ways."""
        return (self.to_guest or 0) + (self.from_guest or 0)


class MachineRates(NamedTuple):
    """A machine between two moments, SECONDS apart.

    :ivar unanswered: accesses that found nobody
    """

    name: str
    pid: int
    status: str
    seconds: float
    vcpus: Sequence[VCpuRates]
    threads: Sequence[ThreadRates]
    devices: Sequence[DeviceRates]
    unanswered: Exits

    def as_json(self) -> dict[str, Any]:
        """As plain data, for ``--json``."""
        found: dict[str, Any] = plain(self)
        return found


def plain(value: Any) -> Any:
    """NamedTuples as dicts, at every depth."""
    if hasattr(value, "_asdict"):
        return {name: plain(each) for name, each in value._asdict().items()}
    if isinstance(value, dict):
        return {str(name): each for name, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else value


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """All of them as one."""
    found: Counter[int] = Counter()
    for histogram in histograms:
        found.update(histogram)
    return found


def middle(lowest: int) -> float:
    """Of the bucket that begins at LOWEST."""
    return lowest + (1 << max(lowest.bit_length() - 1 - SUB_BITS, 0)) / 2


def percentile(histogram: Histogram, share: float) -> float | None:
    """The value that SHARE of what was counted does not exceed, to half a bucket; None: nothing was counted."""
    left = share * sum(histogram.values())
    for lowest, count in sorted(histogram.items()):
        left -= count
        if left <= 0 and count:
            return middle(lowest)
    return None


def percentiles(histogram: Histogram) -> Latency:
    """Those that are shown."""
    return Latency(*(percentile(histogram, share) for share in (0.5, 0.99, 0.999)))


def growth(before: int, now: int) -> int:
    """By how much a counter has grown."""
    grown = (now - before) % COUNTER
    return grown if grown < MOST else now


class Difference:
    """Reads rates out of two answers that are about the same thing.

    :param before: None: it was not there; what it has counted since it came is what has happened
    """

    def __init__(self, before: Answer | None, now: Answer, seconds: float) -> None:
        self._before = before or {}
        self._now = now
        self._seconds = seconds

    def rate(self, name: str) -> float:
        """Of one counter, a second."""
        return growth(self._before.get(name, 0), self._now[name]) / self._seconds

    def share(self, name: str) -> float:
        """Of a counter of nanoseconds: which part of the time."""
        return self.rate(name) / 1e9

    def optional(self, name: str) -> float | None:
        """As :meth:`rate`; None: the machine does not count it."""
        return self.rate(name) if name in self._now else None

    def kicks(self) -> Kicks:
        """Of a queue."""
        return Kicks(self.rate("kicks-ioeventfd"), self.rate("kicks-sync"), self.rate("kicks-polled"))

    def histogram(self) -> Histogram:
        """Of a queue: what was counted meanwhile."""
        before, now = (
            {bucket["ns"]: bucket["chains"] for bucket in answer.get("latencies", {}).get("buckets", ())}
            for answer in (self._before, self._now)
        )
        return {ns: grown for ns, chains in now.items() if (grown := growth(before.get(ns, 0), chains))}

    def below(self, name: str, key: str) -> list[tuple[Answer, Difference]]:
        """The entries of list NAME, each with its difference; the same KEY means the same thing."""
        known = {entry[key]: entry for entry in self._before.get(name, ())}
        return [(entry, Difference(known.get(entry[key]), entry, self._seconds)) for entry in self._now[name]]


def machine_rates(before: Answer, now: Answer) -> MachineRates:
    """What happened between two answers of the same machine, BEFORE earlier than NOW."""
    seconds = max(now["time-ns"] - before["time-ns"], 1) / 1e9
    whole = Difference(before, now, seconds)
    return MachineRates(
        name=now["name"],
        pid=now["pid"],
        status=now["status"],
        seconds=seconds,
        vcpus=[vcpu_rates(*each) for each in whole.below("vcpus", "index")],
        threads=[thread_rates(*each) for each in whole.below("threads", "name")],
        devices=[device_rates(*each) for each in identified(whole)],
        unanswered=Exits(whole.rate("unanswered-pio"), whole.rate("unanswered-mmio")),
    )


def identified(whole: Difference) -> list[tuple[Answer, Difference]]:
    """Devices; those without a place in the tree are told apart by their names, which are the board's."""
    return [pair for key in ("path", "name") for pair in whole.below("devices", key) if bool(pair[0]["path"]) == (key == "path")]


def vcpu_rates(now: Answer, difference: Difference) -> VCpuRates:
    """One vCPU's."""
    kinds = Exits(*(difference.rate(f"exits-{kind}") for kind in Exits._fields))
    return VCpuRates(now["index"], difference.share("cpu-ns"), kinds)


def thread_rates(now: Answer, difference: Difference) -> ThreadRates:
    """One thread's."""
    polling = difference.share("polled-ns") if "polled-ns" in now else None
    return ThreadRates(now["name"], difference.share("cpu-ns"), polling, difference.optional("sleeps"))


def device_rates(now: Answer, difference: Difference) -> DeviceRates:
    """One device's."""
    return DeviceRates(
        name=now["name"],
        type=now["type"],
        path=now["path"],
        accesses=Exits(difference.rate("pio"), difference.rate("mmio")),
        to_guest=difference.optional("bytes-to-guest"),
        from_guest=difference.optional("bytes-from-guest"),
        queues=[queue_rates(*each) for each in difference.below("queues", "index")],
    )


def queue_rates(now: Answer, difference: Difference) -> QueueRates:
    """One queue's."""
    histogram = difference.histogram()
    return QueueRates(
        number=now["index"],
        name=now["name"],
        size=now["size"],
        depth=now["depth"],
        kicks=difference.kicks(),
        requests=difference.rate("requests"),
        interrupts=difference.rate("interrupts"),
        latency=percentiles(histogram),
        histogram=histogram,
    )
