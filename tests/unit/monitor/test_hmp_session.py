# SPDX-License-Identifier: Apache-2.0
"""The human monitor on a chardev, and its line editor."""

from __future__ import annotations

import pytest
from monitor_rig import MakeQmp

from qdevpy.backend.chardev_ringbuf import RingbufChardev
from qdevpy.monitor.hmp.editor import LineEditor
from qdevpy.monitor.hmp.session import HmpSession

GREETING = b"QEMU 7.2.0 monitor - type 'help' for more information\r\n(qemu) "


def typed(editor: LineEditor, keys: str) -> tuple[bytes, list[str]]:
    """What is sent, and the lines that were ended."""
    sent, lines = b"", []
    for byte in keys.encode("latin-1"):
        answer, line = editor.feed(byte)
        sent += answer
        if line is not None:
            lines.append(line)
    return sent, lines


@pytest.fixture
def editor() -> LineEditor:
    return LineEditor("(qemu) ", lambda text: [w for w in ("info", "infer", "quit") if w.startswith(text.rpartition(" ")[2])])


def test_typing_redraws_the_line_as_qemu_does(editor: LineEditor) -> None:
    assert typed(editor, "in")[0] == b"i\x1b[K\x1b[Din\x1b[K"
    assert typed(editor, "\n") == (b"\r\n", ["in"])


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("ab\x7fc", "ac"),
        ("ab\x08", "a"),
        ("abc\x15", ""),
        ("abc def\x17", "abc "),
        ("bc\x01a\x05d", "abcd"),
        ("abc\x02\x02\x0b", "a"),
        ("abc\x01\x04", "bc"),
        ("ac\x1b[Db", "abc"),
        ("ac\x02b\x06d", "abcd"),
        ("b\x1b[Ha\x1b[Fc", "abc"),
        ("abc\x1b[1~\x1b[3~", "bc"),
        ("a\x1bZb\x1b[99;c", "ab"),
        ("a\x00\x80b", "ab"),
        ("qu\t", "quit "),
        ("x\t", "x"),
        ("i\t", "inf"),
    ],
)
def test_keys_edit_the_line(editor: LineEditor, keys: str, line: str) -> None:
    end = keys.replace("99;c", "C")
    assert typed(editor, end + "\r")[1] == [line]


def test_tab_shows_what_a_word_may_become(editor: LineEditor) -> None:
    sent, _ = typed(editor, "inf\t")
    assert sent.endswith(b"\r\ninfo   infer\r\n(qemu) inf\x1b[K")


def test_arrows_go_through_the_history(editor: LineEditor) -> None:
    typed(editor, "one\ntwo\none\n")
    assert editor.history == ["two", "one"]
    assert typed(editor, "\x1b[A\x1b[A\n")[1] == ["two"]
    assert typed(editor, "\x10\x10\x10\x0e\n")[1] == ["two"]
    assert typed(editor, "\x1b[A\x1b[B\n")[1] == [""]


def test_line_is_bounded(editor: LineEditor) -> None:
    assert len(typed(editor, "x" * 5000 + "\n")[1][0]) == 4095


def test_clear_screen_shows_the_prompt_anew(editor: LineEditor) -> None:
    assert typed(editor, "a\x0c")[0].endswith(b"\x1b[2J\x1b[1;1H(qemu) a\x1b[K")


@pytest.fixture
def session(qmp: MakeQmp) -> tuple[HmpSession, RingbufChardev]:
    call = qmp("name: foo\nchardevs: {m: {type: ringbuf, size: 64K}}")
    chardev = call.machine.backend("chardevs", "m")
    assert isinstance(chardev, RingbufChardev)
    made = HmpSession(call.machine, chardev)
    with call.machine.lock:
        made.open()
    return made, chardev


def answer(session: HmpSession, chardev: RingbufChardev, data: bytes) -> bytes:
    """What comes back for DATA, when all is done."""
    with session.machine.lock:
        chardev.feed(data)
    while session.has_work() or session._scheduled:
        session.machine.loop.run_once(0.01)
    return chardev.read()


def test_session_greets_and_answers_lines(session: tuple[HmpSession, RingbufChardev]) -> None:
    monitor, chardev = session
    assert chardev.read() == GREETING
    assert answer(monitor, chardev, b"info name\n").endswith(b"info name\x1b[K\r\nfoo\r\n(qemu) ")


def test_lines_that_come_together_are_carried_out_in_turn(session: tuple[HmpSession, RingbufChardev]) -> None:
    monitor, chardev = session
    chardev.read()
    sent = answer(monitor, chardev, b"p 1\np 2\ninfo history\np")
    assert sent.count(b"(qemu) ") == 3
    assert b"\r\n0x1\r\n" in sent
    assert b"\r\n0x2\r\n" in sent
    assert b"0: 'p 1'\r\n1: 'p 2'\r\n" in sent


def test_commands_and_ids_are_completed(session: tuple[HmpSession, RingbufChardev]) -> None:
    complete = session[0]._hmp.complete
    assert complete("info ver") == ["version"]
    assert complete("qui") == ["quit"]
    assert complete("help qui") == ["quit"]
    assert complete("chardev-remove m") == ["m"]
    assert complete("chardev-remove ") == []


def test_closed_session_says_nothing_more(session: tuple[HmpSession, RingbufChardev]) -> None:
    monitor, chardev = session
    chardev.read()
    with monitor.machine.lock:
        monitor.close()
        chardev.feed(b"info name\n")
    assert chardev.read() == b""
