# SPDX-License-Identifier: Apache-2.0
"""What happened between two snapshots of a machine's counters."""

from __future__ import annotations

import pytest
from counters import answer, device, queue

from qdevpy.top.rates import growth, machine_rates, percentile


def test_counters_that_grew_are_rates_a_second() -> None:
    before = answer(0, device("disk0", mmio=10, queues=[queue(requests=100, kicks_ioeventfd=7)]))
    now = answer(2, device("disk0", mmio=14, queues=[queue(requests=300, kicks_ioeventfd=8, depth=5)]))

    (disk,) = machine_rates(before, now).devices

    assert disk.accesses == (0, 2, 0)
    assert (disk.requests, disk.kicks.ioeventfd, disk.depth) == (100, 0.5, 5)


def test_counter_that_came_round_has_grown_by_the_rest() -> None:
    assert growth((1 << 64) - 3, 2) == 5


def test_counter_that_began_anew_has_grown_by_what_it_says() -> None:
    assert growth(1000, 30) == 30


def test_device_that_went_away_is_not_shown() -> None:
    rates = machine_rates(answer(0, device("disk0"), device("nic0")), answer(1, device("nic0")))

    assert [each.name for each in rates.devices] == ["nic0"]


def test_device_that_came_counts_from_its_beginning() -> None:
    rates = machine_rates(answer(0), answer(2, device("disk0", pio=8)))

    assert rates.devices[0].accesses.pio == 4


def test_device_of_the_same_name_as_one_that_went_away_counts_from_its_beginning() -> None:
    before = answer(0, device("disk0", queues=[queue(requests=500)]))

    rates = machine_rates(before, answer(1, device("disk0", queues=[queue(requests=20)])))

    assert rates.devices[0].requests == 20


def test_queue_that_the_driver_set_up_meanwhile_counts_from_its_beginning() -> None:
    before = answer(0, device("nic0", queues=[queue(0)]))
    now = answer(1, device("nic0", queues=[queue(0), queue(1, requests=3)]))

    assert [each.requests for each in machine_rates(before, now).devices[0].queues] == [0, 3]


def test_parts_without_a_place_in_the_tree_are_told_apart_by_name() -> None:
    before = answer(0, device("pm", path="", pio=1), device("gpe", path="", pio=5))
    now = answer(1, device("pm", path="", pio=2), device("gpe", path="", pio=9))

    assert {each.name: each.accesses.pio for each in machine_rates(before, now).devices} == {"pm": 1, "gpe": 4}


def test_bytes_that_nobody_counts_are_unknown_and_not_none() -> None:
    before = answer(0, device("vser0"), device("disk0", **{"bytes-to-guest": 0, "bytes-from-guest": 10}))
    now = answer(1, device("vser0"), device("disk0", **{"bytes-to-guest": 0, "bytes-from-guest": 30}))

    console, disk = machine_rates(before, now).devices

    assert (console.to_guest, console.from_guest) == (None, None)
    assert (disk.to_guest, disk.from_guest) == (0, 20)


def test_processor_time_is_a_share_of_the_time_between() -> None:
    rates = machine_rates(answer(0, cpu_ns=0), answer(2, cpu_ns=1_000_000_000))

    assert rates.vcpus[0].cpu == pytest.approx(0.5)
    assert rates.threads[1].polling == pytest.approx(0.5)


def test_two_answers_of_the_same_moment_divide_by_something() -> None:
    assert machine_rates(answer(1), answer(1)).seconds > 0


def test_percentiles_are_of_what_happened_meanwhile() -> None:
    before = answer(0, device("disk0", queues=[queue(latencies={1024: 1000})]))
    now = answer(1, device("disk0", queues=[queue(latencies={1024: 1000, 2048: 98, 65536: 2})]))

    latency = machine_rates(before, now).devices[0].latency

    assert latency == (2048 + 64, 65536 + 2048, 65536 + 2048)


def test_percentile_is_exact_for_short_times_and_to_half_a_sixteenth_for_long_ones() -> None:
    assert percentile({5: 1}, 0.5) == 5.5
    assert percentile({1 << 20: 1}, 0.5) == pytest.approx(1 << 20, rel=1 / 32)


def test_queue_that_gave_nothing_back_has_no_latency() -> None:
    rates = machine_rates(
        answer(0, device("d", queues=[queue(latencies={})])), answer(1, device("d", queues=[queue(latencies={})]))
    )
    assert rates.devices[0].latency == (None, None, None)


def test_latency_of_a_device_is_of_all_its_queues() -> None:
    queues = [queue(0, latencies={100: 99}), queue(1, latencies={900_000: 1})]

    latency = machine_rates(answer(0), answer(1, device("d", queues=queues))).devices[0].latency

    assert latency.p50 == pytest.approx(102)
    assert latency.p999 == pytest.approx(900_000, rel=1 / 16)
