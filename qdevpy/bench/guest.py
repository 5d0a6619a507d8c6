# SPDX-License-Identifier: Apache-2.0
"""A running guest in bench mode, and the dialogue with it over the serial port (guest/bench.h)."""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

import attrs

from qdevpy.bench.cpu_time import cpu_time
from qdevpy.bench.measurement import NANO, Measurement
from qdevpy.bench.program import BenchError, Launch, Program, clean_environment
from qdevpy.bench.suite import Rig, Start

#: seconds for anything that a healthy guest does at once
PATIENCE = 30.0


class Tick(NamedTuple):
    """The same moment on two clocks.

    :ivar cycles: the guest's time stamp counter
    :ivar ns: the host's monotonic clock
    """

    cycles: int
    ns: int


class _Lines:
    """Lines from and to a stream socket."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        self._connection = connection
        self._pending = b""

    def send(self, line: str) -> None:
        self._connection.sendall(line.encode() + b"\n")

    def receive(self) -> str:
        while b"\n" not in self._pending:
            data = self._connection.recv(65536)
            if not data:
                raise ConnectionError("the connection was closed")
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode(errors="replace").strip()


class Guest:
    """A guest that waits for what to measure; a context manager that ends it.

    :param program: what runs it
    :param rig: its machine
    :param devices: the rig's options
    :param kernel: the guest
    :param inherited: descriptors that the program gets under the same numbers
    :param environment: variables that it gets on top
    :ivar output: what it printed, once it has ended
    :raises BenchError: the program does not start, or its guest does not speak
    """

    def __init__(
        self,
        program: Program,
        rig: Rig,
        devices: Sequence[str],
        kernel: Path,
        *,
        inherited: Collection[int] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.program = program
        self.rig = rig
        self.output = ""
        self._inherited = inherited
        self._environment = {**clean_environment(), **(environment or {})}
        self._ticks: list[Tick] = []
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="qdevpy-bench-")))
            launch = Launch(rig, devices, kernel, folder / "serial", folder / "monitor")
            serial, monitor = (stack.enter_context(self._listen(path)) for path in (launch.serial, launch.monitor))
            self._said: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())
            self._command = program.command(launch)
            self._process = stack.enter_context(self._start())
            stack.callback(self._kill)
            self._vcpus: frozenset[int] = frozenset()
            if program.has_monitor:
                self._vcpus = self._find_vcpus(_Lines(stack.enter_context(self._accept(monitor))))
            self._serial = _Lines(stack.enter_context(self._accept(serial)))
            if not self._receive().startswith("bench "):
                raise self._error("its guest is not in bench mode")
            self._cleanup = stack.pop_all()

    @classmethod
    def of(cls, start: Start) -> Self:
        """The guest of a rig, as its options say."""
        return cls(start.program, start.rig, start.rig.options(start.setting, start.place), start.kernel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._cleanup:
            if error is None:
                self._end()

    def keep(self, resource: AbstractContextManager[object]) -> None:
        """Close RESOURCE, which is open, when this guest ends."""
        self._cleanup.push(resource)

    # -- starting and ending

    @staticmethod
    def _listen(path: Path) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen(1)
        listener.settimeout(0.1)
        return listener

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=subprocess.STDOUT,
            env=self._environment,
            pass_fds=tuple(self._inherited),
        )

    def _accept(self, listener: socket.socket) -> socket.socket:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            with suppress(TimeoutError):
                return listener.accept()[0]
            if self._process.poll() is not None:
                break
        raise self._error("it did not start")

    def _find_vcpus(self, monitor: _Lines) -> frozenset[int]:
        """Thread ids of the vCPUs, by QMP, which every program speaks."""
        try:
            monitor.receive()  # the greeting
            _query(monitor, "qmp_capabilities")
            return frozenset(cpu["thread-id"] for cpu in _query(monitor, "query-cpus-fast"))
        except (TimeoutError, ConnectionError) as error:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(1)
            raise self._error(f"its monitor does not answer: {error}") from None

    def _kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()

    def _end(self) -> None:
        self._serial.send("end")
        try:
            status = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise self._error("it did not end when its guest powered off") from None
        if status != 0:
            raise self._error(f"it ended with status {status}")
        self.output = self._read_output()

    def _read_output(self) -> str:
        self._said.seek(0)
        return self._said.read().decode(errors="replace").strip()

    def _error(self, message: str) -> BenchError:
        said = self._read_output()
        status = self._process.poll()
        ended = "" if status is None else f" (exit status {status})"
        return BenchError(
            f"{self.program.name}, machine '{self.rig.name}': {message}{ended}"
            + "".join(f"\n  it said: {line}" for line in said.splitlines()[-5:])
            + f"\n  command: {' '.join(self._command)}"
        )

    @property
    def pid(self) -> int:
        """Of the program's process."""
        return self._process.pid

    # -- measuring

    def _receive(self) -> str:
        try:
            return self._serial.receive()
        except (TimeoutError, ConnectionError):
            raise self._error("its guest says nothing more") from None

    def _expect(self, wanted: str) -> None:
        line = self._receive()
        if line != wanted:
            raise self._error(f"its guest said '{line}'")

    def measure_all(self, steps: Sequence[str]) -> Sequence[Measurement]:
        """As :meth:`measure`, each with the best frequency that all of them tell."""
        self.measure("clock")
        found = [self.measure(step) for step in steps]
        self.measure("clock")
        return [attrs.evolve(measurement, hz=self.frequency()) for measurement in found]

    def measure(self, step: str) -> Measurement:
        """Have STEP measured.

        :raises BenchError: the guest cannot, or requests failed
        """
        self._serial.send(step)
        self._expect("ready")
        before = cpu_time(self.pid, self._vcpus)
        began = time.monotonic_ns()
        self._serial.send("")
        self._expect("done")
        ended = time.monotonic_ns()
        spent = cpu_time(self.pid, self._vcpus).since(before)
        self._serial.send("")
        counts, histogram = parse_result(self._receive())
        if counts.get("failed"):
            raise self._error(f"{counts['failed']} of {counts['requests']} requests failed in '{step}'")
        self._ticks += [Tick(counts["start"], began), Tick(counts["end"], ended)]
        return Measurement(counts, self.frequency(), *spent, histogram=histogram)

    def frequency(self) -> float:
        """Cycles a second of the guest's counter, by the two moments that lie farthest apart; better with every step."""
        first, last = self._ticks[0], self._ticks[-1]
        return (last.cycles - first.cycles) / (last.ns - first.ns) * NANO


def _query(monitor: _Lines, command: str) -> Any:
    monitor.send(json.dumps({"execute": command}))
    while True:
        answer = json.loads(monitor.receive())
        if "return" in answer:  # events come in between
            return answer["return"]


def parse_result(line: str) -> tuple[dict[str, int], dict[int, int]]:
    """The guest's "result" line: counts, and the histogram.

    :raises BenchError: it is none
    """
    sort, *words = line.split()
    if sort != "result":
        raise BenchError(f"a guest said '{line}' instead of a result")
    values = dict(word.split("=", 1) for word in words)
    buckets = (bucket.split(":") for bucket in values.pop("histogram", "").split(",") if bucket)
    return {name: int(value) for name, value in values.items()}, {int(low): int(count) for low, count in buckets}
