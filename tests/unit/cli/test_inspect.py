# SPDX-License-Identifier: Apache-2.0
"""How `qdevpy inspect` says what a ring has."""

from __future__ import annotations

from typing import Any

import pytest

from qdevpy.cli.inspect import choose, device_lines, device_name, feature_lines, queue_lines
from qdevpy.errors import MonitorClientError

QUEUE: dict[str, Any] = {
    "index": 1,
    "name": "tx0",
    "state": "started",
    "layout": "split",
    "size": 64,
    "size-max": 256,
    "desc": 0x1000,
    "avail": 0x2000,
    "used": 0x3000,
    "next-avail": 7,
    "next-used": 6,
    "inflight": 1,
    "driver": {"flags": 1, "idx": 9, "event": 5},
    "device": {"flags": 0, "idx": 6},
}


def test_split_ring_has_flags_by_name_and_events_where_negotiated() -> None:
    assert list(queue_lines(QUEUE)) == [
        "queue 1 tx0: split, 64 of 256 entries, kicks in the exit, Python",
        "  descriptors at 0x1000, available at 0x2000, used at 0x3000",
        "  available: flags 0x1 (NO_INTERRUPT), idx 9, used_event 5",
        "  used: flags 0x0, idx 6",
        "  device: takes 7 next, gives back 6 next, has 1",
    ]


def test_packed_ring_has_wrap_counters_and_an_event_only_where_it_counts() -> None:
    areas = {"driver": {"flags": 2, "event": 0x8003}, "device": {"flags": 1, "event": 0x8009}}
    packed = {**QUEUE, "layout": "packed", "next-avail": 0x8004, "next-used": 2, "vector": 2, "served-by": "io0", **areas}

    head, _, driver, device, positions = queue_lines(packed)

    assert head.endswith(", iothread io0, vector 2")
    assert driver == "  driver event: flags 0x2 (DESC), used_event 3 (wrap 1)"
    assert device == "  device event: flags 0x1 (DISABLE)"
    assert positions == "  device: takes 4 (wrap 1) next, gives back 2 (wrap 0) next, has 1"


def test_ring_outside_memory_says_so() -> None:
    without = {key: value for key, value in QUEUE.items() if key != "driver"}
    assert "  available: not in guest memory" in queue_lines(without)


def test_feature_without_a_name_is_shown_as_a_number() -> None:
    offered = {"transports": ["V1: x"], "dev-features": ["BLK"], "unknown-dev-features": 0x4000}
    used = {"transports": ["V1: x"], "dev-features": []}

    assert list(feature_lines(offered, used)) == ["+ V1: x", "- BLK", "? 0x4000: bits without a name"]


def test_broken_device_says_why() -> None:
    features: dict[str, list[str]] = {"transports": [], "dev-features": []}
    found = {
        "device": "disk0",
        "name": "virtio-blk",
        "device-id": 2,
        "path": "/x",
        "broken": "queue 0: descriptor of zero length",
        "status": {"statuses": [], "unknown-statuses": 16},
        "host-features": features,
        "guest-features": features,
        "num-vqs": 1,
        "queues": [],
    }

    lines = list(device_lines(found))

    assert "  BROKEN: queue 0: descriptor of zero length" in lines
    assert "    0x10: bits without a name" in lines


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/machine/peripheral/disk0/virtio-backend", "disk0"),
        ("/machine/peripheral-anon/device[1]/virtio-backend", "device[1]"),
        ("/elsewhere", "/elsewhere"),
    ],
)
def test_device_is_called_by_its_id(path: str, name: str) -> None:
    assert device_name(path) == name


def test_device_is_chosen_by_id_path_or_sort() -> None:
    disk = {"path": "/machine/peripheral/disk0/virtio-backend", "name": "virtio-blk"}
    card = {"path": "/machine/peripheral/nic0/virtio-backend", "name": "virtio-net"}
    known = [card, disk]

    assert choose(known, "disk0") == choose(known, "virtio-blk") == choose(known, disk["path"]) == [disk]
    assert choose(known, None) == [disk, card]
    with pytest.raises(MonitorClientError, match="no virtio device 'zzz'; the machine has: disk0, nic0"):
        choose(known, "zzz")
