# SPDX-License-Identifier: Apache-2.0
"""The ten rules of docs/host-notifiers.md, one after the other.

``test_rules_fail_when_broken.py`` breaks the code that carries each of them out and runs these tests again: they take
no fixtures, so that it can.
"""

import os

import pytest
from notifier_rig import ALL_COMMAND, DRIVER, NATIVE, PYTHON, Rig, warnings_of_notifiers

from qdevpy.pci import config
from qdevpy.testing.driver import LegacyDriver, ModernDriver
from qdevpy.virtio import defs, pci_legacy

both_interfaces = pytest.mark.parametrize("driver", [LegacyDriver, ModernDriver])
EVERY_QUEUE = [0, 1, 2]


# -- 1: DRIVER_OK, bus mastering, VM running -> assign, attach, kick once


@both_interfaces
def test_rule_01_driver_ok_assigns_every_queue_then_attaches_then_kicks_once(driver):
    with Rig(driver) as rig:
        last = rig.start_without_driver_ok()
        assert (rig.assigned, rig.attached) == ([], [])
        trace = rig.record()
        rig.driver.set_status(last)
        assert (rig.assigned, rig.attached) == (EVERY_QUEUE, EVERY_QUEUE)
        assert trace == [(step, n) for step in ("assign", "attach", "kick") for n in EVERY_QUEUE]


@both_interfaces
def test_rule_01_kick_before_driver_ok_is_served_after_it_without_another(driver):
    with Rig(driver) as rig:
        last = rig.start_without_driver_ok()
        heads = [queue.add([b"ping"], [4]) for queue in rig.driver.queues]
        rig.driver.set_status(last)
        for queue, head in zip(rig.driver.queues, heads, strict=True):
            queue.wait(head, rig.patience)


def test_rule_01_queue_of_size_zero_is_left_out():
    with Rig() as rig:
        last = rig.start_without_driver_ok()
        rig.device.queues[1].size = 0
        rig.driver.set_status(last)
        assert (rig.assigned, rig.attached) == ([0, 2], [0, 2])


@pytest.mark.parametrize("missing", ["bus mastering", "running VM", "user's choice"])
def test_rule_01_without_all_conditions_nothing_is_assigned(missing):
    with Rig(ioeventfd="off" if missing == "user's choice" else "on") as rig:
        if missing == "bus mastering":
            rig.driver.set_command(ALL_COMMAND & ~config.COMMAND_MASTER)
        if missing == "running VM":
            rig.machine.pause()
        rig.start()
        assert (rig.assigned, rig.attached) == ([], [])


@both_interfaces
def test_rule_01_kick_travels_by_ioeventfd(driver):
    with Rig(driver) as rig:
        rig.start()
        for n in EVERY_QUEUE:
            before = rig.kicks(n)["kicks_sync"]
            rig.round_trip(n)
            assert rig.kicks(n)["kicks_ioeventfd"] == 1
            assert rig.kicks(n)["kicks_sync"] == before


def test_rule_01_queue_enabled_after_driver_ok_is_served():
    with Rig() as rig:
        rig.start(queues=1)
        rig.driver.queues += [rig.driver.setup_queue(1), rig.driver.setup_queue(2)]
        assert (rig.assigned, rig.attached) == (EVERY_QUEUE, EVERY_QUEUE)
        assert rig.round_trip(PYTHON) == b"gnip"
        rig.round_trip(2)


# -- 2: DRIVER_OK cleared by a status write -> detach, deassign


@both_interfaces
def test_rule_02_driver_ok_cleared_by_a_status_write_detaches_and_deassigns(driver):
    with Rig(driver) as rig:
        rig.start()
        trace = rig.record()
        rig.driver.set_status(DRIVER)
        assert (rig.assigned, rig.attached, rig.started) == ([], [], [])
        for n in EVERY_QUEUE:
            assert trace.index(("detach", n)) < trace.index(("deassign", n))


@both_interfaces
def test_rule_02_driver_ok_set_again_assigns_again(driver):
    with Rig(driver) as rig:
        rig.start()
        status = rig.driver.status
        rig.driver.set_status(status & ~defs.STATUS_DRIVER_OK)
        rig.driver.set_status(status)
        assert (rig.assigned, rig.attached) == (EVERY_QUEUE, EVERY_QUEUE)
        assert rig.round_trip(PYTHON) == b"gnip"


# -- 3: bus mastering


@both_interfaces
def test_rule_03_bus_mastering_cleared_detaches_and_deassigns(driver):
    with Rig(driver) as rig:
        rig.start()
        trace = rig.record()
        rig.driver.set_command(ALL_COMMAND & ~config.COMMAND_MASTER)
        assert (rig.assigned, rig.attached, rig.started) == ([], [], [])
        assert trace.index(("detach", 0)) < trace.index(("deassign", 0))
        assert rig.driver.status & defs.STATUS_DRIVER_OK


@both_interfaces
def test_rule_03_bus_mastering_set_again_assigns_and_serves_what_was_kicked_meanwhile(driver):
    with Rig(driver) as rig:
        rig.start()
        rig.driver.set_command(ALL_COMMAND & ~config.COMMAND_MASTER)
        queue = rig.driver.queues[PYTHON]
        head = queue.add([b"ping"], [4])
        queue.kick()
        rig.machine.run_loop_once()
        assert queue.used_index == 0
        rig.driver.set_command(ALL_COMMAND)
        assert (rig.assigned, rig.attached) == (EVERY_QUEUE, EVERY_QUEUE)
        queue.wait(head, rig.patience)


# -- 4: reset: device, host notifiers, vectors


def _by_status(rig):
    rig.driver.set_status(0)


def _by_pfn(rig):
    rig.driver.write(pci_legacy.QUEUE_SEL, 0, 2)
    rig.driver.write(pci_legacy.QUEUE_PFN, 0, 4)


def _by_system(rig):
    rig.machine.reset()


RESETS = [(LegacyDriver, _by_status), (ModernDriver, _by_status), (LegacyDriver, _by_pfn), (ModernDriver, _by_system)]
every_reset = pytest.mark.parametrize(("driver", "reset"), RESETS)


@every_reset
def test_rule_04_reset_is_handled_by_device_then_notifiers_then_vectors(driver, reset):
    with Rig(driver) as rig:
        rig.start(msix=True)
        assert rig.machine.accelerator.irqfds
        order = []
        rig.device.do_reset = lambda: order.append(("device", rig.assigned, rig.attached))
        msix = rig.proxy.msix
        unuse_all = msix.unuse_all
        msix.unuse_all = lambda: (order.append(("vectors", rig.assigned, rig.attached)), unuse_all())
        reset(rig)
        assert order[0] == ("device", EVERY_QUEUE, EVERY_QUEUE)
        assert order[1] == ("vectors", [], [])
        assert not rig.machine.accelerator.irqfds


@every_reset
def test_rule_04_reset_leaves_nothing_of_the_driver(driver, reset):
    with Rig(driver) as rig:
        rig.start(msix=True)
        reset(rig)
        assert (rig.device.status, rig.assigned, rig.attached, rig.started) == (0, [], [], [])
        assert rig.proxy.config_vector == defs.NO_VECTOR
        assert {queue.vector for queue in rig.device.queues} == {defs.NO_VECTOR}
        assert not any(queue.enabled for queue in rig.device.queues)


def test_rule_04_interrupt_of_an_earlier_driver_is_not_delivered_to_the_next():
    with Rig() as rig:
        rig.start(msix=True)
        rig.driver.mask_vector(PYTHON + 1, True)
        rig.round_trip(PYTHON)
        assert rig.driver.is_pending(PYTHON + 1)
        rig.driver.set_status(0)
        rig.start(msix=True)
        assert rig.driver.interrupts(PYTHON + 1) == 0


# -- 5: vhost takes a queue over


def test_rule_05_taken_queue_keeps_its_ioeventfd_and_loses_its_handler():
    with Rig() as rig:
        rig.start()
        fd = rig.device.bindings.set_host_notifier(PYTHON, True)
        assert fd is not None
        assert (rig.assigned, rig.attached) == (EVERY_QUEUE, [0, 2])
        rig.driver.queues[PYTHON].add([b"ping"], [4])
        rig.driver.notify(PYTHON)
        rig.machine.run_loop_once()
        assert os.eventfd_read(fd) == 1
        assert rig.driver.queues[PYTHON].used_index == 0


def test_rule_05_queue_given_back_is_served_again_with_what_was_offered_meanwhile():
    with Rig() as rig:
        rig.start()
        rig.device.bindings.set_host_notifier(PYTHON, True)
        queue = rig.driver.queues[PYTHON]
        head = queue.add([b"ping"], [4])
        rig.device.bindings.set_host_notifier(PYTHON, False)
        assert (rig.assigned, rig.attached) == (EVERY_QUEUE, EVERY_QUEUE)
        queue.wait(head, rig.patience)
        rig.round_trip(PYTHON)
        assert rig.kicks(PYTHON)["kicks_ioeventfd"] == 1


def test_rule_05_taken_queue_is_not_started_by_a_status_change():
    with Rig() as rig:
        rig.start()
        fd = rig.device.bindings.set_host_notifier(PYTHON, True)
        status = rig.driver.status
        rig.driver.set_status(status & ~defs.STATUS_DRIVER_OK)
        assert rig.assigned == []
        rig.driver.set_status(status)
        assert (rig.assigned, rig.attached) == (EVERY_QUEUE, [0, 2])
        assert rig.proxy.notifiers.of(rig.device.queues[PYTHON]).fd == fd


@pytest.mark.parametrize("queue", [NATIVE, PYTHON])
def test_rule_05_queue_is_taken_where_the_user_chose_synchronous_kicks(queue):
    with Rig(ioeventfd="off") as rig:
        rig.start()
        fd = rig.device.bindings.set_host_notifier(queue, True)
        assert rig.assigned == [queue]
        rig.driver.notify(queue)
        assert os.eventfd_read(fd) == 1
        rig.device.bindings.set_host_notifier(queue, False)
        assert rig.assigned == []
        rig.round_trip(queue)


def test_rule_05_ioeventfd_of_a_taken_queue_follows_its_register_with_synchronous_kicks():
    with Rig(ioeventfd="off") as rig:
        rig.start()
        fd = rig.device.bindings.set_host_notifier(PYTHON, True)
        before = rig.machine.accelerator.ioevents[0].address
        base = rig.machine.mmio.take(0x10000, 0x10000)
        rig.driver.move_bar(4, base)
        rig.driver.bars[4] = ("mmio", base)
        assert rig.assigned == [PYTHON]
        assert rig.machine.accelerator.ioevents[0].address != before
        rig.driver.notify(PYTHON)
        assert os.eventfd_read(fd) == 1


def test_rule_05_queue_is_taken_where_the_accelerator_refuses_and_kicks_arrive_by_hand():
    with Rig(ioeventfd="off") as rig:
        rig.start()
        rig.refuse(PYTHON)
        fd = rig.device.bindings.set_host_notifier(PYTHON, True)
        assert rig.assigned == []
        rig.driver.notify(PYTHON)
        assert os.eventfd_read(fd) == 1


def test_rule_05_device_may_hand_a_queue_over_before_it_is_served():
    with Rig() as rig:
        seen = []
        rig.device.before_serving = lambda: rig.device.bindings.set_host_notifier(PYTHON, True)
        rig.device.after_serving = lambda: seen.append(rig.device.bindings.set_host_notifier(PYTHON, False))
        rig.start()
        assert (rig.assigned, rig.attached, rig.started) == (EVERY_QUEUE, [0, 2], [0, 2])
        rig.machine.pause()
        assert (rig.assigned, seen) == ([], [None])
        rig.machine.start()
        assert (rig.assigned, rig.attached) == (EVERY_QUEUE, [0, 2])
        rig.driver.set_status(0)
        assert (rig.assigned, seen) == ([], [None, None])


# -- 6: the accelerator refuses


@both_interfaces
@pytest.mark.parametrize("refused", EVERY_QUEUE)
def test_rule_06_refused_ioeventfd_unwinds_and_kicks_are_synchronous(driver, refused):
    with Rig(driver) as rig:
        rig.refuse(refused)
        trace = rig.record()
        rig.start()
        assert (rig.assigned, rig.attached, rig.started) == ([], [], EVERY_QUEUE)
        undone = [n for step, n in trace if step == "deassign"]
        assert undone == list(reversed(range(refused)))
        for n in EVERY_QUEUE:
            rig.round_trip(n)
            assert rig.kicks(n)["kicks_ioeventfd"] == 0


def test_rule_06_refusal_is_warned_about_once():
    with Rig() as rig, warnings_of_notifiers() as warnings:
        rig.refuse(1)
        rig.start()
        rig.start()
        rig.driver.set_command(ALL_COMMAND & ~config.COMMAND_MASTER)
        rig.driver.set_command(ALL_COMMAND)
    assert len(warnings) == 1
    assert "null0" in warnings[0]
    assert "No space left on device" in warnings[0]


def test_rule_06_handler_that_cannot_be_attached_falls_back_too():
    with Rig() as rig, warnings_of_notifiers() as warnings:

        def attach(fd):
            raise OSError(28, "No space left on device")

        rig.device.queues[2].attach = attach
        rig.start()
        assert (rig.assigned, rig.attached, len(warnings)) == ([], [], 1)
        assert rig.round_trip(PYTHON) == b"gnip"


# -- 7: the VM stops and goes on


@both_interfaces
def test_rule_07_vm_stop_serves_a_signalled_kick_then_deassigns(driver):
    with Rig(driver) as rig:
        rig.start()
        queue = rig.driver.queues[PYTHON]
        queue.add([b"ping"], [4])
        queue.kick()
        assert queue.used_index == 0  # the main loop did not run yet
        rig.machine.pause()
        assert queue.used_index == 1
        assert (rig.assigned, rig.attached, rig.started) == ([], [], [])


@both_interfaces
def test_rule_07_vm_continued_assigns_again(driver):
    with Rig(driver) as rig:
        rig.start()
        rig.machine.pause()
        rig.machine.start()
        assert (rig.assigned, rig.attached) == (EVERY_QUEUE, EVERY_QUEUE)
        assert rig.round_trip(PYTHON) == b"gnip"
        rig.round_trip(NATIVE)


def test_rule_07_device_hears_of_the_vm_before_its_transport():
    with Rig() as rig:
        rig.start()
        seen = []
        rig.device.vm_state_changed = lambda running: seen.append((running, rig.started))
        rig.machine.pause()
        rig.machine.start()
        assert seen == [(False, EVERY_QUEUE), (True, [])]


@pytest.mark.parametrize("queue", [NATIVE, PYTHON])
def test_rule_07_kick_between_detach_and_deassign_is_not_lost(queue):
    with Rig() as rig:
        rig.start()
        accel = rig.machine.accelerator
        deassign = accel.deassign_ioevent

        def kicked_by_another_vcpu(event):
            if event.fd == rig.proxy.notifiers.of(rig.device.queues[queue]).fd:
                rig.driver.queues[queue].add([b"ping"], [4])
                rig.driver.notify(queue)
            deassign(event)

        accel.deassign_ioevent = kicked_by_another_vcpu
        # bus mastering, not a stop of the VM: other vCPUs run
        rig.driver.set_command(ALL_COMMAND & ~config.COMMAND_MASTER)
        assert rig.driver.queues[queue].used_index == 1


# -- 8: the workaround, and the user's choice


def _start_without_bus_mastering(rig):
    rig.driver.set_command(ALL_COMMAND & ~config.COMMAND_MASTER)
    rig.start()


def test_rule_08_legacy_driver_without_bus_mastering_is_served_by_ioeventfd():
    with Rig(LegacyDriver) as rig:
        _start_without_bus_mastering(rig)
        assert (rig.assigned, rig.attached) == (EVERY_QUEUE, EVERY_QUEUE)
        assert rig.round_trip(PYTHON) == b"gnip"


def test_rule_08_workaround_is_cleared_by_reset():
    with Rig(LegacyDriver) as rig:
        _start_without_bus_mastering(rig)
        assert rig.proxy.bus_master_excused
        for reset in (_by_status, _by_pfn, _by_system):
            _start_without_bus_mastering(rig) if reset is not _by_system else None
            reset(rig)
            assert not rig.proxy.bus_master_excused


def test_rule_08_modern_driver_has_no_workaround():
    with Rig(ModernDriver) as rig:
        _start_without_bus_mastering(rig)
        assert (rig.assigned, rig.started) == ([], [])


def test_rule_08_workaround_can_be_switched_off():
    with Rig(LegacyDriver, x_bus_master_workaround="off") as rig:
        _start_without_bus_mastering(rig)
        assert (rig.assigned, rig.started) == ([], [])


@pytest.mark.parametrize("choice", ["on", "off"])
@pytest.mark.parametrize("reset", [_by_status, _by_system])
def test_rule_08_choice_of_ioeventfd_survives_reset(choice, reset):
    with Rig(ioeventfd=choice) as rig:
        rig.start()
        reset(rig)
        rig.driver.set_command(ALL_COMMAND)
        for index, (_, base) in rig.driver.bars.items():
            rig.driver.move_bar(index, base)
        rig.start()
        assert rig.assigned == (EVERY_QUEUE if choice == "on" else [])


def test_rule_08_choice_of_ioeventfd_survives_a_refusal_and_reset():
    with Rig() as rig:
        assign = rig.machine.accelerator.assign_ioevent
        rig.refuse(2)
        rig.start()
        assert rig.assigned == []
        rig.machine.accelerator.assign_ioevent = assign
        rig.start()
        assert rig.assigned == EVERY_QUEUE


# -- 9: notify in terms of notify_queue


def test_rule_09_notify_calls_notify_queue_with_the_queue():
    with Rig() as rig:
        rig.start()
        bindings, called = rig.device.bindings, []
        bindings.notify_queue = called.append
        bindings.notify(2)
        assert called == [rig.device.queues[2]]


def test_rule_09_notify_queue_does_not_call_notify():
    with Rig() as rig:
        rig.start(msix=True)
        called = []
        rig.device.bindings.notify = called.append
        rig.device.bindings.notify_queue(rig.device.queues[1])
        assert called == []
        assert rig.driver.interrupts(2) == 1


# -- 10: polling drivers


@both_interfaces
@pytest.mark.parametrize("ioeventfd", ["on", "off"])
@pytest.mark.parametrize("index", [NATIVE, PYTHON])
def test_rule_10_polling_driver_gets_its_answers_without_any_interrupt(driver, ioeventfd, index):
    with Rig(driver, ioeventfd=ioeventfd) as rig:
        rig.start()
        queue = rig.driver.queues[index]
        queue.set_no_interrupt(True)
        for n in range(1, 101):
            queue.add([b"ping"], [4])
            queue.kick()
            rig.wait(lambda n=n: queue.used_index == n, f"answer {n}")
            queue.collect()
        assert rig.kicks(index)["interrupts"] == 0
        assert not rig.driver.intx_level
        assert rig.kicks(index)["kicks_ioeventfd"] == (100 if ioeventfd == "on" else 0)


def test_rule_10_legacy_driver_that_polls_before_driver_ok_gets_its_answer():
    with Rig(LegacyDriver) as rig:
        last = rig.start_without_driver_ok()
        assert rig.round_trip(NATIVE) == bytes(4)
        assert rig.round_trip(PYTHON) == b"gnip"
        assert rig.assigned == []
        rig.driver.set_status(last)
        assert rig.assigned == EVERY_QUEUE
        assert rig.round_trip(PYTHON) == b"gnip"
