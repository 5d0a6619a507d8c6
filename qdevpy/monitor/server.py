# SPDX-License-Identifier: Apache-2.0
"""A machine's monitors: a session for each client, events for all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from qdevpy.errors import QdevpyError
from qdevpy.monitor.qmp import QmpSession
from qdevpy.monitor.table import CommandTable
from qdevpy.vm.event_types import RtcChange, VserportChange
from qdevpy.vm.events import event_name

if TYPE_CHECKING:
    from qdevpy.backend.chardev import Chardev
    from qdevpy.backend.chardev_socket import SocketChardev
    from qdevpy.definition.model import MonitorDefinition
    from qdevpy.monitor.session import MonitorSession
    from qdevpy.vm.loop import Timer
    from qdevpy.vm.machine import Machine

#: events that a guest can cause as fast as it likes: at most one a second of those with the same key (monitor/monitor.c)
THROTTLED: Mapping[type[Any], Callable[[Any], str]] = {
    RtcChange: lambda event: str(event.qom_path),
    VserportChange: lambda event: str(event.id),
}
THROTTLE_SECONDS = 1.0


class MonitorServer:
    """All monitors of a machine.

    :ivar table: the commands there are
    :ivar sessions: those that have, or wait for, a client
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.table = CommandTable()
        self.sessions: list[MonitorSession] = []
        self._throttled: dict[tuple[type[Any], str], Throttle] = {}
        self._unsubscribe = machine.events.subscribe(self._emit)

    def add(self, monitor: MonitorDefinition) -> None:
        """Serve one entry of ``monitors:``. A socket that listens serves any number of clients at a time.

        :raises QdevpyError: there is no such chardev, or it is in use
        """
        chardev = cast("Chardev", self.machine.backend("chardevs", monitor.chardev.given)).share(waits=monitor.mode == "readline")
        chardev.take(f"a monitor ({monitor.mode})")
        if hasattr(chardev, "serve") and cast("SocketChardev", chardev).server:
            self.serve(cast("SocketChardev", chardev), monitor.mode, pretty=monitor.pretty)
        else:
            self._begin(self._session(chardev, monitor.mode, monitor.pretty, None))

    def serve(self, listener: SocketChardev, mode: str = "control", *, pretty: bool = False) -> None:
        """Serve every client that connects to LISTENER. MODE and PRETTY: as in ``monitors:``."""
        listener.serve(partial(self._accept, mode, pretty))

    def close(self) -> None:
        """Say goodbye to all clients; what was sent to them arrives, where they read."""
        self._unsubscribe()
        for throttle in self._throttled.values():
            throttle.close()
        for session in list(self.sessions):
            session.close()
        self.sessions.clear()

    # -- sessions

    def _session(self, chardev: Chardev, mode: str, pretty: bool, hang_up: Callable[[], None] | None) -> MonitorSession:
        if mode == "readline":
            session: MonitorSession = import_module("qdevpy.monitor.hmp.session").HmpSession(self.machine, chardev, hang_up)
            return session
        return QmpSession(self.machine, chardev, self.table, pretty=pretty, hang_up=hang_up)

    def _begin(self, session: MonitorSession) -> None:
        self.sessions.append(session)
        session.open()

    def _accept(self, mode: str, pretty: bool, connection: SocketChardev) -> Callable[[], None]:
        session = self._session(connection, mode, pretty, connection.hang_up)
        self._begin(session)
        return partial(self.sessions.remove, session)

    # -- events

    def _emit(self, event: Any) -> None:
        key = THROTTLED.get(type(event))
        if key is None:
            self._send(event)
            return
        name = type(event), key(event)
        if name not in self._throttled:
            self._throttled[name] = Throttle(self.machine, self._send, partial(self._throttled.pop, name))
        self._throttled[name].emit(event)

    def _send(self, event: Any) -> None:
        message = self.event_message(event)
        for session in list(self.sessions):
            if isinstance(session, QmpSession):
                session.send_event(message)

    def event_message(self, event: Any) -> dict[str, Any]:
        """An event as it is on the wire."""
        microseconds = time.time_ns() // 1000
        seconds, rest = divmod(microseconds, 1_000_000)
        message: dict[str, Any] = {
            "timestamp": {"seconds": seconds, "microseconds": rest},
            "event": event_name(type(event)),
        }
        data = self.table.compiler.struct(type(event)).encode(event)
        if type(event)._fields:
            message["data"] = data
        return message


class Throttle:
    """Lets an event through at once, and of those that follow within a second only the last, at its end.

    :param expired: called when a second went by without one
    """

    def __init__(self, machine: Machine, send: Callable[[Any], None], expired: Callable[[], object]) -> None:
        self._loop = machine.loop
        self._send = send
        self._expired = expired
        self._waiting: Any = None
        self._timer: Timer | None = None

    def emit(self, event: Any) -> None:
        """Send EVENT now or later, or never."""
        if self._timer is not None:
            self._waiting = event
            return
        self._send(event)
        self._timer = self._loop.call_later(THROTTLE_SECONDS, self._due)

    def _due(self) -> None:
        self._timer = None
        event, self._waiting = self._waiting, None
        if event is None:
            self._expired()
        else:
            self.emit(event)

    def close(self) -> None:
        """Send what waits; there will be no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._waiting is not None:
            self._send(self._waiting)


def monitor_server(machine: Machine) -> MonitorServer:
    """The machine's, made where it has none yet; closed with the machine."""
    if machine.monitors is None:
        machine.monitors = MonitorServer(machine)
        machine.at_close(machine.monitors.close)
    return machine.monitors


def start_monitors(machine: Machine) -> MonitorServer:
    """Serve all of the definition's ``monitors:``.

    :raises QdevpyError: names the monitor's chardev
    """
    server = monitor_server(machine)
    with machine.lock:
        for monitor in machine.definition.monitors:
            try:
                server.add(monitor)
            except QdevpyError as error:
                raise QdevpyError(f"monitor: {error}") from error
    return server
