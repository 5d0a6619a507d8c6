# SPDX-License-Identifier: Apache-2.0
"""What ``qdevpy top`` shows, as rows of text: the same for a screen, a picture and a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from qdevpy.top.rates import DeviceRates, Exits, Kicks, MachineRates, QueueRates

#: by what devices are sorted, the most active first; ``tree``: as they stand in the machine
ORDERS: Mapping[str, Callable[[DeviceRates], float] | None] = {
    "tree": None,
    "exits": lambda device: device.accesses.total,
    "kicks": lambda device: device.kicks.total,
    "requests": lambda device: device.requests,
    "interrupts": lambda device: device.interrupts,
    "bytes": lambda device: device.bytes,
}

NONE = "-"
UNITS = ("", "k", "M", "G", "T", "P")


def number(value: float | None) -> str:
    """A rate in at most five characters: 0, 0.4, 17, 950, 1.2k, 35k, 4.1M."""
    if value is None:
        return NONE
    if value == 0:
        return "0"
    if value < 9.95:
        return f"{value:.1f}"
    for unit in UNITS:
        if value < 999.5 or unit == UNITS[-1]:
            return f"{value:.1f}{unit}" if unit and value < 9.95 else f"{value:.0f}{unit}"
        value /= 1000
    raise AssertionError("the last unit takes everything")


def duration(ns: float | None) -> str:
    """A time in at most five characters: 850n, 12u, 3.4m, 1.2s."""
    if ns is None:
        return NONE
    for unit in "num":
        if ns < 999.5:
            return f"{ns:.1f}{unit}" if ns < 9.95 else f"{ns:.0f}{unit}"
        ns /= 1000
    return f"{ns:.1f}s" if ns < 9.95 else f"{ns:.0f}s"


def percent(share: float | None) -> str:
    """A share of a processor."""
    return NONE if share is None else f"{100 * share:.0f}%"


class Column(NamedTuple):
    """A column of numbers of devices and queues.

    :ivar group: columns that belong together
    :ivar title: below the group's, where there is little room
    :ivar name: where it stands alone
    :ivar extra: left out where there is no room
    """

    group: str
    title: str
    name: str
    device: Callable[[DeviceRates], str]
    queue: Callable[[QueueRates], str]
    extra: bool = False


def _kicks(way: str) -> Column:
    at = Kicks._fields.index(way)
    title = {"ioeventfd": "ioevfd", "synchronous": "sync", "polled": "poll"}[way]
    return Column(
        "kicks/s", title, way, lambda d: number(d.kicks[at]) if d.queues else NONE, lambda q: number(q.kicks[at]), way == "polled"
    )


def _queues(title: str, name: str) -> Column:
    return Column(
        "queues",
        title,
        name,
        lambda d: number(getattr(d, name)) if d.queues else NONE,
        lambda q: number(getattr(q, name)),
    )


def _latency(name: str, title: str) -> Column:
    return Column(
        "latency",
        title,
        name,
        lambda d: duration(getattr(d.latency, name)),
        lambda q: duration(getattr(q.latency, name)),
        name == "p999",
    )


COLUMNS = (
    Column("exits/s", "pio", "exits-pio", lambda d: number(d.accesses.pio), lambda q: ""),
    Column("exits/s", "mmio", "exits-mmio", lambda d: number(d.accesses.mmio), lambda q: ""),
    _kicks("ioeventfd"),
    _kicks("synchronous"),
    _kicks("polled"),
    _queues("req/s", "requests"),
    Column("queues", "depth", "depth", lambda d: str(d.depth) if d.queues else NONE, lambda q: f"{q.depth}/{q.size}"),
    _queues("irq/s", "interrupts"),
    _latency("p50", "p50"),
    _latency("p99", "p99"),
    _latency("p999", "p99.9"),
    Column("bytes/s", "to", "to-guest", lambda d: number(d.to_guest), lambda q: ""),
    Column("bytes/s", "from", "from-guest", lambda d: number(d.from_guest), lambda q: ""),
)


#: where the composition tree has what the user added, with an id and without
ADDED = ("/machine/peripheral/", "/machine/peripheral-anon/")


def is_shown(device: DeviceRates) -> bool:
    """Whether the user added it, or it did something."""
    return device.path.startswith(ADDED) or bool(device.queues) or bool(device.accesses.total)


def shown_devices(rates: MachineRates, order: str) -> list[DeviceRates]:
    """Those of the definition, and parts of the board that did something, in ORDER."""
    found = [device for device in rates.devices if is_shown(device)]
    key = ORDERS[order]
    return found if key is None else sorted(found, key=key, reverse=True)


class Row(NamedTuple):
    """A row of the table of devices.

    :ivar kind: ``device`` or ``queue``
    """

    kind: str
    name: str
    cells: Sequence[str]


def device_rows(rates: MachineRates, order: str, *, queues: bool) -> Iterator[Row]:
    """The table's rows; with QUEUES each device's queues below it."""
    for device in shown_devices(rates, order):
        yield Row("device", device.name, [column.device(device) for column in COLUMNS])
        if queues:
            for queue in device.queues:
                yield Row("queue", queue.name or f"queue {queue.number}", [column.queue(queue) for column in COLUMNS])
    if rates.unanswered.total:
        exits = [number(rates.unanswered.pio), number(rates.unanswered.mmio)]
        yield Row("device", "(nobody)", exits + [NONE] * (len(COLUMNS) - len(exits)))


def exits_text(exits: Exits) -> str:
    """Exits by kind."""
    return f"exits/s pio {number(exits.pio)}, mmio {number(exits.mmio)}, other {number(exits.other)}"


def thread_lines(rates: MachineRates) -> Iterator[tuple[str, float, str]]:
    """For every thread its name, its share of a processor, and what else is known of it."""
    for vcpu in rates.vcpus:
        yield f"vCPU {vcpu.number}", vcpu.cpu, exits_text(vcpu.exits)
    for thread in rates.threads:
        if thread.sleeps is None:
            yield thread.name, thread.cpu, ""
        else:
            yield thread.name, thread.cpu, f"polling {percent(thread.polling)}, sleeps/s {number(thread.sleeps)}"


def title(rates: MachineRates) -> str:
    """Of which machine it is."""
    return f"{rates.name}, process {rates.pid}, {rates.status}, over {rates.seconds:.1f} s"


def text_lines(rates: MachineRates, order: str, *, queues: bool) -> Iterator[str]:
    """All of it as plain text, in columns that can be cut."""
    yield title(rates)
    for name, share, more in thread_lines(rates):
        yield f"{name:<20} {percent(share):>5}  {more}".rstrip()
    head = ["device", *(column.name for column in COLUMNS)]
    body = [[("  " if row.kind == "queue" else "") + row.name, *row.cells] for row in device_rows(rates, order, queues=queues)]
    widths = [max(len(line[at]) for line in [head, *body]) for at in range(len(head))]
    for line in [head, *body]:
        cells = [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        yield "  ".join(cells).rstrip()
