# SPDX-License-Identifier: Apache-2.0
"""A C handler that crashes takes the process along; who did it is said first."""

import os
import signal
import subprocess
import sys

import pytest

#: the kick is a function at an address where nothing is
PROGRAM = """
import struct, sys
from qdevpy.native.core import ffi
from qdevpy.testing.driver import ModernDriver
from qdevpy.testing.machine import FakeMachine
from qdevpy.virtio.device import VirtIODevice
from qdevpy.virtio.pci_types import device_types_for
from qdevpy.virtio.queue import NativeHandler

OPS = ffi.new("char[]", struct.pack("QQQ", 0x10, 0, 0))

class Crash(VirtIODevice):
    base_name = "virtio-crash"
    device_id = 60

    def do_realize(self):
        self.add_queue(8)
        self.add_queue(8, native=NativeHandler(OPS))

    def handle_output(self, queue):
        pass

with FakeMachine() as machine:
    driver = ModernDriver(machine, machine.plug_type(device_types_for(Crash)[0], id="crash0", ioeventfd=sys.argv[1]))
    driver.start()
    driver.queues[1].add([b"x"])
    driver.queues[1].kick()
    machine.wait_for(lambda: False)
"""


@pytest.mark.parametrize("ioeventfd", ["on", "off"])
def test_handler_that_crashes_is_named_with_device_queue_and_package(ioeventfd):
    done = subprocess.run([sys.executable, "-c", PROGRAM, ioeventfd], capture_output=True, text=True, timeout=60)

    assert done.returncode == -signal.SIGSEGV
    assert "crash0" in done.stderr
    access = "signal 11 at address 0x10 in its C handler, while serving a kick of queue 1; the machine has ended\n"
    assert f", of __main__: {access}" in done.stderr


def test_crash_elsewhere_is_none_of_a_handlers():
    crash = "import os, qdevpy.native.core as core, signal; core.lib.qd_report_faults(); os.kill(os.getpid(), signal.SIGSEGV)"
    environment = os.environ | {"PYTHONFAULTHANDLER": "1"}
    done = subprocess.run([sys.executable, "-c", crash], capture_output=True, text=True, timeout=60, env=environment)

    assert done.returncode == -signal.SIGSEGV
    assert "qdevpy:" not in done.stderr
    assert "Fatal Python error: Segmentation fault" in done.stderr, "whoever listened before still hears of it"
