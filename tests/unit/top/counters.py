# SPDX-License-Identifier: Apache-2.0
"""Answers of ``x-query-counters``, made up."""

from __future__ import annotations

from typing import Any


def queue(index: int = 0, latencies: dict[int, int] | None = None, **counted: int) -> dict[str, Any]:
    """A queue; ``_`` is ``-`` in names of counters. LATENCIES: chains by nanoseconds."""
    names = ("kicks-ioeventfd", "kicks-sync", "kicks-polled", "requests", "interrupts", "depth")
    given: dict[str, Any] = {name.replace("_", "-"): value for name, value in counted.items()}
    if latencies is not None:
        buckets = [{"ns": ns, "chains": chains} for ns, chains in latencies.items()]
        given["latencies"] = {"buckets": buckets, "read-bytes": 0, "written-bytes": 0}
    return {"index": index, "name": f"request.{index}", "size": 256, **dict.fromkeys(names, 0), **given}


def device(name: str, **more: Any) -> dict[str, Any]:
    """A device that has done nothing, but for MORE."""
    return {
        "path": f"/machine/peripheral/{name}",
        "name": name,
        "type": f"type-of-{name}",
        "pio": 0,
        "mmio": 0,
        "queues": [],
        **more,
    }


def answer(seconds: float, *devices: dict[str, Any], cpu_ns: int = 0, status: str = "running") -> dict[str, Any]:
    """A machine with a vCPU and an I/O thread, SECONDS after something."""
    polling = {"sleeps": 0, "polls-hit": 0, "polls-missed": 0, "polled-ns": cpu_ns}
    return {
        "name": "demo",
        "pid": 1234,
        "time-ns": int(seconds * 1e9),
        "status": status,
        "vcpus": [{"index": 0, "cpu-ns": cpu_ns, "exits-pio": 0, "exits-mmio": 0, "exits-other": 0}],
        "threads": [{"name": "main loop", "cpu-ns": 0}, {"name": "iothread io0", "cpu-ns": cpu_ns, **polling}],
        "devices": list(devices),
        "unanswered-pio": 0,
        "unanswered-mmio": 0,
    }
