# SPDX-License-Identifier: Apache-2.0
"""A machine under test in a process of its own: started from a definition, watched, and closed whatever happens.

::

    with BootedMachine("machine.yaml", {"memory": "64M"}) as machine:
        machine.console.expect("login:")
        assert machine.wait() == 0
"""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from qdevpy.testing.qmp import QMPClient
from qdevpy.testing.transcript import Console, Transcript

PATIENCE = 60.0  #: seconds to wait for whatever is expected of a machine, by default
GRACE = 10.0  #: seconds that a machine has to end when it is closed, before it is killed
OURS = "qdevpy-"  #: what names in a definition begin with that no test gives
QMP = f"{OURS}qmp"  #: the chardev of :attr:`BootedMachine.qmp`


def find_definition(name: str | os.PathLike[str]) -> Path:
    """The file of a definition: a path, or the name of a packaged one.

    :raises UnknownNameError: neither
    """
    from qdevpy.cli.machines import find_machine
    from qdevpy.plugin.manager import load_plugins

    return Path(find_machine(os.fspath(name), load_plugins())).resolve()


class BootedMachine:
    """One machine, from its start to its end.

    :param base: definitions that it is laid over: paths, or names of packaged ones
    :param keys: top-level keys of the definition, which win over ``base`` (their ``devices:`` come after its own)
    :param qmp: have :attr:`qmp`; replaces ``monitors:``
    :param channels: chardevs to make, each a socket whose other end is in :attr:`channels`
    :param options: more of ``qdevpy boot``
    :param patience: seconds to wait for what is expected, where a call does not say
    :raises AssertionError: the machine ends before it has begun; says why
    :ivar console: standard input and output, as a ``stdio`` chardev has them
    :ivar log: what qdevpy has to say, devices' failures among it
    """

    def __init__(
        self,
        base: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
        keys: Mapping[str, Any] | None = None,
        *,
        name: str = "machine",
        qmp: bool = False,
        channels: Sequence[str] = (),
        options: Sequence[str] = (),
        patience: float = PATIENCE,
    ) -> None:
        bases = [base] if isinstance(base, str | os.PathLike) else base
        self.name = name
        self.patience = patience
        self.qmp_client: QMPClient | None = None
        self.channels: dict[str, Console] = {}
        self._folder = Path(tempfile.mkdtemp(prefix="qdevpy-"))  # short: paths of UNIX sockets have at most 107 bytes
        self._process: subprocess.Popen[bytes] | None = None
        try:
            wanted = [QMP] * qmp + list(channels)
            listeners = {channel: self._listen(number) for number, channel in enumerate(wanted)}
            definition = self._write(bases, dict(keys or {}), listeners)
            self._start([os.fspath(definition), *options])
            for channel, listener in listeners.items():
                self._connect(channel, self._accept(listener, channel))
        except BaseException:
            self.close()
            raise

    # -- the start

    def _listen(self, number: int) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self._folder / str(number)))
        listener.listen(1)
        return listener

    def _write(
        self, bases: Sequence[str | os.PathLike[str]], keys: dict[str, Any], listeners: Mapping[str, socket.socket]
    ) -> Path:
        """Lay our own definition over BASES; it is JSON, which YAML takes."""
        laid: dict[str, Any] = {"include": [str(find_definition(base)) for base in bases]} if bases else {}
        laid |= {key.replace("_", "-") if key != "fw_cfg" else key: value for key, value in keys.items()}
        sockets = {name: {"type": "socket", "path": listener.getsockname()} for name, listener in listeners.items()}
        if sockets:
            laid["chardevs"] = {**laid.get("chardevs", {}), **sockets}
        if QMP in listeners:
            laid["monitors"] = [{"chardev": QMP}]
        path = self._folder / "machine.yaml"
        path.write_text(json.dumps(laid, indent=2, default=os.fspath))
        return path

    def _start(self, words: list[str]) -> None:
        ours, theirs = socket.socketpair()
        log, log_end = os.pipe()
        command = [sys.executable, "-m", "qdevpy.testing.attended", str(os.getpid()), "boot", "-v", *words]
        with theirs:
            try:
                # a session of its own: Ctrl-C on the terminal is for the test run, which closes the machine then
                self._process = subprocess.Popen(
                    command,
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=log_end,
                    start_new_session=True,
                    # a definition of which there is just one run is not worth keeping
                    env=os.environ | {"XDG_CACHE_HOME": str(self._folder)},
                )
            finally:
                os.close(log_end)
        self.console = Console(f"console of {self.name}", ours, self.patience)
        self.log = Transcript(f"log of {self.name}", log, self.patience)

    def _accept(self, listener: socket.socket, channel: str) -> socket.socket:
        """The machine's end of a chardev, which it connects before it starts."""
        assert self._process is not None
        ended = os.pidfd_open(self._process.pid)
        try:
            ready, _, _ = select.select([listener.fileno(), ended], [], [], self.patience)
            if listener.fileno() not in ready:
                self.log.join(GRACE if ready else 0)
                why = f"ended with status {self._process.wait()}" if ready else f"did not start within {self.patience:g} s"
                raise AssertionError(f"{self.name} {why}, and did not connect chardev '{channel}':\n{self.log.text}")
            return listener.accept()[0]
        finally:
            os.close(ended)
            listener.close()

    def _connect(self, channel: str, peer: socket.socket) -> None:
        if channel == QMP:
            self.qmp_client = QMPClient(peer, self.patience)
        else:
            name = f"{channel.removeprefix(OURS)} of {self.name}"
            self.channels[channel] = Console(name, peer, self.patience)

    # -- while it runs

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the machine has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def qmp(self) -> QMPClient:
        """The machine's monitor; it must have been asked for."""
        assert self.qmp_client is not None, "this machine has no monitor: give qmp=True"
        return self.qmp_client

    def expect(self, pattern: str, timeout: float | None = None) -> Any:
        """As :meth:`Transcript.expect` of the console."""
        return self.console.expect(pattern, timeout)

    def send(self, text: str) -> None:
        """As :meth:`Console.send` of the console."""
        self.console.send(text)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the machine has ended; its exit status, with everything it said in the transcripts.

        :raises AssertionError: it does not end in time; shows its log
        """
        assert self._process is not None
        seconds = self.patience if timeout is None else timeout
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {seconds:g} s:\n{self.log.text}") from None
        self._join()
        return status

    # -- the end

    def _join(self) -> None:
        for transcript in (self.console, self.log, *self.channels.values()):
            transcript.join(GRACE)

    def close(self) -> None:
        """End the machine, kindly first; a second time it does nothing."""
        if self._process is not None:
            self._end(self._process)
            self.console.hang_up()
            for channel in self.channels.values():
                channel.hang_up()
            if self.qmp_client is not None:
                self.qmp_client.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                process.terminate()
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._join()

    def __enter__(self) -> BootedMachine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
