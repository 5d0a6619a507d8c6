# SPDX-License-Identifier: Apache-2.0
"""A program with a stdio chardev and an echoing device, for tests of terminals; run as a process of its own.

usage: stdio_program.py WAY [option=value ...]
"""

import fcntl
import os
import signal
import sys

from conftest import ChardevHost, ChardevUser

from qdevpy.backend.chardev_stdio import StdioChardev
from qdevpy.errors import BackendError


class Echo(ChardevUser):
    """Answers every piece of input with its repr; ``quit`` ends, ``raise`` fails."""

    def __init__(self, host, chardev, credit):
        self.host = host
        super().__init__(chardev, credit)
        chardev.attach(lambda: self.credit, self._receive, self._event)

    def _receive(self, data):
        super()._receive(data)
        self.send(repr(data).encode() + b"\r\n")
        if b"quit" in data:
            self.host.request_shutdown("asked to")

    def _event(self, event):
        self.send(f"event {event} {self.chardev.terminal_size}\r\n".encode())


def flags():
    return [fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK for fd in (0, 1, 2)]


def main(way, *options):
    host = ChardevHost()
    signal.signal(signal.SIGTERM, lambda *_: host.request_shutdown("SIGTERM"))
    signal.set_wakeup_fd(host.loop.wake_fd, warn_on_full_buffer=False)
    try:
        chardev = host.open(StdioChardev, "term", **dict(option.split("=") for option in options))
    except BackendError as error:
        print(error, file=sys.stderr)
        return 3
    user = Echo(host, chardev, 0 if way == "deaf" else 1 << 20)
    user.send(f"ready {way} {flags()}\r\n".encode())
    if way == "flood":
        user.send(b"0123456789abcdef" * 65536)
        print("output waits" if chardev._waiting else "all is sent already", file=sys.stderr, flush=True)
        host.until(lambda: not chardev._waiting and user.writable, timeout=60)
        host.request_shutdown("all sent")
    if way == "exit":
        sys.exit(4)  # nobody closes anything
    try:
        while not host.shutdowns:
            host.loop.run_once(10)
            if way == "raise":
                raise RuntimeError("for the test")
    finally:
        host.close()
    print(f"ended: {host.shutdowns[0]}", file=sys.stderr)
    return 0


sys.exit(main(*sys.argv[1:]))
