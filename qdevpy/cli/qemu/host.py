# SPDX-License-Identifier: Apache-2.0
"""What options say about the process: its name, where messages go, ``-daemonize`` and ``-pidfile``."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import ExitStack, suppress

from qdevpy.cli.qemu.draft import Host
from qdevpy.errors import QdevpyError


def set_up_messages(host: Host, program: str) -> None:
    """As ``-d``, ``-D`` and ``-msg`` say.

    :raises QdevpyError: the log file cannot be written
    """
    layout = f"%(asctime)s {program}: %(message)s" if host.timestamps else f"{program}: %(message)s"
    try:
        logging.basicConfig(format=layout, filename=host.log_file)
    except OSError as error:
        raise QdevpyError(f"-D {host.log_file}: {error.strerror}") from None
    logging.getLogger().setLevel(logging.DEBUG if host.log_items else logging.WARNING)


def set_process_name(name: str) -> None:
    """What ``ps`` shows, at most 15 bytes of it (prctl(2), PR_SET_NAME)."""
    with open("/proc/self/comm", "wb") as comm:
        comm.write(name.encode()[:15])


class Background:
    """The process in the background, where that is wanted, and its number in a file.

    ::

        parent:  fork --> waits --> ends with the child's word: 0, or 1 where it failed
        child:   fork --> new session --> opens everything --> ready(): gives up the terminal, tells --> runs

    :ivar is_parent: this process has nothing more to do
    :ivar status: the parent's exit status
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._pipe: int | None = None
        self._cleanup = ExitStack()
        self.is_parent = False
        self.status = 0

    def __enter__(self) -> Background:
        """Fork. There are no threads yet.

        :raises QdevpyError: the file for the number cannot be written
        """
        if self._host.daemonize:
            theirs, ours = os.pipe2(os.O_CLOEXEC)
            if os.fork():
                os.close(ours)
                self.is_parent = True
                self.status = 0 if os.read(theirs, 1) == b"r" else 1
                os.close(theirs)
                return self
            os.close(theirs)
            self._pipe = ours
            os.setsid()
        if self._host.pid_file:
            self._write_pid(self._host.pid_file)
        return self

    def _write_pid(self, path: str) -> None:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise QdevpyError(f"-pidfile {path}: {error.strerror}") from None
        with open(fd, "w") as file:
            file.write(f"{os.getpid()}\n")
        self._cleanup.callback(self._remove, os.path.abspath(path))

    @staticmethod
    def _remove(path: str) -> None:
        with suppress(OSError):
            os.unlink(path)

    def ready(self) -> None:
        """Everything is open: let go of the terminal, and let the parent end."""
        if self._pipe is None:
            return
        sys.stdout.flush()
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)
        os.write(self._pipe, b"r")
        os.close(self._pipe)
        self._pipe = None

    def __exit__(self, *exc: object) -> None:
        self._cleanup.close()
