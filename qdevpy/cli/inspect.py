# SPDX-License-Identifier: Apache-2.0
"""``inspect``: status, features and rings of the virtio devices of a running machine, by name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import click

from qdevpy.errors import MonitorClientError, did_you_mean
from qdevpy.monitor.client import QmpClient
from qdevpy.monitor.running import find_running

#: 2.7.6 and 2.7.8: flags of the driver's area, and of the device's
SPLIT_FLAGS = ({1: "NO_INTERRUPT"}, {1: "NO_NOTIFY"})
#: 2.8.14: values of both
PACKED_FLAGS = {0: "ENABLE", 1: "DISABLE", 2: "DESC", 3: "reserved"}
WRAP_BIT = 15
CONTAINERS = ("/machine/peripheral/", "/machine/peripheral-anon/", "/machine/unattached/")

Answer = Mapping[str, Any]


def device_name(path: str) -> str:
    """What users call the device at PATH: its id, or where it is among those without."""
    return next((path.removeprefix(each).partition("/")[0] for each in CONTAINERS if path.startswith(each)), path)


def choose(known: list[Answer], given: str | None) -> list[Answer]:
    """Of the answer of ``x-query-virtio`` what is meant; in the order in which devices were added.

    :raises MonitorClientError: there is none of that name; names those there are
    """
    known = known[::-1]
    found = [each for each in known if given in (None, each["path"], device_name(each["path"]), each["name"])]
    if found or given is None:
        return found
    names = [device_name(each["path"]) for each in known]
    hint = did_you_mean(given, names) or f"; the machine has: {', '.join(names) or 'none'}"
    raise MonitorClientError(f"no virtio device '{given}'{hint}")


def look(client: QmpClient, path: str) -> dict[str, Any]:
    """All that is known of the device at PATH."""
    status = client.execute("x-query-virtio-status", path=path)
    rings = client.execute("x-query-virtio-rings", path=path)
    return {"device": device_name(path), "path": path, **status, "broken": rings.get("broken"), "queues": rings["queues"]}


def feature_lines(offered: Answer, used: Answer) -> Iterator[str]:
    """Every feature that is offered, ``+`` where the driver took it."""
    for kind in ("transports", "dev-features"):
        for text in reversed(offered[kind]):
            yield f"{'+' if text in used[kind] else '-'} {text}"
    if unknown := offered.get("unknown-dev-features"):
        yield f"? {unknown:#x}: bits without a name"


def flag_text(area: Answer, names: Mapping[int, str], *, packed: bool) -> str:
    """Flags as a number, with their names."""
    flags = area["flags"]
    named = names[flags] if packed else " ".join(name for bit, name in names.items() if flags & bit)
    return f"flags {flags:#x}" + (f" ({named})" if named else "")


def position(value: int, *, packed: bool) -> str:
    """A position in a ring; of a packed one with its wrap counter."""
    return f"{value & ~(1 << WRAP_BIT)} (wrap {value >> WRAP_BIT})" if packed else str(value)


def area_line(title: str, event: str, area: Answer | None, names: Mapping[int, str], *, packed: bool) -> str:
    """What one side has written for the other."""
    if area is None:
        return f"{title}: not in guest memory"
    parts = [flag_text(area, names, packed=packed)]
    if "idx" in area:
        parts.append(f"idx {area['idx']}")
    if "event" in area and (not packed or area["flags"] == 2):  # 2.8.10: the position counts with DESC only
        parts.append(f"{event} {position(area['event'], packed=packed)}")
    return f"{title}: {', '.join(parts)}"


def queue_lines(queue: Answer) -> Iterator[str]:
    """One queue."""
    packed = queue["layout"] == "packed"
    titles = ("driver event", "device event") if packed else ("available", "used")
    driver, device = (PACKED_FLAGS, PACKED_FLAGS) if packed else SPLIT_FLAGS
    by = f"iothread {queue['served-by']}" if "served-by" in queue else "Python"
    state = {"attached": "kicks by ioeventfd", "started": "kicks in the exit", "idle": "not served"}[queue["state"]]
    vector = f", vector {queue['vector']}" if "vector" in queue else ""
    size = f"{queue['size']} of {queue['size-max']} entries"
    yield f"queue {queue['index']} {queue['name']}: {queue['layout']}, {size}, {state}, {by}{vector}"
    yield f"  descriptors at {queue['desc']:#x}, {titles[0]} at {queue['avail']:#x}, {titles[1]} at {queue['used']:#x}"
    yield "  " + area_line(titles[0], "used_event", queue.get("driver"), driver, packed=packed)
    yield "  " + area_line(titles[1], "avail_event", queue.get("device"), device, packed=packed)
    taken, used = (position(queue[name], packed=packed) for name in ("next-avail", "next-used"))
    yield f"  device: takes {taken} next, gives back {used} next, has {queue['inflight']}"


def device_lines(found: Answer) -> Iterator[str]:
    """One device."""
    yield f"{found['device']}: {found['name']}, device id {found['device-id']}"
    yield f"  at {found['path']}"
    if found["broken"]:
        yield f"  BROKEN: {found['broken']}"
    unknown = found["status"].get("unknown-statuses")
    statuses = [*found["status"]["statuses"][::-1], *([f"{unknown:#x}: bits without a name"] if unknown else [])]
    yield "  status:" + ("" if statuses else " 0, no driver")
    yield from (f"    {text}" for text in statuses)
    yield "  features (+ in use, - offered only):"
    yield from (f"    {line}" for line in feature_lines(found["host-features"], found["guest-features"]))
    yield f"  queues: {found['num-vqs']}, {len(found['queues'])} of them set up"
    for queue in found["queues"]:
        yield from (f"    {line}" for line in queue_lines(queue))


@click.command(name="inspect")
@click.argument("device", required=False)
@click.option("-m", "--machine", metavar="MACHINE", help="Which one: name, process's number, or path of its QMP socket.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect_(device: str | None, machine: str | None, as_json: bool) -> None:
    """Show status, features and rings of a virtio DEVICE of a running machine, decoded; without DEVICE of all.

    DEVICE is an id, a path in the composition tree, or a sort ('virtio-blk').
    """
    with QmpClient(find_running(machine)) as client:
        found = [look(client, each["path"]) for each in choose(client.execute("x-query-virtio"), device)]
    if as_json:
        print(json.dumps(found, indent=2))
        return
    print("\n\n".join("\n".join(device_lines(each)) for each in found) or "the machine has no virtio device")
