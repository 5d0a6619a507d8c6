# SPDX-License-Identifier: Apache-2.0
"""A virtio device as an author writes it: config space with fields, features as properties, buffers, failures."""

import pytest

from qdevpy.qdev import property as prop
from qdevpy.testing.driver import ModernDriver
from qdevpy.testing.machine import FakeMachine
from qdevpy.virtio.config_space import ConfigSpace, le8, le16, le32, le64, raw
from qdevpy.virtio.device import VirtIODevice
from qdevpy.virtio.pci_types import device_types_for

F_COLOUR = 3


class LampConfig(ConfigSpace):
    """Brightness can be set by the driver."""

    brightness: int = le16(100, writable=True)
    mode: int = le8(1)
    spare: int = le8(writable=True)
    lamps: int = le32(4)
    energy: int = le64()
    name: bytes = raw(8, b"lamp")


class Lamp(VirtIODevice):
    """Inverts buffers in place of light."""

    base_name = "virtio-lamp"
    device_id = 50
    config_type = LampConfig
    colour: bool = prop.bit("features", F_COLOUR, True, help="lamps have colours")

    def do_realize(self):
        self.written = []
        self.add_queue(16)

    def config_fields_written(self, names):
        self.written.append([*names])
        if self.config_space.brightness == 0xDEAD:
            raise RuntimeError("too bright")

    def handle_output(self, queue):
        while (element := queue.pop()) is not None:
            source, target = element.readable[0], element.writable[0]
            for i, byte in enumerate(source):
                target[i] = byte ^ 0xFF
            queue.push(element, len(source))
        queue.flush()


@pytest.fixture
def machine():
    with FakeMachine() as made:
        yield made


@pytest.fixture
def driver(machine):
    started = ModernDriver(machine, machine.plug_type(device_types_for(Lamp)[0], id="lamp0"))
    started.start(1 << F_COLOUR)
    return started


def test_config_space_is_packed_little_endian_in_the_order_of_its_fields(driver):
    assert driver.read_config(0, 2) == 100
    assert [driver.read_config(offset, 1) for offset in (2, 3)] == [1, 0]
    assert driver.read_config(4, 4) == 4
    assert driver.read_config(16, 4) == int.from_bytes(b"lamp", "little")


def test_driver_writes_writable_fields_only_and_the_device_hears_of_them(driver):
    lamp = driver.proxy.device
    driver.write_config(0, 0xFFFF_FF07, 4)
    assert (lamp.config_space.brightness, lamp.config_space.mode, lamp.config_space.spare) == (0xFF07, 1, 0xFF)
    driver.write_config(1, 0x01, 1)
    driver.write_config(4, 9, 4)
    assert lamp.config_space.brightness == 0x0107
    assert lamp.config_space.lamps == 4
    assert lamp.written == [["brightness", "spare"], ["brightness"]]


def test_change_of_the_config_is_told_with_a_new_generation(driver):
    lamp, before = driver.proxy.device, driver.proxy.config_generation
    with driver.machine.lock:
        lamp.change_config(lamps=7)
    assert driver.read_config(4, 4) == 7
    assert driver.proxy.config_generation == before + 1


def test_value_that_does_not_fit_is_refused_and_nothing_changes(driver):
    lamp = driver.proxy.device
    with pytest.raises(ValueError, match="config space field lamps has 4 bytes and cannot be -1"):
        lamp.change_config(brightness=5, lamps=-1)
    assert lamp.config_space.brightness == 100
    with pytest.raises(ValueError, match="field name has 8 bytes and cannot be b'much too long'"):
        lamp.change_config(name=b"much too long")


def test_each_device_has_a_config_space_of_its_own(machine, driver):
    other = machine.plug_type(device_types_for(Lamp)[0], id="lamp1")
    driver.write_config(0, 1, 2)
    assert other.device.config_space.brightness == 100


def test_buffers_are_guest_memory_and_not_copied(driver):
    assert driver.queues[0].request([b"\x00\x0f"], [4]) == (2, b"\xff\xf0\x00\x00")


def test_feature_that_the_user_takes_away_is_not_offered(machine):
    proxy = machine.plug_type(device_types_for(Lamp)[0], colour="off")
    assert not ModernDriver(machine, proxy).offered >> F_COLOUR & 1


def test_failure_in_a_config_callback_asks_for_a_reset(driver, caplog):
    driver.write_config(0, 0xDEAD, 2)
    assert driver.status & 64
    assert "lamp0" in caplog.text
    assert "in write of config space field brightness" in caplog.text
    assert "RuntimeError: too bright" in caplog.text


def test_timer_of_a_virtio_device_that_raises_asks_for_a_reset(machine, driver, caplog):
    driver.proxy.device.timer(lambda: 1 // 0).start(0)
    machine.wait_for(lambda: driver.status & 64, "NEEDS_RESET")
    assert "ZeroDivisionError" in caplog.text
    driver.start()
    assert driver.queues[0].request([b"\x01"], [1]) == (1, b"\xfe")
