# SPDX-License-Identifier: Apache-2.0
"""Perfetto's trace packets, as far as ``native/csrc/trace_packets.c`` writes them.

A trace is a sequence of packets, a packet a message of protocol buffers: fields of a number, a wire type and a value. Nothing
else is needed to read one, and no library is imported for it. Fields that are not known are skipped, as the format wants it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any

import attrs

from qdevpy.errors import TraceError

#: wire types
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
#: fields; see the file that writes them
TRACE_PACKET = 1
PACKET_TIMESTAMP, PACKET_EVENT, PACKET_TRACK = 8, 11, 60
TRACK_UUID, TRACK_NAME, TRACK_PROCESS, TRACK_PARENT, PROCESS_NAME = 1, 2, 3, 5, 6
EVENT_ANNOTATION, EVENT_TYPE, EVENT_TRACK, EVENT_NAME, EVENT_FLOW, EVENT_LAST_FLOW = 4, 9, 11, 23, 47, 48
ANNOTATION_NAME, ANNOTATION_UINT, ANNOTATION_TEXT = 10, 3, 6


class EventType(enum.IntEnum):
    """What an event says of its track."""

    BEGIN = 1
    END = 2
    INSTANT = 3


class CutShortError(Exception):
    """A message ends in the middle of something."""


@attrs.frozen(slots=True)
class Event:
    """One event.

    :ivar ns: when, of CLOCK_MONOTONIC
    :ivar flows: what it is linked with, and goes on
    :ivar last_flows: what it is linked with, and ends here
    """

    ns: int
    type: EventType
    track: int
    name: str
    notes: dict[str, int | str]
    flows: list[int]
    last_flows: list[int]


@attrs.frozen
class Track:
    """A track: the process's, a device's, a queue's, a vCPU's, or that of a queue's requests."""

    uuid: int
    name: str
    parent: int
    process: str


@attrs.define
class Packets:
    """A trace's packets.

    :ivar tracks: by identity
    :ivar events: in the order of time
    :ivar cut_short: the file ends in the middle of a packet
    """

    tracks: dict[int, Track] = attrs.field(factory=dict)
    events: list[Event] = attrs.field(factory=list)
    cut_short: bool = False


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """A number and where the next thing is.

    :raises CutShortError: the data ends before the number does
    """
    number = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    raise CutShortError


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field: an int, or bytes.

    :raises CutShortError: the last one is not whole, or of a type that there is not
    """
    at = 0
    while at < len(data):
        key, at = read_varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = read_varint(data, at)
            yield number, value
            continue
        if kind == BYTES:
            size, at = read_varint(data, at)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise CutShortError
        if at + size > len(data):
            raise CutShortError
        part = data[at : at + size]
        at += size
        yield number, part if kind == BYTES else int.from_bytes(part, "little")


def read_packets(data: bytes, what: str) -> Packets:
    """The packets of a trace.

    :param what: the file's name, for messages
    :raises TraceError: it is no trace
    """
    found = Packets()
    if not data:
        raise TraceError(f"{what}: the file is empty; expected a trace that 'qdevpy boot --trace FILE' wrote")
    try:
        for number, packet in fields(data):
            if number != TRACE_PACKET or not isinstance(packet, bytes):
                break
            _read_packet(found, packet)
    except (CutShortError, UnicodeDecodeError, ValueError):
        found.cut_short = True
    if not any(track.process.startswith("qdevpy ") for track in found.tracks.values()):
        raise TraceError(f"{what}: not a trace of qdevpy's; expected a file that 'qdevpy boot --trace FILE' wrote")
    found.events.sort(key=lambda event: event.ns)  # stable: what has the same time stays in the order of the file
    return found


def _read_packet(found: Packets, packet: bytes) -> None:
    ns = 0
    event = None
    for number, value in fields(packet):
        if number == PACKET_TIMESTAMP:
            ns = value
        elif number == PACKET_EVENT:
            event = value
        elif number == PACKET_TRACK:
            track = _read_track(value)
            found.tracks[track.uuid] = track
    if event is not None:
        found.events.append(_read_event(ns, event))


def _read_track(data: bytes) -> Track:
    values = dict(fields(data))
    process = dict(fields(values.get(TRACK_PROCESS, b"")))
    return Track(
        values.get(TRACK_UUID, 0),
        values.get(TRACK_NAME, b"").decode(),
        values.get(TRACK_PARENT, 0),
        process.get(PROCESS_NAME, b"").decode(),
    )


def _read_event(ns: int, data: bytes) -> Event:
    kind = track = 0
    name = ""
    notes: dict[str, int | str] = {}
    flows: list[int] = []
    last_flows: list[int] = []
    for number, value in fields(data):
        if number == EVENT_TYPE:
            kind = value
        elif number == EVENT_TRACK:
            track = value
        elif number == EVENT_NAME:
            name = value.decode()
        elif number == EVENT_ANNOTATION:
            note = dict(fields(value))
            text = note.get(ANNOTATION_TEXT)
            notes[note[ANNOTATION_NAME].decode()] = text.decode() if text is not None else note.get(ANNOTATION_UINT, 0)
        elif number == EVENT_FLOW:
            flows.append(value)
        elif number == EVENT_LAST_FLOW:
            last_flows.append(value)
    return Event(ns, EventType(kind), track, name, notes, flows, last_flows)
