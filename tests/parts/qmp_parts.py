# SPDX-License-Identifier: Apache-2.0
"""A machine in this process with monitors, and QMP's side of a client, in plain blocking calls."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

from qdevpy.definition.model import BackendDefinition, DeviceDefinition, MachineDefinition, MonitorDefinition, Position, Value
from qdevpy.plugin.manager import load_plugins
from qdevpy.vm.build import build_machine

HERE = Position("test.yaml", 1, 1)
PATIENCE = 20


def value(text):
    return Value(str(text), HERE)


def backend(name, kind, **options):
    return BackendDefinition(name, kind, {key: value(text) for key, text in options.items()}, HERE)


def chardev(name, kind="socket", **options):
    return backend(name, kind, **options)


def device(kind, **options):
    return DeviceDefinition(kind, {key: value(text) for key, text in options.items()}, HERE)


class RunningMachine:
    """A machine of accelerator ``none`` whose main loop runs on a thread of its own.

    :param chardevs: entries of ``chardevs:``; every one gets a QMP monitor
    """

    def __init__(self, *chardevs, start=True, pretty=False, mode="control", **fields):
        monitors = tuple(MonitorDefinition(value(entry.name), mode, pretty) for entry in chardevs)
        definition = MachineDefinition(
            **{"machine": "none", "accel": "none", "monitors": monitors, **fields},
            chardevs={entry.name: entry for entry in chardevs},
        )
        self.machine = build_machine(definition, load_plugins())
        self.machine.reset()
        if start and not definition.run.paused:
            self.machine.start()
        self.thread = threading.Thread(target=self._run)
        self.ending = None

    def _run(self):
        with self.machine:
            self.ending = self.machine.run()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        if self.machine.ending is None:
            with self.machine.lock:  # or the loop might be closed while it is being woken
                self.machine.request_shutdown("the test is over", cause="host-signal")
        self.join()

    def join(self):
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()

    def call(self, function):
        """Call FUNCTION on the main loop's thread; what it returns."""
        done = threading.Event()
        answers = []

        def work():
            try:
                answers.append(function())
            finally:
                done.set()

        self.machine.loop.call_soon(work)
        assert done.wait(PATIENCE)
        return answers[0]


class Client:
    """One connection.

    :param address: a path, or (host, port)
    """

    def __init__(self, address, negotiate=True, capabilities=()):
        self.socket = socket.socket(socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(address if isinstance(address, tuple) else str(address))
        self._begin(negotiate, capabilities)

    @classmethod
    def of(cls, connection, negotiate=True):
        """A client on a connection that there is."""
        client = cls.__new__(cls)
        client.socket = connection
        client._begin(negotiate, ())
        return client

    def _begin(self, negotiate, capabilities):
        self.file = self.socket.makefile("rb")
        self.events = []
        if negotiate:
            self.greeting = self.receive()
            assert self.command("qmp_capabilities", enable=list(capabilities)) == {}

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self.file.close()
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else json.dumps(data).encode() + b"\n")

    def receive(self):
        """The next message; None at the end."""
        line = self.file.readline()
        return json.loads(line) if line else None

    def answer(self):
        """The next answer; events on the way are kept."""
        while (message := self.receive()) is not None and "event" in message:
            self.events.append(message)
        return message

    def ask(self, data):
        """Send anything; the answer."""
        self.send(data)
        return self.answer()

    def command(self, name, **arguments):
        """Execute a command that succeeds; what it returns. ``_`` is ``-`` in names of arguments."""
        arguments = {key.replace("_", "-"): value for key, value in arguments.items()}
        answer = self.ask({"execute": name, "arguments": arguments})
        assert "return" in answer, answer
        return answer["return"]

    def event(self, name):
        """Wait for an event; it, without its time."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            for index, event in enumerate(self.events):
                if event["event"] == name:
                    del self.events[index]
                    assert set(event.pop("timestamp")) == {"seconds", "microseconds"}
                    return event
            message = self.receive()
            assert message is not None, f"the connection ended before {name}"
            self.events.append(message)
        raise AssertionError(f"no event {name}")


#: the demo machine, with a monitor
DEMO = """
machine: pc
accel: kvm
memory: 64M
boot: {{kernel: {kernel}, cmdline: disks=1 nics=2 serial=demo0 writable}}
run: {{{run}}}
drives:
  disk: {{scratch: 16M}}
netdevs:
  left: {{type: hubport, hubid: 0}}
  right: {{type: hubport, hubid: 0}}
chardevs:
  term: {{type: stdio}}
  qmp: {{type: socket, path: {socket}, server: on}}
monitors:
  - {{chardev: qmp, mode: control}}
devices:
  - virtio-serial-pci: {{id: vser0}}
  - virtconsole: {{bus: vser0.0, chardev: term}}
  - virtio-blk-pci: {{id: disk0, drive: disk, serial: demo0}}
  - virtio-net-pci: {{id: nic0, netdev: left}}
  - virtio-net-pci: {{id: nic1, netdev: right}}
  - isa-debug-exit: {{iobase: 0x501}}
"""


class Demo:
    """The demo machine as a process of its own, on KVM.

    :param folder: for its files
    :param run: of its definition's ``run:``
    :ivar path: of its QMP socket
    """

    def __init__(self, folder, run=""):
        import qdevpy_machine

        self.folder, self.path = folder, folder / "qmp"
        kernel = os.path.join(os.path.dirname(qdevpy_machine.__file__), "guest", "demo.elf")
        (folder / "m.yaml").write_text(DEMO.format(kernel=kernel, socket=self.path, run=run))

    def __enter__(self):
        command = [sys.executable, "-m", "qdevpy", "boot", str(self.folder / "m.yaml")]
        with open(self.folder / "out", "wb") as out, open(self.folder / "err", "wb") as err:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        end = time.monotonic() + PATIENCE
        while not self.path.exists():
            assert self.process.poll() is None, self.errors()
            assert time.monotonic() < end
            time.sleep(0.01)
        return self

    def __exit__(self, *exc):
        self.process.kill()
        self.process.wait()

    def output(self):
        return (self.folder / "out").read_text()

    def errors(self):
        return (self.folder / "err").read_text()
