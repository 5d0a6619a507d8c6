# SPDX-License-Identifier: Apache-2.0
"""A client of QEMU's qtest protocol: registers, memory, interrupts and time of a machine in another process.

    with QtestClient.connect("qtest.sock") as client:   # chardevs: {qt: {type: socket, path: qtest.sock, server: on}}
        client.irq_intercept_in("ioapic")
        client.outb(0x70, 0x0B)
        client.clock_step(1_000_000_000)
        assert client.irq_level(8)

It knows nothing of qdevpy and drives QEMU just as well.
"""

from __future__ import annotations

import base64
import socket
from collections.abc import Callable

#: seconds after which a silent server is given up
PATIENCE = 30.0


class QtestError(Exception):
    """The server's answer was not OK; ``str()`` is the answer."""


class QtestClient:
    """One connection.

    :ivar irq_levels: by number, of every line that has changed since it is intercepted
    :ivar irq_changes: all of these changes in order
    """

    def __init__(self, peer: socket.socket) -> None:
        peer.settimeout(PATIENCE)
        self._peer = peer
        self._input = b""
        self.irq_levels: dict[int, bool] = {}
        self.irq_changes: list[tuple[int, bool]] = []

    @classmethod
    def connect(cls, path: str) -> QtestClient:
        """To a server that listens at a UNIX socket."""
        peer = socket.socket(socket.AF_UNIX)
        try:
            peer.connect(path)
        except OSError:
            peer.close()
            raise
        return cls(peer)

    @classmethod
    def accept(cls, listener: socket.socket) -> QtestClient:
        """Take the connection of a server that connects to us, as QEMU does with ``-qtest unix:PATH``."""
        listener.settimeout(PATIENCE)
        return cls(listener.accept()[0])

    def close(self) -> None:
        """Hang up."""
        self._peer.close()

    def __enter__(self) -> QtestClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- lines

    def send(self, line: str) -> None:
        """Send a command and do not wait for its answer."""
        self._peer.sendall(line.encode() + b"\n")

    def receive(self) -> str:
        """The next answer; interrupts before it are noted.

        :raises EOFError: the server hung up
        """
        while True:
            line, newline, rest = self._input.partition(b"\n")
            if not newline:
                data = self._peer.recv(65536)
                if not data:
                    raise EOFError("the server hung up")
                self._input += data
                continue
            self._input = rest
            words = line.decode().split(" ")
            if words[0] != "IRQ":
                return line.decode()
            self.irq_levels[int(words[2])] = words[1] == "raise"
            self.irq_changes.append((int(words[2]), words[1] == "raise"))

    def command(self, *words: object) -> str:
        """Send a command; what follows OK in its answer.

        :raises QtestError: the answer is not OK
        """
        self.send(" ".join(map(str, words)))
        answer = self.receive()
        if answer.split(" ")[0] != "OK":
            raise QtestError(answer)
        return answer[3:]

    # -- ports

    def inb(self, port: int) -> int:
        """Read a byte."""
        return int(self.command("inb", port), 16)

    def inw(self, port: int) -> int:
        """Read 2 bytes."""
        return int(self.command("inw", port), 16)

    def inl(self, port: int) -> int:
        """Read 4 bytes."""
        return int(self.command("inl", port), 16)

    def outb(self, port: int, value: int) -> None:
        """Write a byte."""
        self.command("outb", port, value)

    def outw(self, port: int, value: int) -> None:
        """Write 2 bytes."""
        self.command("outw", port, value)

    def outl(self, port: int, value: int) -> None:
        """Write 4 bytes."""
        self.command("outl", port, value)

    # -- memory

    def readb(self, address: int) -> int:
        """Read a byte."""
        return int(self.command("readb", address), 16)

    def readw(self, address: int) -> int:
        """Read 2 bytes."""
        return int(self.command("readw", address), 16)

    def readl(self, address: int) -> int:
        """Read 4 bytes."""
        return int(self.command("readl", address), 16)

    def readq(self, address: int) -> int:
        """Read 8 bytes."""
        return int(self.command("readq", address), 16)

    def writeb(self, address: int, value: int) -> None:
        """Write a byte."""
        self.command("writeb", address, value)

    def writew(self, address: int, value: int) -> None:
        """Write 2 bytes."""
        self.command("writew", address, value)

    def writel(self, address: int, value: int) -> None:
        """Write 4 bytes."""
        self.command("writel", address, value)

    def writeq(self, address: int, value: int) -> None:
        """Write 8 bytes."""
        self.command("writeq", address, value)

    def memread(self, address: int, size: int) -> bytes:
        """Read SIZE bytes."""
        return base64.b64decode(self.command("b64read", address, size))

    def memwrite(self, address: int, data: bytes) -> None:
        """Write DATA."""
        self.command("b64write", address, len(data), base64.b64encode(data).decode())

    def memset(self, address: int, size: int, value: int) -> None:
        """Write SIZE bytes VALUE."""
        self.command("memset", address, size, value)

    # -- interrupts and time

    def irq_intercept_in(self, path: str) -> None:
        """Have changes of a device's inputs told; ``ioapic``: the interrupt lines."""
        self.command("irq_intercept_in", path)

    def irq_level(self, line: int) -> bool:
        """A line's level as of now."""
        self.command("endianness")  # what has changed comes before the answer
        return self.irq_levels.get(line, False)

    def clock_step(self, ns: int | None = None) -> int:
        """Move time by NS nanoseconds, or to the next timer; the time then."""
        return int(self.command("clock_step", *([] if ns is None else [ns])))

    def clock_set(self, ns: int) -> int:
        """Move time to NS; the time then."""
        return int(self.command("clock_set", ns))

    def wait_for(self, condition: Callable[[], bool], *, step: int = 100, steps: int = 100_000) -> None:
        """Step time until CONDITION holds: what an I/O thread does takes time of the host's, not of the guest's.

        :raises TimeoutError: it does not
        """
        for _ in range(steps):
            if condition():
                return
            self.clock_step(step)
        raise TimeoutError(f"not within {steps} steps of {step} ns")
