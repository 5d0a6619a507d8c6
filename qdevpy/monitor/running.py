# SPDX-License-Identifier: Apache-2.0
"""The running machines of a user, found by their control sockets (:mod:`qdevpy.monitor.control`)."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from qdevpy.errors import MonitorClientError, did_you_mean
from qdevpy.monitor.control import SUFFIX, check_private, runtime_directory


class Running(NamedTuple):
    """A machine that runs.

    :ivar path: its control socket
    """

    name: str
    pid: int
    path: str

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"


def running_machines() -> list[Running]:
    """Those that answer, by name; what a killed one left behind is removed.

    :raises MonitorClientError: others can write where control sockets lie
    """
    directory = runtime_directory()
    try:
        check_private(directory)
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise MonitorClientError(f"{directory}: {error.strerror}; remove it, and start the machines again") from error
    return sorted(_answering(directory, names))


def _answering(directory: str, names: Sequence[str]) -> Iterator[Running]:
    for name in names:
        stem = name.removesuffix(SUFFIX)
        machine, _, pid = stem.rpartition(".")
        if stem == name or not pid.isdecimal():
            continue
        path = os.path.join(directory, name)
        if listens(path):
            yield Running(machine, int(pid), path)


def listens(path: str) -> bool:
    """Whether somebody does at this socket; it is removed where nobody does any more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            with suppress(FileNotFoundError):
                os.unlink(path)
            return False
        except OSError:
            return False
    return True


def find_running(given: str | None) -> str:
    """The address of the machine that the user means.

    :param given: its name, its process's number, the path of a QMP socket, or ``HOST:PORT``; None: the only one there is
    :raises MonitorClientError: there is none, or more than one; names those there are
    """
    if given is not None and (os.sep in given or ":" in given or os.path.exists(given)):
        return given
    machines = running_machines()
    found = [each for each in machines if given is None or given in (each.name, str(each.pid))]
    if len(found) == 1:
        return found[0].path
    known = ", ".join(str(each) for each in machines)
    if not machines:
        raise MonitorClientError(
            f"no machine {f'{given!r} ' if given else ''}runs; start one with 'qdevpy boot', or give the path of a QMP socket"
        )
    if not found:
        hint = did_you_mean(given or "", [each.name for each in machines]) or f"; running: {known}"
        raise MonitorClientError(f"no machine '{given}' runs{hint}")
    raise MonitorClientError(f"several machines run; give the name or the process's number of one: {known}")
