# SPDX-License-Identifier: Apache-2.0
import threading
import time
from types import SimpleNamespace

import pytest

from qdevpy.vm.loop import MainLoop


class ChardevUser:
    """A device at a chardev: takes as much input as it has credit for, and remembers everything."""

    def __init__(self, chardev, credit=1 << 20):
        self.chardev = chardev
        self.credit = credit
        self.received = b""
        self.events = []
        self.writable = 0
        chardev.attach(lambda: self.credit, self._receive, self.events.append)

    def _receive(self, data):
        assert 0 < len(data) <= self.credit
        self.credit -= len(data)
        self.received += data

    def send(self, data):
        """Write as a device does: what was not taken goes when the chardev says so."""
        rest = data[self.chardev.write(data) :]
        if rest:
            self.chardev.on_writable(lambda: self._writable(rest))

    def _writable(self, rest):
        self.writable += 1
        self.send(rest)


class ChardevHost:
    """What a chardev needs of a machine."""

    def __init__(self):
        self.loop = MainLoop(threading.RLock())
        self.backends = {}
        self.shutdowns = []
        self.opened = []

    def request_shutdown(self, reason, status=0, *, cause="guest-shutdown"):
        self.shutdowns.append(reason)

    def open(self, cls, name="c0", **options):
        chardev = cls(id=name)
        for key, value in options.items():
            chardev.set_property(key.replace("_", "-"), value)
        chardev.machine = self
        chardev.open()
        self.backends["chardevs", name] = chardev
        self.opened.append(chardev)
        return chardev

    def until(self, condition, timeout=10):
        """Run the main loop until CONDITION holds."""
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, "did not happen"
            self.loop.run_once(0.05)

    def idle(self):
        """Run the main loop until nothing is ready."""
        for _ in range(20):
            self.loop.run_once(0)

    def close_chardevs(self):
        while self.opened:
            self.opened.pop().close()

    def close(self):
        self.close_chardevs()
        self.loop.close()


@pytest.fixture
def host():
    made = ChardevHost()
    yield made
    made.close()


@pytest.fixture
def plug():
    return SimpleNamespace(user=ChardevUser).user
