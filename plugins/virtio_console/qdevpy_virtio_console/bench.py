# SPDX-License-Identifier: Apache-2.0
"""What ``qdevpy bench`` measures of consoles."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence

from qdevpy.bench.guest import Guest
from qdevpy.bench.measurement import P50, P99, THROUGHPUT, Measurement
from qdevpy.bench.suite import Place, Rig, Row, Setting, Start, Suite

#: virtio's number of the device, and of the queue that port 0 sends through
SORT, TRANSMIT = 3, 1
SIZES = (64, 4096)


class ConsoleGuest(Guest):
    """A guest whose console ends at a thread of ours, which reads everything, and sends it back for steps that want an echo."""

    _echo = False

    @classmethod
    def of(cls, start: Start) -> ConsoleGuest:
        """As :meth:`Guest.of`."""
        path = start.place.memory / "console.sock"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(1)
            devices = [
                "-chardev",
                f"socket,id=term,path={path}",
                "-device",
                "virtio-serial-pci",
                "-device",
                "virtconsole,chardev=term",
            ]
            guest = cls(start.program, start.rig, devices, start.kernel)
            connection = listener.accept()[0]
        threading.Thread(target=guest._serve, args=[connection], daemon=True).start()
        return guest

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(1 << 16):
                if self._echo:
                    connection.sendall(data)

    def measure(self, step: str) -> Measurement:
        """As any guest."""
        self._echo = step.startswith("echo")
        return super().measure(step)


def _nothing(setting: Setting, place: Place) -> Sequence[str]:
    return ()


RIG = Rig("console", _nothing, session=ConsoleGuest.of)


def _rows() -> Iterator[Row]:
    for size in SIZES:
        yield Row(f"console-write-{size}", RIG, f"queue sort={SORT} index={TRANSMIT} size={size} depth=16", THROUGHPUT)
    yield Row("console-echo-p50", RIG, "echo", P50)
    yield Row("console-echo-p99", RIG, "echo", P99)


def suite() -> Suite:
    """Rows of consoles."""
    return Suite(list(_rows()))
