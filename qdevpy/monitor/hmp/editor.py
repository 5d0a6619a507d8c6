# SPDX-License-Identifier: Apache-2.0
"""A line of input with its keys, and what to send so that a terminal shows it. As QEMU's ``util/readline.c``.

Control-A, -E: start, end; -B, -F and the arrows: move; -D, Delete; -H, Backspace; -K: to the end away; -U: all away;
-W: a word away; -P, -N and the arrows: history; Tab: completion; -L: a fresh screen.
"""

from __future__ import annotations

from collections.abc import Callable

#: bytes of a line; what is typed beyond is not taken
LONGEST = 4095
HISTORY = 64

LEFT, RIGHT, CLEAR_REST = b"\x1b[D", b"\x1b[C", b"\x1b[K"

#: what follows ESC [ (or ESC O) -> the control key that does the same
SEQUENCES = {"A": "\x10", "B": "\x0e", "C": "\x06", "D": "\x02", "H": "\x01", "F": "\x05"}
#: what stands before ~
NUMBERED = {"1": "\x01", "3": "\x04", "4": "\x05"}


class LineEditor:
    """Takes bytes; :meth:`feed` gives what to send back, and the lines that were ended.

    :param complete: what the last word of a text may become
    :ivar history: earlier lines, oldest first
    """

    def __init__(self, prompt: str, complete: Callable[[str], list[str]]) -> None:
        self.prompt = prompt.encode()
        self.history: list[str] = []
        self._complete = complete
        self._line = ""
        self._at = 0
        self._shown = ""
        self._shown_at = 0
        self._place: int | None = None  # in the history
        self._escape: str | None = None

    def start(self) -> bytes:
        """A fresh prompt."""
        self._line = self._shown = ""
        self._at = self._shown_at = 0
        self._place = None
        return self.prompt

    def feed(self, byte: int) -> tuple[bytes, str | None]:
        """One byte typed: what to send, and the line if that ended it."""
        char = chr(byte)
        if self._escape is not None:
            key = self._escaped(char)
            if key is None:
                return b"", None
            char = key
        if char == "\x1b":
            self._escape = ""
            return b"", None
        if char in "\r\n":
            return self._end()
        extra = self._tab() if char == "\t" else b""
        if char == "\x0c":
            extra = b"\x1b[2J\x1b[1;1H" + self.prompt
            self._shown, self._shown_at = "", 0
        self._edit(char)
        return extra + self._update(), None

    def _escaped(self, char: str) -> str | None:
        """The control key that an escape sequence means, when it is complete; None: more is to come, or it means none."""
        assert self._escape is not None
        if self._escape == "":
            self._escape = char if char in "[O" else None
            return None
        if char.isdigit() and len(self._escape) < 4:
            self._escape += char
            return None
        number, self._escape = self._escape[1:], None
        return NUMBERED.get(number) if char == "~" else SEQUENCES.get(char)

    def _end(self) -> tuple[bytes, str]:
        line = self._line
        if line.strip():
            if line in self.history:
                self.history.remove(line)
            self.history.append(line)
            del self.history[:-HISTORY]
        shown = self._update()
        self.start()
        return shown + b"\r\n", line

    def _edit(self, char: str) -> None:
        line, at = self._line, self._at
        match char:
            case "\x01":
                self._at = 0
            case "\x05":
                self._at = len(line)
            case "\x02":
                self._at = max(at - 1, 0)
            case "\x06":
                self._at = min(at + 1, len(line))
            case "\x04":
                self._line = line[:at] + line[at + 1 :]
            case "\x08" | "\x7f":
                self._line, self._at = line[: max(at - 1, 0)] + line[at:], max(at - 1, 0)
            case "\x0b":
                self._line = line[:at]
            case "\x15":
                self._line, self._at = line[at:], 0
            case "\x17":
                kept = line[:at].rstrip(" ")
                kept = kept[: kept.rfind(" ") + 1]
                self._line, self._at = kept + line[at:], len(kept)
            case "\x10" | "\x0e":
                self._browse(-1 if char == "\x10" else 1)
            case _ if " " <= char <= "~" and len(line) < LONGEST:
                self._line, self._at = line[:at] + char + line[at:], at + 1

    def _browse(self, step: int) -> None:
        place = (len(self.history) if self._place is None else self._place) + step
        if place < 0 or not self.history:
            return
        if place >= len(self.history):
            if self._place is not None:
                self._place, self._line, self._at = None, "", 0
            return
        self._place, self._line = place, self.history[place]
        self._at = len(self._line)

    def _tab(self) -> bytes:
        """Complete the word before the cursor; where it may become several, show them."""
        found = self._complete(self._line[: self._at])
        if not found:
            return b""
        word = self._line[: self._at].rpartition(" ")[2]
        longest = found[0]
        for other in found[1:]:
            while not other.startswith(longest):
                longest = longest[:-1]
        self._insert(longest[len(word) :] + (" " if len(found) == 1 else ""))
        if len(found) == 1 or len(longest) > len(word):
            return b""
        width = max(map(len, found)) + 2
        columns = max(79 // width, 1)
        rows = [found[at : at + columns] for at in range(0, len(found), columns)]
        listing = "\r\n".join("".join(name.ljust(width) for name in row).rstrip() for row in rows)
        self._shown, self._shown_at = "", 0
        return b"\r\n" + listing.encode() + b"\r\n" + self.prompt

    def _insert(self, text: str) -> None:
        self._line = self._line[: self._at] + text + self._line[self._at :]
        self._at += len(text)

    def _update(self) -> bytes:
        """What turns the line as it is shown into the line as it is."""
        if self._line == self._shown:
            move = self._at - self._shown_at
            self._shown_at = self._at
            return RIGHT * move if move > 0 else LEFT * -move
        sent = LEFT * self._shown_at + self._line.encode("latin-1") + CLEAR_REST + LEFT * (len(self._line) - self._at)
        self._shown, self._shown_at = self._line, self._at
        return sent
