# SPDX-License-Identifier: Apache-2.0
"""A virtio device in Python whose callbacks raise: it is broken, and says where; nobody else hears of it."""

import pytest

from qdevpy.testing.driver import ModernDriver
from qdevpy.testing.machine import FakeMachine
from qdevpy.virtio.device import VirtIODevice
from qdevpy.virtio.pci_types import device_types_for


class Moody(VirtIODevice):
    """Fails in one callback."""

    base_name = "virtio-moody"
    device_id = 60
    mood = ""

    def do_realize(self):
        self.add_queue(8)

    def fail(self, where):
        if self.mood == where:
            raise KeyError(where)

    def features_acked(self, features):
        self.fail("features_acked")

    def status_set(self, old, new):
        self.fail("status_set")

    def get_config(self):
        self.fail("get_config")
        return bytes(4)

    def set_config(self, offset, data):
        self.fail("set_config")

    def handle_output(self, queue):
        self.fail("handle_output")


@pytest.fixture
def moody():
    with FakeMachine() as machine:
        proxy = machine.plug_type(device_types_for(Moody)[0], id="m0")
        yield proxy.device, ModernDriver(machine, proxy)


CALLS = {
    "features_acked": ("features_acked", lambda driver: driver.start()),
    "status_set": ("status_set to ", lambda driver: driver.start()),
    "get_config": ("read of config space (offset 0x0, 4 bytes)", lambda driver: driver.read_config(0, 4)),
    "set_config": ("write of 0x7 to config space (offset 0x0, 4 bytes)", lambda driver: driver.write_config(0, 7, 4)),
    "handle_output": ("queue 0: KeyError", lambda driver: (driver.start(), driver.queues[0].kick())),
}


@pytest.mark.parametrize("mood", CALLS)
def test_callback_that_raises_breaks_the_device_and_is_told_with_device_and_access(moody, caplog, mood):
    device, driver = moody
    device.mood = mood
    what, act = CALLS[mood]
    try:
        act(driver)
    except AssertionError:
        assert device.broken is not None, "the driver gave up, and the device was not the reason"
    device.machine.wait_for(lambda: device.broken is not None, "broken")

    assert "KeyError" in device.broken
    assert "m0 (virtio-moody-" in caplog.text
    assert what in caplog.text
    assert "Traceback" in caplog.text
    assert device.status & 0x40, "DEVICE_NEEDS_RESET"


def test_device_that_failed_works_again_after_a_reset(moody):
    device, driver = moody
    device.mood = "get_config"
    assert driver.read_config(0, 4) == 0xFFFFFFFF
    device.mood = ""
    driver.set_status(0)
    driver.start()
    assert driver.read_config(0, 4) == 0
    assert device.broken is None
