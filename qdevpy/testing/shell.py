# SPDX-License-Identifier: Apache-2.0
"""Commands in a guest, and files in and out, through a shell at the other end of a console.

Any POSIX shell will do, interactive or not: a command is one line to it, which says where output begins and ends in a way
that the line's own echo does not match. Each runs in a shell of its own, as with ssh: ``cd`` and variables do not stay.
"""

from __future__ import annotations

import base64
import itertools
import re
import shlex
from typing import NamedTuple

from qdevpy.testing.transcript import Console

#: bytes that go with one command: Linux takes 128 KiB for one argument, of which base64 makes 4/3
PIECE = 48 << 10


class Finished(NamedTuple):
    """What a command did.

    :ivar status: its exit status
    :ivar output: standard output and errors
    """

    status: int
    output: str


class GuestShell:
    """The host's end of a guest's shell.

    :param console: what the shell reads and writes
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._numbers = itertools.count(1)

    def run(self, command: str, timeout: float | None = None) -> Finished:
        """Run COMMAND, which may have several lines, with an empty standard input.

        :raises AssertionError: it is not done in time, after which this shell is of no more use; or the guest is gone
        """
        begin, end = (f"{word}{next(self._numbers)}-" for word in ("begin", "end"))
        # the quotes in the middle go away when the shell reads them: the echo of this line looks different
        self._console.send(f"{{ echo q''devpy-{begin}; sh -c {shlex.quote(command)}; }} </dev/null 2>&1; echo q''devpy-{end}$?\n")
        self._console.take(rf"qdevpy-{re.escape(begin)}\n", timeout)
        output, match = self._console.take(rf"qdevpy-{re.escape(end)}(\d+)\n", timeout)
        return Finished(int(match[1]), output)

    def check(self, command: str, timeout: float | None = None) -> str:
        """The output of a command that must succeed.

        :raises AssertionError: as :meth:`run`, or its status is not 0
        """
        status, output = self.run(command, timeout)
        if status != 0:
            raise AssertionError(f"in the guest: {command}: status {status}\n{output}")
        return output

    def write_file(self, path: str, content: bytes | str, mode: int = 0o644) -> None:
        """Make a file in the guest; for some MiB at most, bigger ones go onto a disk.

        :raises AssertionError: the guest cannot write it
        """
        data = content.encode() if isinstance(content, str) else content
        name = shlex.quote(path)
        self.check(f": >{name} && chmod {mode:o} {name}")
        for start in range(0, len(data), PIECE):
            text = base64.encodebytes(data[start : start + PIECE]).decode()
            self.check(f"base64 -d >>{name} <<'END'\n{text}END")

    def read_file(self, path: str) -> bytes:
        """A file of the guest's.

        :raises AssertionError: the guest cannot read it
        """
        return base64.b64decode(self.check(f"base64 {shlex.quote(path)}"))
