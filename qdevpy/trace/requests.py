# SPDX-License-Identifier: Apache-2.0
"""A trace as requests with their times, and vCPU exits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs

from qdevpy.errors import TraceError
from qdevpy.trace.packets import Event, EventType, Packets, read_packets

#: stage -> from, to: attributes of :class:`Request`
STAGES = {
    "kick → pop": ("kicked", "popped"),
    "pop → submit": ("popped", "submitted"),
    "submit → complete": ("submitted", "completed"),
    "complete → push": ("completed", "pushed"),
    "pop → push": ("popped", "pushed"),
    "push → interrupt": ("pushed", "interrupted"),
    "total": ("began", "ended"),
}


@attrs.define(slots=True)
class Request:
    """One descriptor chain's way; times in nanoseconds, None: it did not come to that, or nobody said so.

    :ivar kicked: the kick for which it was the first one popped
    :ivar submitted: the host was asked for the first time
    :ivar completed: the host was done for the last time
    :ivar pushed: the driver can see it
    :ivar interrupted: the driver was told
    """

    device: str
    queue: str
    number: int
    readable: int
    writable: int
    kicked: int | None
    popped: int
    submitted: int | None = None
    completed: int | None = None
    pushed: int | None = None
    interrupted: int | None = None

    @property
    def began(self) -> int:
        """The kick, or for those that came along with others the pop."""
        return self.popped if self.kicked is None else self.kicked

    @property
    def ended(self) -> int | None:
        """The interrupt, or for drivers that look for themselves the push."""
        return self.pushed if self.interrupted is None else self.interrupted

    def stages(self) -> Iterator[tuple[str, int]]:
        """The stages that it has gone through, with nanoseconds."""
        for name, (start, end) in STAGES.items():
            first, last = getattr(self, start), getattr(self, end)
            if first is not None and last is not None:
                yield name, last - first


@attrs.frozen(slots=True)
class Exit:
    """A vCPU's exit that user space served.

    :ivar kind: ``pio read``, ``mmio write``, ... or ``other``
    :ivar owner: whose registers
    :ivar ns: how long it took to serve
    """

    vcpu: str
    kind: str
    owner: str
    ns: int


@attrs.define
class Trace:
    """What a trace tells.

    :ivar kicks: how many, by device, queue and way
    :ivar lost: events that are missing
    :ivar cut_short: the file ends in the middle of a packet
    :ivar seconds: from its first event to its last
    """

    requests: list[Request] = attrs.field(factory=list)
    exits: list[Exit] = attrs.field(factory=list)
    kicks: dict[tuple[str, str, str], int] = attrs.field(factory=dict)
    interrupts: int = 0
    lost: int = 0
    cut_short: bool = False
    seconds: float = 0.0


def read_trace(path: Path) -> Trace:
    """Read a trace's file.

    :raises TraceError: there is none, or it is something else
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}; expected a file that 'qdevpy boot --trace FILE' wrote") from error
    packets = read_packets(data, str(path))
    return _Reader(packets).read()


class _Reader:
    def __init__(self, packets: Packets) -> None:
        self.packets = packets
        self.trace = Trace(cut_short=packets.cut_short)
        self.kicks: dict[int, int] = {}
        self.by_flow: dict[int, Request] = {}
        self.open: dict[int, list[tuple[Event, Request | None]]] = {}  # by track: slices that have begun

    def read(self) -> Trace:
        events = self.packets.events
        for event in events:
            if event.type is EventType.BEGIN:
                self._begin(event)
            elif event.type is EventType.END:
                self._end(event)
            else:
                self._instant(event)
        if events:
            self.trace.seconds = (events[-1].ns - events[0].ns) / 1e9
        return self.trace

    def _name(self, track: int) -> tuple[str, int]:
        found = self.packets.tracks.get(track)
        return (found.name, found.parent) if found is not None else ("?", 0)

    def _queue(self, track: int) -> tuple[str, str]:
        """Device and queue of a queue's track."""
        queue, parent = self._name(track)
        return self._name(parent)[0], queue.removeprefix("queue ")

    def _begin(self, event: Event) -> None:
        stack = self.open.setdefault(event.track, [])
        request = stack[-1][1] if stack else None
        if event.name == "request":
            request = self._request(event)
        elif event.name == "host" and request is not None and request.submitted is None:
            request.submitted = event.ns
        stack.append((event, request))

    def _request(self, event: Event) -> Request:
        device, queue = self._queue(self._name(event.track)[1])
        kicks = [self.kicks[flow] for flow in event.last_flows if flow in self.kicks]
        number, readable, writable = (int(event.notes.get(name, 0)) for name in ("request", "readable", "writable"))
        request = Request(device, queue, number, readable, writable, kicks[0] if kicks else None, event.ns)
        self.trace.requests.append(request)
        for flow in event.flows:
            self.by_flow[flow] = request
        return request

    def _end(self, event: Event) -> None:
        stack = self.open.get(event.track)
        if not stack:
            return
        begin, request = stack.pop()
        if "exit" in begin.notes:
            notes = begin.notes
            vcpu = self._name(event.track)[0]
            self.trace.exits.append(Exit(vcpu, str(notes["exit"]), str(notes.get("owner", "")), event.ns - begin.ns))
        elif request is not None and begin.name == "host":
            request.completed = event.ns
        elif request is not None and begin.name == "request":
            request.pushed = event.ns

    def _instant(self, event: Event) -> None:
        if event.name == "kick":
            key = (*self._queue(event.track), str(event.notes.get("way", "?")))
            self.trace.kicks[key] = self.trace.kicks.get(key, 0) + 1
            for flow in event.flows:
                self.kicks[flow] = event.ns
        elif event.name == "interrupt":
            self.trace.interrupts += 1
            for flow in event.last_flows:
                if flow in self.by_flow:
                    self.by_flow.pop(flow).interrupted = event.ns
        elif event.name == "events lost":
            self.trace.lost += int(event.notes.get("count", 0))
