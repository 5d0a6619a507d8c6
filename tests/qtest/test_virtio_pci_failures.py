# SPDX-License-Identifier: Apache-2.0
"""What is left when something around a virtio-pci function fails: nothing, or a device that works."""

import os

import pytest
from null_device import NullDevice
from virtio_pci_rig import plugged, types_of

from qdevpy.errors import RealizeError
from qdevpy.testing.driver import LegacyDriver, ModernDriver
from qdevpy.testing.machine import FakeMachine
from qdevpy.virtio import defs, pci_legacy


class Failing(NullDevice):
    """Its configuration space is what fails."""

    type_name = "failing-device"
    base_name = "failing"

    def get_config(self) -> bytes:
        raise RealizeError("no configuration today", device=self.label)


class Early(NullDevice):
    """Fails before it has a queue."""

    type_name = "early-device"
    base_name = "early"

    def do_realize(self) -> None:
        raise RealizeError("not today", device=self.label)


@pytest.mark.parametrize("device_class", [Failing, Early])
def test_device_that_cannot_be_realized_leaves_nothing_and_its_slot_free(device_class):
    with FakeMachine(types=types_of(device_class) | types_of(NullDevice)) as machine:
        with pytest.raises(RealizeError, match="today"):
            machine.plug_type(f"{device_class.base_name}-pci", id="d0", addr="3")
        assert machine.pci.children == []
        driver = ModernDriver(machine, machine.plug_type("null-pci", addr="3"))
        driver.start()
        assert driver.queues[1].request([b"ping"], [4])[1] == b"gnip"


def test_error_of_the_device_behind_has_the_id_that_the_user_gave():
    with FakeMachine(types=types_of(Early)) as machine, pytest.raises(RealizeError, match=r"^d0 \(early-device\): not today"):
        machine.plug_type("early-pci", id="d0")


def test_accelerator_that_cannot_deassign_is_logged_and_the_device_goes_on(caplog):
    with plugged(ModernDriver) as driver:
        driver.start()
        accel = driver.machine.accelerator
        deassign = accel.deassign_ioevent

        def fail(event):
            deassign(event)
            raise OSError(5, "Input/output error")

        accel.deassign_ioevent = fail
        driver.set_status(0)
        assert "Input/output error" in caplog.text
        driver.start()
        assert driver.queues[1].request([b"ping"], [4])[1] == b"gnip"


def test_queue_that_is_taken_without_an_ioeventfd_is_kicked_by_hand_and_given_back():
    with plugged(ModernDriver, ioeventfd="off") as driver:
        driver.start()

        def refuse(event):
            raise OSError(28, "No space left on device")

        driver.machine.accelerator.assign_ioevent = refuse
        fd = driver.device.bindings.set_host_notifier(1, True)
        head = driver.queues[1].add([b"ping"], [4])
        driver.queues[1].kick()
        assert os.eventfd_read(fd) == 1
        assert driver.device.bindings.set_host_notifier(1, False) is None
        driver.queues[1].wait(head)
        assert driver.queues[1].read(head) == b"gnip"


def test_taken_queue_of_a_driver_that_goes_is_ours_again():
    with plugged(ModernDriver) as driver:
        driver.start()
        driver.device.bindings.set_host_notifier(1, True)
        driver.set_status(0)
        driver.start()
        assert driver.queues[1].request([b"ping"], [4])[1] == b"gnip"


def test_taken_queue_is_given_back_while_the_vm_is_stopped():
    with plugged(ModernDriver) as driver:
        driver.start()
        driver.device.bindings.set_host_notifier(1, True)
        driver.machine.pause()
        driver.device.bindings.set_host_notifier(1, False)
        assert driver.machine.accelerator.ioevents == []
        driver.machine.start()
        assert driver.queues[1].request([b"ping"], [4])[1] == b"gnip"


def test_vector_registers_without_msix_read_as_none():
    with plugged(ModernDriver, vectors=0) as driver:
        driver.proxy.set_config_vector(0)
        assert driver.proxy.config_vector == defs.NO_VECTOR


def test_vector_of_no_queue_reads_as_none():
    with plugged(LegacyDriver) as driver:
        driver.enable_msix()
        driver.write(pci_legacy.QUEUE_SEL, 99, 2)
        driver.write(pci_legacy.QUEUE_VECTOR, 1, 2)
        assert driver.read(pci_legacy.QUEUE_VECTOR, 2) == defs.NO_VECTOR


def test_broken_device_is_served_no_more_and_tells_its_driver():
    with plugged(ModernDriver) as driver:
        driver.start(msix=True)
        driver.device.mark_broken("on purpose")
        assert driver.interrupts(0) == 1
        queue = driver.queues[1]
        queue.add([b"ping"], [4])
        queue.kick()
        driver.machine.run_loop_once()
        assert queue.used_index == 0
        assert driver.status & defs.STATUS_NEEDS_RESET
        driver.set_status(driver.status & ~defs.STATUS_NEEDS_RESET)
        assert driver.status & defs.STATUS_NEEDS_RESET


def test_more_queues_than_a_device_can_have_are_refused():
    class Huge(NullDevice):
        def do_realize(self) -> None:
            for _ in range(1025):
                self.add_queue(1)

    with FakeMachine(types=types_of(Huge)) as machine:
        with pytest.raises(RealizeError, match="more than 1024 queues"):
            machine.plug_type("null-pci", id="d0")
        assert machine.pci.children == []


def test_driver_that_breaks_the_device_again_and_again_does_not_fill_the_log(caplog):
    with plugged() as driver:
        for _ in range(20):
            driver.device.reset()
            driver.device.mark_broken("ring")
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 10
    assert warnings[-1].getMessage().endswith("no more of this from now on")


def test_call_posted_for_a_queue_of_a_device_that_went_finds_it_idle():
    with plugged() as driver:
        queues = list(driver.device.queues)
        for queue in queues:
            driver.machine.loop.call_soon(queue.kick)
        driver.machine.pci.unplug(driver.proxy)
        assert not any(queue.pointer for queue in queues)  # what it pointed at has been freed
        driver.machine.run_loop_once()
        assert [queue.pop() for queue in queues] == [None] * 3
