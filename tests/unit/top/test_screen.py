# SPDX-License-Identifier: Apache-2.0
"""What `qdevpy top` shows, at the widths that terminals have, and what keys do."""

from __future__ import annotations

import io
import json

import pytest
from counters import answer, device, queue
from rich.console import Console

from qdevpy.top.rates import MachineRates, machine_rates
from qdevpy.top.screen import draw, svg
from qdevpy.top.session import View
from qdevpy.top.table import duration, number, shown_devices, text_lines

DISK_QUEUE = {"requests": 45_000, "kicks_ioeventfd": 1_400, "kicks_sync": 2, "interrupts": 65, "depth": 12}


@pytest.fixture
def rates() -> MachineRates:
    before = answer(
        0,
        device("disk0", queues=[queue()]),
        device("a-nic-with-a-rather-long-name", queues=[queue()]),
        device("rtc", path="/machine/unattached/device[4]"),
    )
    now = answer(
        1,
        device(
            "disk0",
            mmio=93,
            queues=[queue(latencies={10_000: 95, 10_000_000: 5}, **DISK_QUEUE)],
            **{"bytes-to-guest": 182_000_000, "bytes-from-guest": 4096},
        ),
        device("a-nic-with-a-rather-long-name", mmio=120, queues=[queue(requests=50_000)]),
        device("rtc", path="/machine/unattached/device[4]"),
        cpu_ns=540_000_000,
    )
    return machine_rates(before, now)


def drawn(rates: MachineRates, width: int, *, queues: bool = False) -> list[str]:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(draw(rates, "tree", width=width, queues=queues))
    return console.export_text().splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_numbers_of_a_device_are_whole_at_the_width_of_a_terminal(rates: MachineRates, width: int) -> None:
    lines = drawn(rates, width)

    (disk,) = (line.split() for line in lines if line.startswith("disk0"))
    numbers = ["0", "93", "1.4k", "2.0", "0", "45k", "12", "65", "10u", "10m", "10m", "182M", "4.1k"]
    assert disk[1:] == (numbers if width == 120 else [each for at, each in enumerate(numbers) if at not in (4, 10)])
    assert max(len(line) for line in lines) <= width


def test_long_name_is_cut_where_there_is_no_room(rates: MachineRates) -> None:
    assert any(line.startswith("a-nic") and "50k" in line for line in drawn(rates, 80))
    assert any("a-nic-with-a-rather-long-name" in line for line in drawn(rates, 120))


def test_queues_stand_below_their_device(rates: MachineRates) -> None:
    lines = drawn(rates, 100, queues=True)

    at = next(number for number, line in enumerate(lines) if line.startswith("disk0"))
    assert lines[at + 1].split()[0] == "request.0"
    assert "12/256" in lines[at + 1]


def test_part_of_the_board_that_did_nothing_is_left_out(rates: MachineRates) -> None:
    assert [each.name for each in shown_devices(rates, "tree")] == ["disk0", "a-nic-with-a-rather-long-name"]


@pytest.mark.parametrize(("order", "first"), [("exits", "a-nic"), ("kicks", "disk0"), ("requests", "a-nic"), ("bytes", "disk0")])
def test_sorted_devices_begin_with_the_most_active(rates: MachineRates, order: str, first: str) -> None:
    assert shown_devices(rates, order)[0].name.startswith(first)


def test_text_has_a_head_and_a_line_for_each_device(rates: MachineRates) -> None:
    lines = list(text_lines(rates, "tree", queues=False))

    assert lines[0] == "demo, process 1234, running, over 1.0 s"
    assert lines[1].split()[:3] == ["vCPU", "0", "54%"]
    assert lines[-3].split()[0] == "device"
    assert lines[-2].split()[:4] == ["disk0", "0", "93", "1.4k"]


def test_json_is_plain_and_has_everything(rates: MachineRates) -> None:
    found = json.loads(json.dumps(rates.as_json()))

    assert found["devices"][0]["queues"][0]["kicks"] == {"ioeventfd": 1400, "synchronous": 2, "polled": 0}
    assert found["vcpus"][0]["cpu"] == pytest.approx(0.54)


def test_picture_needs_nothing_from_elsewhere(rates: MachineRates) -> None:
    picture = svg(rates, "tree", queues=True, width=100)

    assert "disk0" in picture
    assert "url(&quot;http" not in picture
    assert 'url("http' not in picture


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.44, "0.4"),
        (9.96, "10"),
        (950, "950"),
        (999.6, "1.0k"),
        (1234, "1.2k"),
        (35_000, "35k"),
        (4.1e6, "4.1M"),
        (None, "-"),
    ],
)
def test_number_has_at_most_five_characters(value: float | None, text: str) -> None:
    assert number(value) == text
    assert len(number(value)) <= 5


@pytest.mark.parametrize(
    ("ns", "text"),
    [(None, "-"), (850, "850n"), (3_400, "3.4u"), (12_300, "12u"), (999_600, "1.0m"), (2.5e9, "2.5s"), (6e10, "60s")],
)
def test_duration_has_at_most_five_characters(ns: float | None, text: str) -> None:
    assert duration(ns) == text


def test_keys_change_the_view() -> None:
    view = View()

    for key in "su x":
        view.press(key)
    assert (view.order, view.queues, view.paused, view.ended) == ("exits", True, True, False)

    view.press("q")
    assert view.ended


def test_sorting_by_the_last_order_goes_on_with_the_first() -> None:
    view = View(order="bytes")
    view.press("s")
    assert view.order == "tree"
