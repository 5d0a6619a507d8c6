# SPDX-License-Identifier: Apache-2.0
"""A machine on KVM with a guest that does what it is told: the demo guest in bench mode, as `qdevpy boot` runs it.

As a program it draws the picture of docs/top.md: `python tests/parts/busy_machine.py docs/top.svg`.
"""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import qdevpy_machine

PATIENCE = 30

DEFINITION = """
machine: pc
accel: kvm
memory: 128M
name: {name}
boot: {{kernel: {kernel}, cmdline: bench}}
drives:
  disk: {{scratch: 64M, cache: {{direct: off}}}}
netdevs:
  left: {{type: hubport, hubid: 0}}
  right: {{type: hubport, hubid: 0}}
chardevs:
  serial: {{type: socket, path: {folder}/serial}}
  term: {{type: "null"}}
objects:
  io0: {{type: iothread}}
devices:
  - isa-serial: {{chardev: serial}}
  - virtio-blk-pci: {{id: disk0, drive: disk, iothread: io0, queue-size: 128}}
  - virtio-net-pci: {{id: nic0, netdev: left}}
  - virtio-net-pci: {{id: nic1, netdev: right}}
  - virtio-serial-pci: {{id: vser0}}
  - virtconsole: {{bus: vser0.0, chardev: term}}
  - isa-debug-exit: {{iobase: 0x501}}
"""


class BusyMachine:
    """A context manager: `qdevpy boot` of that machine, whose control socket lies below FOLDER.

    :ivar environment: in which `qdevpy top` finds it
    """

    def __init__(self, folder, name="busy"):
        self.folder = Path(folder)
        self.environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder)}
        kernel = Path(qdevpy_machine.__file__).parent / "guest" / "demo.elf"
        self.definition = self.folder / f"{name}.yaml"
        self.definition.write_text(DEFINITION.format(name=name, kernel=kernel, folder=folder))

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(self.folder / "serial"))
            listener.listen(1)
            listener.settimeout(PATIENCE)
            command = [sys.executable, "-m", "qdevpy", "boot", str(self.definition)]
            self.process = stack.enter_context(subprocess.Popen(command, stdin=subprocess.DEVNULL, env=self.environment))
            stack.callback(self.process.kill)
            self.serial = stack.enter_context(listener.accept()[0])
            self.serial.settimeout(PATIENCE)
            self.lines = stack.enter_context(self.serial.makefile("rb"))
            assert self.lines.readline().startswith(b"bench ")
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, *exc):
        self._cleanup.close()

    @property
    def control(self):
        """The path of its control socket."""
        (path,) = (self.folder / "qdevpy").glob(f"*.{self.process.pid}.sock")
        return str(path)

    def do(self, step):
        """Have a step of the bench guest carried out."""
        for line, answer in ((step, b"ready"), ("", b"done"), ("", b"result")):
            self.serial.sendall(line.encode() + b"\n")
            said = self.lines.readline()
            assert said.startswith(answer), (step, said)

    def power_off(self):
        """Its exit status."""
        self.serial.sendall(b"end\n")
        return self.process.wait(PATIENCE)

    @contextlib.contextmanager
    def doing(self, *steps):
        """Steps in turns, until the block is over."""
        over = threading.Event()

        def work():
            while not over.is_set():
                for step in steps:
                    self.do(step)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def top(self, *options):
        """`qdevpy top`; the finished process."""
        command = [sys.executable, "-m", "qdevpy", "top", *options]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=PATIENCE)


def draw(file):
    """The picture of the documentation."""
    steps = ("blk op=write size=4096 depth=32 cycles=300000000", "net op=pair size=1500 depth=32 cycles=200000000")
    with tempfile.TemporaryDirectory() as folder, BusyMachine(folder) as machine:
        with machine.doing(*steps):
            done = machine.top("--svg", file, "-n", "2", "-d", "2", "--queues")
        assert done.returncode == 0, done.stderr
        assert machine.power_off() == 0


if __name__ == "__main__":
    draw(sys.argv[1])
