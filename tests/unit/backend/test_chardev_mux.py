# SPDX-License-Identifier: Apache-2.0
"""Several users of one chardev."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from qdevpy.backend.chardev import Buffer, Chardev
from qdevpy.backend.chardev_mux import Mux, MuxPort


class Line(Chardev):
    """A chardev that keeps what is written, and takes at most LIMIT bytes."""

    type_name = "line"

    @property
    def filters_keys(self) -> bool:
        return True

    def __init__(self) -> None:
        super().__init__(id="line0")
        self.written = b""
        self.limit = 1000
        self.resumed = 0

    def do_write(self, data: Buffer) -> int:
        taken = bytes(data)[: self.limit]
        self.written += taken
        return len(taken)

    def resume(self) -> None:
        self.resumed += 1


class User:
    """What is plugged into a port."""

    def __init__(self, port: MuxPort) -> None:
        self.port = port
        self.received = b""
        self.events: list[str] = []
        self.room = 100
        port.attach(lambda: self.room, self._receive, self.events.append)

    def _receive(self, data: bytes) -> None:
        self.received += data


Input = Callable[[bytes], None]


@pytest.fixture
def line() -> Line:
    found = Line()
    found.set_open(True)
    return found


@pytest.fixture
def mux(line: Line) -> Mux:
    return Mux(line)


def type_in(line: Line, data: bytes) -> None:
    assert line.room() >= len(data)
    line.deliver(data)


def test_input_goes_to_the_first_user_until_turned_to_the_next(mux: Mux, line: Line) -> None:
    port, monitor = User(mux.add(waits=False)), User(mux.add(waits=True))

    type_in(line, b"a")
    mux.turn()
    type_in(line, b"b")
    mux.turn()
    type_in(line, b"c")

    assert (port.received, monitor.received) == (b"ac", b"b")


def test_output_of_all_goes_out(mux: Mux, line: Line) -> None:
    one, two = User(mux.add(waits=False)), User(mux.add(waits=False))

    assert (one.port.write(b"x"), two.port.write(b"yz")) == (1, 2)

    assert line.written == b"xyz"


def test_user_who_waits_meets_the_other_end_with_the_first_input(mux: Mux, line: Line) -> None:
    port, monitor = User(mux.add(waits=False)), User(mux.add(waits=True))
    assert (port.events, monitor.events) == (["opened"], [])
    assert monitor.port.write(b"hidden") == 6

    mux.turn()

    assert monitor.events == ["opened"]
    assert line.written == b""


def test_break_goes_to_who_has_the_input_and_other_events_to_all(mux: Mux, line: Line) -> None:
    one, two = User(mux.add(waits=False)), User(mux.add(waits=False))

    for event in ("break", "resized"):
        line.send_event(event)
    line.set_open(False)
    line.set_open(True)

    assert one.events == ["opened", "break", "resized", "closed", "opened"]
    assert two.events == ["opened", "resized", "closed", "opened"]


def test_user_that_goes_gives_the_input_to_the_next(mux: Mux, line: Line) -> None:
    one, two = User(mux.add(waits=False)), User(mux.add(waits=False))

    one.port.detach()
    type_in(line, b"a")
    two.port.detach()

    assert two.received == b"a"
    assert line.room() == 0
    third = User(mux.add(waits=False))
    type_in(line, b"b")
    assert third.received == b"b"


def test_room_is_that_of_who_has_the_input(mux: Mux, line: Line) -> None:
    one, two = User(mux.add(waits=False)), User(mux.add(waits=False))
    one.room, two.room = 0, 5
    before = line.resumed

    two.port.resume()
    assert (line.room(), line.resumed) == (0, before)
    one.room = 3
    one.port.resume()

    assert (line.room(), line.resumed) == (3, before + 1)


def test_turning_alone_changes_nothing(mux: Mux, line: Line) -> None:
    one = User(mux.add(waits=False))
    mux.add(waits=False)  # nobody has plugged in there

    mux.turn()
    type_in(line, b"a")

    assert one.received == b"a"


def test_users_who_wait_for_room_are_told(mux: Mux, line: Line) -> None:
    one, two = User(mux.add(waits=False)), User(mux.add(waits=False))
    told: list[int] = []
    line.limit = 1

    assert one.port.write(b"abc") == 1
    one.port.on_writable(lambda: told.append(1))
    assert two.port.write(b"d" * 2) == 1
    two.port.on_writable(lambda: told.append(2))
    line.writable()

    assert told == [1, 2]


def test_port_is_called_as_its_chardev(mux: Mux, line: Line) -> None:
    port = mux.add(waits=False)

    assert (port.name, port.filename, port.terminal_size) == ("line0", "line", None)
