# SPDX-License-Identifier: Apache-2.0
"""Traces of devices without a CPU: what gets into the file, what is read from it, and what happens where it is too much."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from null_device import NullDevice
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace as PerfettoTrace
from ring_forms import FORMS, OFFER
from virtio_pci_rig import plugged, types_of

from qdevpy.errors import TraceError
from qdevpy.native.core import ffi
from qdevpy.testing.driver import ModernDriver
from qdevpy.trace.requests import Trace, read_trace
from qdevpy.vm.tracing import Tracing

NATIVE, PYTHON = 0, 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.pftrace"


def trace_requests(driver_class: type[Any], path: Path, index: int, count: int) -> Trace:
    """A trace of COUNT requests, one after the other."""
    with plugged(driver_class, NullDevice, ioeventfd="off", **OFFER) as driver:
        driver.start()
        tracing = Tracing(driver.machine, str(path))
        for n in range(count):
            driver.queues[index].request([b"%d" % n], [8])
        tracing.stop()
        assert driver.device.queues[index].pointer.ring.tapped == ffi.NULL
    return read_trace(path)


@pytest.mark.parametrize("driver_class", [ModernDriver, *FORMS])
@pytest.mark.parametrize("index", [NATIVE, PYTHON])
def test_every_request_is_whole_and_in_order(driver_class: type[Any], index: int, path: Path) -> None:
    found = trace_requests(driver_class, path, index, 100)
    assert not found.cut_short
    assert found.lost == 0
    assert [request.number for request in found.requests] == list(range(1, 101))
    assert found.kicks == {("null0", f"{index} q{index}", "synchronous"): 100}
    for request in found.requests:
        assert (request.readable, request.writable) == (len(str(request.number - 1)), 8)
        assert request.pushed is not None
        assert request.kicked is not None
        assert request.kicked <= request.popped <= request.pushed
        assert request.interrupted is None or request.pushed <= request.interrupted


def test_interrupt_is_linked_with_all_that_it_tells_of(path: Path) -> None:
    with plugged(ModernDriver, NullDevice, ioeventfd="off") as driver:
        driver.start()
        tracing = Tracing(driver.machine, str(path))
        for _ in range(5):
            driver.queues[NATIVE].add([b"x"], [8])
        driver.queues[NATIVE].kick()
        tracing.stop()
    found = read_trace(path)
    assert found.interrupts == 1
    assert len({request.interrupted for request in found.requests}) == 1
    assert [request.kicked is not None for request in found.requests] == [True, False, False, False, False]


def test_perfettos_own_reader_finds_the_same(path: Path) -> None:
    found = trace_requests(ModernDriver, path, NATIVE, 20)
    theirs = PerfettoTrace()
    theirs.ParseFromString(path.read_bytes())
    events = [packet.track_event for packet in theirs.packet if packet.HasField("track_event")]
    tracks = {
        packet.track_descriptor.uuid: packet.track_descriptor for packet in theirs.packet if packet.HasField("track_descriptor")
    }
    assert sum(event.name == "request" for event in events) == len(found.requests) == 20
    assert {tracks[event.track_uuid].name for event in events} == {"queue 0 q0", "in flight 0"}
    assert all(event.track_uuid in tracks for event in events)
    assert all(track.parent_uuid in tracks for track in tracks.values() if not track.HasField("process"))
    assert all(packet.timestamp_clock_id == 3 for packet in theirs.packet if packet.HasField("track_event"))
    begun = [list(event.flow_ids) for event in events if event.name == "request"]
    ended = [flow for event in events if event.name == "interrupt" for flow in event.terminating_flow_ids]
    assert [flow for flows in begun for flow in flows] == ended


def test_device_that_is_plugged_later_is_followed(path: Path) -> None:
    with plugged(ModernDriver, NullDevice, ioeventfd="off") as first:
        tracing = Tracing(first.machine, str(path))
        proxy = first.machine.plug_type(types_of(NullDevice)["null-pci"], id="null1", ioeventfd="off")
        second = ModernDriver(first.machine, proxy)
        second.start()
        second.queues[NATIVE].request([b"x"], [8])
        first.machine.pci.unplug(proxy)
        tracing.stop()
    assert [(request.device, request.queue) for request in read_trace(path).requests] == [("null1", "0 q0")]


def test_request_in_flight_at_a_reset_has_no_end_of_its_own(path: Path) -> None:
    with plugged(ModernDriver, NullDevice, ioeventfd="off") as driver:
        driver.start()
        driver.device.handle_output = lambda queue: queue.pop()
        tracing = Tracing(driver.machine, str(path))
        driver.queues[PYTHON].add([b"x"], [8])
        driver.queues[PYTHON].kick()
        driver.set_status(0)
        tracing.stop()
    (request,) = read_trace(path).requests
    assert request.interrupted is None


def test_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with plugged(ModernDriver, NullDevice) as driver, pytest.raises(TraceError, match="nowhere/x: No such file or directory"):
        Tracing(driver.machine, str(tmp_path / "nowhere" / "x"))


def test_full_disk_is_told_at_the_end() -> None:
    with plugged(ModernDriver, NullDevice, ioeventfd="off") as driver:
        driver.start()
        tracing = Tracing(driver.machine, "/dev/full")
        driver.queues[NATIVE].request([b"x"], [8])
        with pytest.raises(TraceError, match="No space left on device; the trace is not whole"):
            tracing.stop()


def test_events_that_the_writer_has_no_time_for_are_lost_counted_and_nobody_waits(path: Path) -> None:
    os.mkfifo(path)
    chunks: list[bytes] = []
    reader_may_read = threading.Event()

    def read() -> None:
        with path.open("rb", buffering=0) as fifo:
            reader_may_read.wait()
            while chunk := fifo.read(1 << 16):
                chunks.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    with plugged(ModernDriver, NullDevice, ioeventfd="off") as driver:
        driver.start()
        tracing = Tracing(driver.machine, str(path))
        queue = driver.queues[NATIVE]
        for _ in range(400):  # 2 events a chain: more than a ring, a buffer and a pipe hold
            for _ in range(60):
                queue.offer(0) if queue.chains else queue.add([b"x"])
                queue.kick()
            queue.collect()
        reader_may_read.set()
        queue.request([b"last"])
        tracing.stop()
    reader.join()
    whole = path.with_suffix(".whole")
    whole.write_bytes(b"".join(chunks))
    found = read_trace(whole)
    assert found.lost > 0
    assert len(found.requests) < 24_001
    assert all(request.pushed is None or request.popped <= request.pushed for request in found.requests)
