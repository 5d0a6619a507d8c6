# SPDX-License-Identifier: Apache-2.0
"""The control socket: a QMP monitor that every ``qdevpy boot`` has, where ``qdevpy top`` and its like find it.

It lies in a directory that only its user may enter, and is removed when the machine ends. Until somebody connects it is a
descriptor that the main loop waits for; what serves clients is imported then, because start-up counts.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
from _socket import AF_UNIX, SOCK_STREAM
from _socket import socket as bare_socket  # the module ``socket`` takes four times as long to import
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qdevpy.backend.chardev_socket import SocketChardev
    from qdevpy.vm.machine import Machine

log = logging.getLogger(__name__)

SUFFIX = ".sock"
#: unix(7): bytes of ``sun_path``, with the NUL
PATH_SIZE = 108
BACKLOG = 8


def runtime_directory() -> str:
    """Where this user's control sockets lie."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return os.path.join(runtime, "qdevpy") if runtime else f"/tmp/qdevpy-{os.geteuid()}"


def check_private(directory: str) -> None:
    """Whether nobody else can put anything into DIRECTORY, or reach what is in it.

    :raises OSError: it is not there, somebody else's, or open to others
    """
    found = os.lstat(directory)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(errno.EPERM, "is not a directory that this user alone may enter (mode 0700)", directory)


def machine_name(machine: Machine) -> str:
    """For people: the guest's name, or that of the definition's file."""
    definition = machine.definition
    stem = os.path.splitext(os.path.basename(definition.path or ""))[0]
    return definition.name or stem or "machine"


class ControlSocket:
    """The control socket of one machine.

    :ivar path: where it is
    :raises OSError: there can be none
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._chardev: SocketChardev | None = None
        directory = runtime_directory()
        with suppress(FileExistsError):
            os.mkdir(directory, 0o700)
        check_private(directory)
        name = re.sub(r"[^A-Za-z0-9_-]", "_", machine_name(machine))[:32]
        self.path = os.path.join(directory, f"{name}.{os.getpid()}{SUFFIX}")
        if len(os.fsencode(self.path)) >= PATH_SIZE:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), self.path)
        self._listener: bare_socket | None = bare_socket(AF_UNIX, SOCK_STREAM)
        try:
            self._listen(self._listener)
        except OSError:
            self._listener.close()
            raise
        machine.loop.add_reader(self._listener.fileno(), self._serve)

    def _listen(self, listener: bare_socket) -> None:
        os.fchmod(listener.fileno(), 0o600)  # Linux gives the inode that bind() makes the socket's own mode
        try:
            listener.bind(self.path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            from qdevpy.backend.chardev_socket import remove_stale

            remove_stale(self.path)  # of a process that was killed and had our number
            listener.bind(self.path)
        listener.listen(BACKLOG)

    def _serve(self) -> None:
        """The first client: from now on the monitor's server does everything."""
        from qdevpy.backend.chardev_socket import SocketChardev
        from qdevpy.monitor.server import monitor_server

        assert self._listener is not None
        listener, self._listener = self._listener, None
        self._machine.loop.remove_reader(listener.fileno())
        self._chardev = SocketChardev.of_listener("control", self.path, listener.detach(), self._machine)
        monitor_server(self._machine).serve(self._chardev)

    def close(self) -> None:
        """Hang up, and remove it. May be called twice."""
        if self._chardev is not None:
            self._chardev.close()
        elif self._listener is not None:
            self._machine.loop.remove_reader(self._listener.fileno())
            self._listener.close()
            self._listener = None
            os.unlink(self.path)


def open_control(machine: Machine) -> None:
    """Give MACHINE its control socket, until it ends. One that cannot be is a message for who asks for messages."""
    try:
        control = ControlSocket(machine)
    except OSError as error:
        log.info("no control socket, so 'qdevpy top' cannot find this machine: %s", error)
        return
    machine.at_close(control.close)
    machine.control = control
