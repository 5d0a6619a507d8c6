# SPDX-License-Identifier: Apache-2.0
"""``qdevpy trace``: what it prints of a trace, and of what is none or not whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_parts import Result
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace as PerfettoTrace
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import TrackEvent

from qdevpy.cli.app import run
from qdevpy.trace.latency import Distribution
from qdevpy.trace.report import bars

PROCESS, DISK, QUEUE, SLOT, CPU = 1, 2 << 16, 3 << 16, (3 << 16) + 1, 4 << 16
BEGIN, END, INSTANT = TrackEvent.TYPE_SLICE_BEGIN, TrackEvent.TYPE_SLICE_END, TrackEvent.TYPE_INSTANT


class Writer:
    """A trace made by Perfetto's own classes, so that the reader is not held against the writer alone."""

    def __init__(self) -> None:
        self.trace = PerfettoTrace()
        for uuid, parent, name in ((DISK, PROCESS, "disk0"), (QUEUE, DISK, "queue 0 request.0"), (SLOT, QUEUE, "in flight 0")):
            self.track(uuid, name, parent)
        self.track(CPU, "vCPU 0", PROCESS)
        process = self.trace.packet.add().track_descriptor
        process.uuid, process.process.process_name = PROCESS, "qdevpy test"

    def track(self, uuid: int, name: str, parent: int) -> None:
        track = self.trace.packet.add().track_descriptor
        track.uuid, track.name, track.parent_uuid = uuid, name, parent

    def event(self, ns: int, kind: int, track: int, name: str = "", **notes: int | str) -> TrackEvent:
        packet = self.trace.packet.add()
        packet.timestamp, packet.timestamp_clock_id = ns, 3
        event = packet.track_event
        event.type, event.track_uuid, event.name = kind, track, name
        for key, value in notes.items():
            note = event.debug_annotations.add()
            note.name = key
            if isinstance(value, str):
                note.string_value = value
            else:
                note.uint_value = value
        return event

    def request(self, ns: int, flow: int) -> None:
        """Stages of 100, 200, 3000, 400 and 500 ns."""
        self.event(ns, INSTANT, QUEUE, "kick", way="ioeventfd").flow_ids.append(flow + 1000)
        begin = self.event(ns + 100, BEGIN, SLOT, "request", request=flow, readable=16, writable=4097)
        begin.flow_ids.append(flow)
        begin.terminating_flow_ids.append(flow + 1000)
        self.event(ns + 100, BEGIN, SLOT, "device")
        self.event(ns + 300, END, SLOT)
        self.event(ns + 300, BEGIN, SLOT, "host")
        self.event(ns + 3300, END, SLOT)
        self.event(ns + 3300, BEGIN, SLOT, "device")
        self.event(ns + 3700, END, SLOT)
        self.event(ns + 3700, END, SLOT)
        self.event(ns + 4200, INSTANT, QUEUE, "interrupt").terminating_flow_ids.append(flow)

    def exit(self, ns: int, duration: int) -> None:
        self.event(ns, BEGIN, CPU, "mmio write disk0", exit="mmio write", owner="disk0", address=0xFE000000)
        self.event(ns + duration, END, CPU)

    @property
    def data(self) -> bytes:
        return bytes(self.trace.SerializeToString())


@pytest.fixture
def writer() -> Writer:
    writer = Writer()
    for n in range(10):
        writer.request(n * 10_000, n + 1)
        writer.exit(n * 10_000 + 5000, 1000 * (n + 1))
    return writer


@pytest.fixture
def trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    def call(data: bytes, *args: str) -> Result:
        path = tmp_path / "t.pftrace"
        path.write_bytes(data)
        status = run(["trace", str(path), *args])
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    return call


def test_stages_add_up_and_are_told_by_queue(writer: Writer, trace: Callable[..., Result]) -> None:
    found = json.loads(trace(writer.data, "--json").out)
    medians = {(row["device"], row["queue"], row["stage"]): (row["count"], row["p50"]) for row in found["stages"]}
    expected = {"kick → pop": 100, "pop → submit": 200, "submit → complete": 3000, "complete → push": 400, "pop → push": 3600}
    expected |= {"push → interrupt": 500, "total": 4200}
    assert medians == {("disk0", "0 request.0", stage): (10, ns) for stage, ns in expected.items()}
    assert found["kicks"] == [{"device": "disk0", "queue": "0 request.0", "way": "ioeventfd", "count": 10}]
    (row,) = found["exits"]
    assert (row["kind"], row["owner"], row["count"], row["p50"], row["max"]) == ("mmio write", "disk0", 10, 5000, 10_000)


def test_tables_name_devices_stages_and_exits(writer: Writer, trace: Callable[..., Result]) -> None:
    status, out, err = trace(writer.data)
    assert (status, err) == (0, "")
    assert "10 requests, 10 of them done; 10 kicks, 10 interrupts, 10 exits" in out
    for text in ("disk0", "0 request.0", "submit → complete", "3.0", "mmio write", "█"):
        assert text in out


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_plot_is_a_picture(writer: Writer, trace: Callable[..., Result], tmp_path: Path, suffix: str) -> None:
    picture = tmp_path / f"t.{suffix}"
    assert trace(writer.data, "--plot", str(picture)).status == 0
    assert picture.read_bytes()[:5] in (b"<?xml", b"\x89PNG\r")


def test_plot_of_no_known_format_is_refused(writer: Writer, trace: Callable[..., Result]) -> None:
    status, _, err = trace(writer.data, "--plot", "t.bmp")
    assert (status, err) == (1, "qdevpy: error: --plot t.bmp: expected a name that ends with .svg, .pdf, .png\n")


@pytest.mark.parametrize(("data", "message"), [(b"", "the file is empty"), (b'{"traceEvents": []}', "not a trace of qdevpy's")])
def test_what_is_no_trace_is_said_to_be_none(data: bytes, message: str, trace: Callable[..., Result]) -> None:
    status, out, err = trace(data)
    assert (status, out) == (1, "")
    assert message in err
    assert "boot --trace FILE" in err


def test_trace_of_another_program_is_none(trace: Callable[..., Result]) -> None:
    other = PerfettoTrace()
    other.packet.add().track_descriptor.process.process_name = "chrome"
    assert trace(other.SerializeToString()).status == 1


def test_file_that_is_not_there_is_an_error_without_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["trace", str(tmp_path / "none")]) == 1
    assert "none: No such file or directory; expected a file" in capsys.readouterr().err


def test_trace_that_was_cut_short_is_read_as_far_as_it_goes(writer: Writer, trace: Callable[..., Result]) -> None:
    whole = len(writer.data)
    counts = []
    for left in range(whole - 1, whole // 4, -whole // 23):
        status, out, err = trace(writer.data[: whole - left] if left < whole // 2 else writer.data[:left], "--json")
        if status == 0:
            counts.append(sum(row["count"] for row in json.loads(out)["stages"]))
            assert "ends in the middle" in err or json.loads(out)["cut_short"] is False
    assert len(set(counts)) > 3


def test_lost_events_are_told(writer: Writer, trace: Callable[..., Result]) -> None:
    writer.event(99_000, INSTANT, QUEUE, "events lost", count=7)
    assert "7 events are missing" in trace(writer.data).err


def test_fields_that_are_not_known_are_skipped(writer: Writer, trace: Callable[..., Result]) -> None:
    for packet in writer.trace.packet:
        packet.trusted_uid = 1000
        packet.trusted_pid = 1
        if packet.HasField("track_event"):
            packet.track_event.categories.append("more")
            packet.track_event.source_location_iid = 5
    assert "10 requests, 10 of them done" in trace(writer.data).out


def test_percentiles_are_values_that_were_measured() -> None:
    found = Distribution.of([5, 1, 4, 2, 3])
    assert found.summary() == {"count": 5, "p50": 3, "p90": 5, "p99": 5, "max": 5}


def test_bars_have_a_line_for_every_power_of_two_between() -> None:
    lines = bars(Distribution.of([3, 3, 3, 3, 20]))
    assert len(lines) == 4
    assert lines[0].endswith(" 4")
    assert lines[1].endswith(" 0")
    assert lines[3].count("█") == 10
