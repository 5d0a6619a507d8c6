# SPDX-License-Identifier: Apache-2.0
"""A QMP session: greeting, negotiation, commands and their answers, events (QEMU: docs/interop/qmp-spec.txt).

::

    opened --greeting--> NEGOTIATING --qmp_capabilities--> COMMANDS
       ^                     only qmp_capabilities           all commands; events are sent
       +------------------------ the client goes --------------+
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qdevpy.monitor.command import Context, QmpError, Reply
from qdevpy.monitor.commands.control import version_info
from qdevpy.monitor.json_stream import JsonStream, Message
from qdevpy.monitor.session import MonitorSession
from qdevpy.monitor.table import Bound, CommandTable, guarded

if TYPE_CHECKING:
    from qdevpy.backend.chardev import Chardev
    from qdevpy.vm.machine import Machine

#: commands that may wait while one is carried out, with capability "oob" (monitor/monitor-internal.h)
QUEUE_LENGTH = 8

#: what a client may enable
CAPABILITIES = ("oob",)


class QmpSession(MonitorSession):
    """One QMP client.

    :param table: the commands there are
    :param pretty: answers are indented
    :ivar negotiating: ``qmp_capabilities`` has not been sent yet
    """

    def __init__(
        self,
        machine: Machine,
        chardev: Chardev,
        table: CommandTable,
        *,
        pretty: bool = False,
        hang_up: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(machine, chardev, hang_up)
        self.negotiating = True
        self._table = table
        self._pretty = pretty
        self._oob = False
        self._stream = JsonStream()
        self._queue: deque[Message] = deque()
        self._pending: Answer | None = None  # a deferred answer that the next command waits for
        self._current: Answer | None = None

    # -- the session's life

    def opened(self) -> None:
        """Greet."""
        self.negotiating, self._oob = True, False
        self._stream = JsonStream()
        version = self._table.find("query-version")
        self.send({"QMP": {"version": version.encode(version_info()), "capabilities": list(CAPABILITIES)}})

    def gone(self) -> None:
        """Answers that come later go nowhere."""
        self.negotiating = True
        self._queue.clear()
        self._pending = None

    def enable(self, capabilities: Sequence[str]) -> None:
        """qmp_capabilities: from now on there are commands and events."""
        self._oob = "oob" in capabilities
        self.negotiating = False

    # -- input

    def received(self, data: bytes) -> None:
        """Queue what is complete; with "oob", what overtakes is carried out."""
        for message in self._stream.feed(data):
            if self._oob and is_oob(message.value):
                self._execute(message.value)
            else:
                self._queue.append(message)

    def has_work(self) -> bool:
        """Something is queued, and nothing is waited for."""
        return bool(self._queue) and self._pending is None

    def wants_input(self) -> bool:
        """QEMU reads one command at a time, unless the client has "oob"."""
        if self._oob:
            return len(self._queue) < QUEUE_LENGTH
        return not self._queue and self._pending is None

    def work(self) -> None:
        """Carry out the oldest message."""
        message = self._queue.popleft()
        if message.error is not None:
            self.send(error_object(QmpError(message.error)))
        else:
            self._execute(message.value)

    # -- commands

    def _execute(self, request: Any) -> None:
        """Carry out one request; the answer goes to the client, now or later."""
        identity = request.get("id") if isinstance(request, dict) else None
        answer = Answer(self, identity, isinstance(request, dict) and "id" in request)
        before, self._current = self._current, answer
        try:
            value = self._dispatch(request, answer)
        except QmpError as error:
            answer.finish(error=self._in_negotiation(error))
        else:
            if not answer.deferred:
                answer.finish(value)
            elif not answer.finished and "exec-oob" not in request:
                self._pending = answer
        finally:
            self._current = before

    def _dispatch(self, request: Any, answer: Answer) -> Any:
        """Check a request and call the command.

        :raises QmpError: what the client is told
        """
        name, oob = check_request(request, self._oob)
        bound = self._table.find(name, negotiating=self.negotiating)
        answer.bound = bound
        if oob and not bound.command.allow_oob:
            raise QmpError(f"The command {name} does not support OOB")
        if self.machine.preconfig and not bound.command.allow_preconfig:
            raise QmpError(f"The command '{name}' is permitted only after machine initialization has completed")
        arguments: Mapping[str, Any] = request.get("arguments", {})
        ctx = Context(self.machine, self, self._table)
        return guarded(name, lambda: bound.call(ctx, arguments))

    def _in_negotiation(self, error: QmpError) -> QmpError:
        if self.negotiating and error.class_ == "CommandNotFound":
            return QmpError("Expecting capabilities negotiation with 'qmp_capabilities'", error.class_)
        return error

    def defer(self) -> Reply:
        """See :meth:`qdevpy.monitor.command.Context.defer`."""
        assert self._current is not None
        self._current.deferred = True
        return self._current.finish

    def finished(self, answer: Answer) -> None:
        """ANSWER is sent: go on with what waited for it."""
        if self._pending is answer:
            self._pending = None
            self.schedule()

    # -- output

    def send(self, message: Mapping[str, Any], *, optional: bool = False) -> None:
        """Send one object."""
        self.write(encode(message, self._pretty), optional=optional)

    def send_event(self, message: Mapping[str, Any]) -> None:
        """Send an event to a client that is past negotiation."""
        if not self.negotiating:
            self.send(message, optional=True)


class Answer:
    """The answer to one request.

    :ivar bound: the command, once it is known
    :ivar deferred: the command said that it comes later
    :ivar finished: it was given
    """

    def __init__(self, session: QmpSession, identity: Any, has_identity: bool) -> None:
        self._session = session
        self._more = {"id": identity} if has_identity else {}
        self.bound: Bound | None = None
        self.deferred = False
        self.finished = False

    def finish(self, value: Any = None, *, error: Exception | None = None) -> None:
        """Send it; see :class:`qdevpy.monitor.command.Reply`."""
        if self.finished:
            return
        self.finished = True
        try:
            self._session.send({**self._body(value, error), **self._more})
        except RecursionError:  # an id of nearly a thousand levels
            self._session.send(error_object(QmpError("JSON nesting depth limit exceeded")))
        self._session.finished(self)

    def _body(self, value: Any, error: Exception | None) -> dict[str, Any]:
        if error is None and self.bound is not None:
            bound = self.bound
            try:
                return {"return": guarded(bound.name, lambda: bound.encode(value))}
            except QmpError as failed:
                error = failed
        return error_object(error if isinstance(error, QmpError) else QmpError(str(error)))


def is_oob(request: Any) -> bool:
    """Whether REQUEST is to overtake others."""
    return isinstance(request, dict) and "exec-oob" in request and "execute" not in request


def check_request(request: Any, oob: bool) -> tuple[str, bool]:
    """The command's name, and whether it is to be carried out of band (qapi/qmp-dispatch.c).

    :param oob: the client may do so
    :raises QmpError: REQUEST is none
    """
    if not isinstance(request, dict):
        raise QmpError("QMP input must be a JSON object")
    execute: str | None = None
    for name, value in request.items():
        if name == "execute" or (name == "exec-oob" and oob):
            if not isinstance(value, str):
                raise QmpError(f"QMP input member '{name}' must be a string")
            if execute is not None:
                raise QmpError(f"QMP input member '{name}' clashes with '{execute}'")
            execute = name
        elif name == "arguments":
            if not isinstance(value, dict):
                raise QmpError("QMP input member 'arguments' must be an object")
        elif name != "id":
            raise QmpError(f"QMP input member '{name}' is unexpected")
    if execute is None:
        raise QmpError("QMP input lacks member 'execute'")
    return request[execute], execute == "exec-oob"


def error_object(error: QmpError) -> dict[str, Any]:
    """An error answer."""
    return {"error": {"class": error.class_, "desc": str(error)}}


def encode(message: Mapping[str, Any], pretty: bool) -> bytes:
    """One object as QEMU writes it: ASCII, a line, or with PRETTY several; CR LF ends a line."""
    text = json.dumps(message, indent=4 if pretty else None)
    return (text.replace("\n", "\r\n") if pretty else text).encode() + b"\r\n"
