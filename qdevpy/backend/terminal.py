# SPDX-License-Identifier: Apache-2.0
"""A terminal in raw mode, and back."""

from __future__ import annotations

import atexit
import os
import signal
import termios
from typing import Any


class RawTerminal:
    """The terminal behind a descriptor, raw from construction to :meth:`restore`.

    Output processing stays on, so that messages of ours still end their lines properly. As QEMU's
    ``chardev/char-stdio.c``.

    :param fd: a descriptor of the terminal
    :param signals: keys like Ctrl-C keep sending signals to us
    """

    def __init__(self, fd: int, *, signals: bool) -> None:
        self._fd = fd
        self._signals = signals
        self._saved: list[Any] | None = termios.tcgetattr(fd)
        # for an end of the process that goes past the machine's close
        atexit.register(self.restore)
        self.enter()

    def enter(self) -> None:
        """Make it raw (again: the shell has been there in between). Does nothing once restored."""
        if self._saved is None or not self._is_ours():
            return
        try:
            mode = termios.tcgetattr(self._fd)
        except termios.error:
            return  # hung up
        mode[0] &= ~(
            termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP
            | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
        )  # fmt: skip
        mode[1] |= termios.OPOST
        mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.IEXTEN)
        if not self._signals:
            mode[3] &= ~termios.ISIG
        mode[6][termios.VMIN] = 1
        mode[6][termios.VTIME] = 0
        self._set(mode)

    def restore(self) -> None:
        """The mode it was in; harmless when called again."""
        saved, self._saved = self._saved, None
        if saved is not None:
            atexit.unregister(self.restore)
            if self._is_ours():
                self._set(saved)

    def _is_ours(self) -> bool:
        """Whether we are its foreground job; in the background the shell has it, with modes of its own."""
        try:
            return os.tcgetpgrp(self._fd) == os.getpgrp()
        except OSError:
            return True  # not our controlling terminal: there are no jobs on it

    def _set(self, mode: list[Any]) -> None:
        # between the question and the answer we may have gone to the background: do not stop for that
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        try:
            termios.tcsetattr(self._fd, termios.TCSANOW, mode)
        except termios.error:
            return  # hung up
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
