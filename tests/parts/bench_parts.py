# SPDX-License-Identifier: Apache-2.0
"""A suite and its results, made up."""

from __future__ import annotations

from collections.abc import Sequence

from qdevpy.bench.measurement import P50, REQUESTS, Measurement
from qdevpy.bench.program import Program
from qdevpy.bench.run import Results
from qdevpy.bench.suite import PEER, QDEVPY, Rig, Row, Setting, Target

HZ = 1e9  # a cycle is a nanosecond

RIG = Rig("rig", lambda setting, place: ())
RATE = Row("rate", RIG, "blk depth=1", REQUESTS)
LATENCY = Row("latency", RIG, "blk depth=1", P50)
OTHER = Row("other", RIG, "blk depth=2", REQUESTS)
FASTER = Target("faster", "rate", "rate", PEER, 1.5, at_least=True)
SHORTER = Target("shorter", "latency", "latency", PEER, 0.6, at_least=False)
PROGRAMS = [Program(role, role, "1", lambda launch: ()) for role in (QDEVPY, PEER)]


def measured(requests: int, p50: int = 1000, waited: int = 0) -> Measurement:
    """A second of REQUESTS requests of 1000 bytes."""
    counts = {
        "start": 0,
        "end": int(HZ),
        "waited": waited,
        "requests": requests,
        "bytes": requests * 1000,
        "kicks": requests,
        "p50": p50,
    }
    return Measurement(counts, HZ, vcpu_ns=int(HZ), other_ns=requests * 2000, histogram={512: requests})


def results(ours: Sequence[Measurement], theirs: Sequence[Measurement]) -> Results:
    """Results of RATE's step on both programs; none of the others'."""
    found = Results()
    for role, measurements in ((QDEVPY, ours), (PEER, theirs)):
        if measurements:
            found.chosen[role, RIG, RATE.step] = Setting(f"best of {role}")
            found.measurements[role, RIG, RATE.step] += measurements
    return found
