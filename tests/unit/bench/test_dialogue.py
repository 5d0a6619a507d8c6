# SPDX-License-Identifier: Apache-2.0
"""What the guest's answers mean, and figures that are read off them."""

from __future__ import annotations

import os

import pytest
from bench_parts import HZ, LATENCY, OTHER, RATE, measured

from qdevpy.bench.cpu_time import CPUTime, cpu_time
from qdevpy.bench.guest import parse_result
from qdevpy.bench.measurement import CPU_PER_MEGABYTE, HOST_CPU, KICKS, P50, REQUESTS, THROUGHPUT, VCPU_BUSY
from qdevpy.bench.program import BenchError
from qdevpy.bench.run import steps_of
from qdevpy.bench.suite import Figure


def test_result_is_counts_and_a_histogram() -> None:
    counts, histogram = parse_result("result start=1 end=20 requests=3 histogram=64:1,72:2")

    assert counts == {"start": 1, "end": 20, "requests": 3}
    assert histogram == {64: 1, 72: 2}


def test_other_line_than_a_result_is_an_error() -> None:
    with pytest.raises(BenchError, match="said 'queue 0: the device'"):
        parse_result("queue 0: the device")


@pytest.mark.parametrize(
    ("figure", "number"),
    [(REQUESTS, 500), (THROUGHPUT, 0.5), (P50, 1), (VCPU_BUSY, 1500), (HOST_CPU, 2), (KICKS, 1), (CPU_PER_MEGABYTE, 1502)],
)
def test_figure_is_read_off_a_measurement(figure: Figure, number: float) -> None:
    # a second, a quarter of it spent waiting, 500 requests of 1000 bytes
    assert figure.read(measured(500, waited=int(HZ / 4))) == pytest.approx(number)


def test_rows_of_a_step_share_it() -> None:
    assert [(step.words, step.figure) for step in steps_of([LATENCY, OTHER, RATE])] == [
        ("blk depth=1", P50),
        ("blk depth=2", REQUESTS),
    ]


def test_cpu_time_is_told_apart_by_thread() -> None:
    everything = cpu_time(os.getpid(), ())
    mine = cpu_time(os.getpid(), {os.getpid()})

    assert everything.vcpu == 0 < everything.others
    assert mine.vcpu > 0
    assert CPUTime(5, 7).since(CPUTime(2, 3)) == CPUTime(3, 4)
