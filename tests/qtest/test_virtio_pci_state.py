# SPDX-License-Identifier: Apache-2.0
"""A virtio-pci function's state as plain data: saved from one machine, loaded into another."""

import json
import struct

import pytest
from null_device import NullDevice
from virtio_pci_rig import BIT_5, types_of

from qdevpy.testing.driver import LegacyDriver, ModernDriver
from qdevpy.testing.machine import FakeMachine


def plug(machine):
    return machine.plug_type("null-pci", id="null0")


@pytest.mark.parametrize("driver_class", [LegacyDriver, ModernDriver])
@pytest.mark.parametrize("msix", [True, False])
def test_saved_device_goes_on_in_another_machine(driver_class, msix):
    with FakeMachine(types=types_of(NullDevice)) as source, FakeMachine(types=types_of(NullDevice)) as target:
        proxy = plug(source)
        driver = driver_class(source, proxy)
        driver.start(BIT_5, msix=msix)
        for index in range(3):
            driver.queues[index].request([b"before"], [6])
            if msix:
                driver.wait_interrupt(index + 1)
        source.pause()
        state = json.loads(json.dumps(proxy.device.bindings.save()))

        target.pause()
        twin = plug(target)
        target.memory.write(0, source.memory.read(0, source.memory_size))
        twin.device.bindings.load(state)
        target.start()

        assert twin.device.features == proxy.device.features
        assert len(target.accelerator.ioevents) == 3
        driver.machine, driver.proxy, driver.bus = target, twin, target.pci
        for queue in driver.queues:
            queue.memory = target.memory
        for index in range(3):
            _, data = driver.queues[index].request([b"after"], [5])
            assert data == (b"retfa" if index == 1 else bytes(5))
            if msix:
                driver.wait_interrupt(index + 1)
        assert struct.unpack("<H", target.memory.read(driver.queues[0].used + 2, 2)) == (2,)


def test_pending_interrupt_is_saved_and_delivered_afterwards():
    with FakeMachine(types=types_of(NullDevice)) as source, FakeMachine(types=types_of(NullDevice)) as target:
        driver = ModernDriver(source, plug(source))
        driver.start(msix=True)
        driver.mask_vector(2, True)
        driver.queues[1].request([b"x"], [1])
        source.pause()
        state = driver.proxy.device.bindings.save()
        target.pause()
        twin = plug(target)
        twin.device.bindings.load(state)
        driver.machine, driver.proxy, driver.bus = target, twin, target.pci
        assert driver.is_pending(2)
        driver.mask_vector(2, False)
        assert driver.interrupts(2) == 1


def test_isr_and_line_are_saved():
    with FakeMachine(types=types_of(NullDevice)) as source, FakeMachine(types=types_of(NullDevice)) as target:
        driver = LegacyDriver(source, plug(source))
        driver.start()
        driver.queues[1].request([b"x"], [1])
        source.pause()
        state = driver.proxy.device.bindings.save()
        target.pause()
        twin = plug(target)
        twin.device.bindings.load(state)
        driver.machine, driver.proxy, driver.bus = target, twin, target.pci
        assert driver.intx_level
        assert driver.read_isr() == 1
        assert not driver.intx_level
