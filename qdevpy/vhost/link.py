# SPDX-License-Identifier: Apache-2.0
"""A chardev with a vhost-user back end at its other end: who connects is negotiated with, who breaks a rule is hung up on."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from qdevpy.errors import BackendError, VhostError
from qdevpy.vhost.user import VhostUser

if TYPE_CHECKING:
    from qdevpy.backend.chardev import Chardev
    from qdevpy.backend.chardev_socket import SocketChardev
    from qdevpy.vm.loop import MainLoop

log = logging.getLogger(__name__)

#: connections that may fail before the machine starts, where there may be another (as QEMU)
ATTEMPTS = 3
#: warnings about back ends that come and fail; one that is restarted for ever must not fill the log
MAX_WARNINGS = 10
#: seconds of waiting for a back end before the user hears of it
PATIENCE = 0.5
GONE = "hung up; requests wait for the next"


class UserLink:
    """The way to a back end.

    :param label: whose, for messages
    :param came: called with a back end that has been negotiated with; a VhostError of it hangs up
    :param went: called when one that had come is gone
    :param config_changed: the back end says that its config space has changed; on the main loop, between requests
    :ivar backend: who is there
    """

    def __init__(
        self,
        loop: MainLoop,
        label: str,
        came: Callable[[VhostUser], None],
        went: Callable[[], None],
        config_changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._loop = loop
        self._label = label
        self._came = came
        self._went = went
        self._config_changed = config_changed
        self._chardev: SocketChardev | None = None
        self._error: VhostError | None = None
        self._failures = 0
        self.backend: VhostUser | None = None

    def attach(self, chardev: Chardev) -> None:
        """Plug into a chardev; whoever is at its other end already is negotiated with at once.

        :raises BackendError: it is not a UNIX socket
        """
        self._chardev = unix_socket_of(chardev)
        chardev.attach(lambda: 0, lambda data: None, self._event)

    def wait(self, hotplugged: bool) -> None:
        """Wait for a back end, as QEMU does before a machine starts; a device that comes while it runs must find one there.

        :raises BackendError: nobody can come any more, or those who came failed
        """
        chardev = self._chardev
        assert chardev is not None
        may_come = chardev.comes_again and not hotplugged
        told, patience = False, time.monotonic() + PATIENCE
        while self.backend is None:
            if self._failures == ATTEMPTS or not may_come:
                raise BackendError(f"{self._where} {self._error or 'is not there'}")
            self._loop.run_once(PATIENCE)
            if self.backend is None and not told and time.monotonic() > patience:
                told = True
                print(f"{self._label}: waiting for {self._where}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the chardev."""
        if self._chardev is not None:
            self._chardev.detach()
            self._drop()
            self._chardev = None

    def hang_up(self, error: VhostError) -> None:
        """The back end failed, and nobody counts on it: end the connection; the chardev may make another, or take one."""
        self._error = error
        self._warn(str(error))
        self._drop()
        if self._chardev is not None:
            self._chardev.hang_up()

    def lost(self, error: VhostError) -> None:
        """A request of the device's own failed: as :meth:`hang_up`, and whoever counts on the back end hears of it."""
        self._drop()
        self._went()
        self.hang_up(error)

    def _warn(self, what: str) -> None:
        self._failures += 1
        if self._failures <= MAX_WARNINGS:
            last = "; no more of this from now on" if self._failures == MAX_WARNINGS else ""
            log.warning("%s: %s %s%s", self._label, self._where, what, last)

    @property
    def _where(self) -> str:
        assert self._chardev is not None
        return f"the vhost-user back end at {self._chardev.where}"

    # -- connections

    def _event(self, event: str) -> None:
        if event == "opened":
            self._opened()
        elif event == "closed" and self.backend is not None:
            self._drop()
            self._warn(GONE)
            self._went()

    def _opened(self) -> None:
        assert self._chardev is not None
        connection = self._chardev.connection
        assert connection is not None
        backend = VhostUser(connection.dup(), lambda: self._loop.call_once_soon(self._tell_config_changed))
        try:
            backend.negotiate()
            self._came(backend)
        except VhostError as error:
            backend.close()
            self.hang_up(error)
            return
        self.backend = backend
        self._loop.add_reader(backend.channel.fileno(), self._unasked)
        requests = backend.backend_requests
        if requests is not None:
            self._loop.add_reader(requests.fileno(), self._backend_asks)

    def _tell_config_changed(self) -> None:
        if self.backend is not None:
            self._config_changed()

    def _backend_asks(self) -> None:
        assert self.backend is not None
        requests = self.backend.backend_requests
        assert requests is not None
        if not requests.serve():
            self._loop.remove_reader(requests.fileno())
            self.backend.channel.aside = None

    def _unasked(self) -> None:
        """Something arrives that was not asked for: the end, or nonsense.

        A vCPU's exit may have made a request since the main loop saw the socket readable, and read the answer.
        """
        what = self.backend.channel.unasked() if self.backend is not None else None
        if what is not None:
            self.lost(VhostError("sends what nobody asked for" if what == "data" else GONE))

    def _drop(self) -> None:
        backend, self.backend = self.backend, None
        if backend is None:
            return
        self._loop.remove_reader(backend.channel.fileno())
        if backend.backend_requests is not None:
            self._loop.remove_reader(backend.backend_requests.fileno())
        backend.close()


def unix_socket_of(chardev: Chardev) -> SocketChardev:
    """CHARDEV itself.

    :raises BackendError: descriptors cannot be sent through it
    """
    from qdevpy.backend.chardev_socket import SocketChardev

    if not isinstance(chardev, SocketChardev) or chardev.path is None:
        raise BackendError(
            f"chardev '{chardev.name}' is no UNIX socket; a vhost-user back end is reached through {{type: socket, path: ...}}"
        )
    return chardev
