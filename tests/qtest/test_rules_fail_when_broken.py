# SPDX-License-Identifier: Apache-2.0
"""The tests of the ten rules are worth something: for each rule, the code that carries it out is broken, and one of
the rule's tests must fail.

A mutation names the rule's test, the method that is broken, and what stands in its place.
"""

from __future__ import annotations

import inspect
import os
from typing import Any, NamedTuple

import attrs
import pytest
import test_host_notifier_rules as rules
from notifier_rig import PYTHON, Rig

from qdevpy.pci.msix import MSIX
from qdevpy.pci.vectors import Vectors
from qdevpy.testing.driver import LegacyDriver, ModernDriver
from qdevpy.virtio import defs
from qdevpy.virtio.bus import VirtIOBus
from qdevpy.virtio.device import VirtIODevice
from qdevpy.virtio.host_notifiers import HostNotifier, HostNotifiers, Service
from qdevpy.virtio.pci import VirtIOPCI
from qdevpy.virtio.pci_bindings import PCIBindings
from qdevpy.virtio.pci_legacy import LegacyRegisters
from qdevpy.virtio.queue import QueueState, VirtQueue


class Mutation(NamedTuple):
    """One way to break a rule."""

    why: str
    test: Any
    target: Any
    name: str
    broken: Any
    arguments: dict[str, Any] = {}  # noqa: RUF012 - never changed


def nothing(*args: Any, **options: Any) -> None:
    """In place of a method that does something."""


# -- what stands in the place of sound code; each is the original with one thing wrong


def enter_without_looking_at_size(self: HostNotifiers) -> None:
    done = [self.of(queue) for queue in self.device.queues]
    for notifier in done:
        notifier.assign(self.transport)
    self.service = Service.NOTIFIED
    self._attach(done)


def enter_queue_by_queue(self: HostNotifiers) -> None:
    self.service = Service.NOTIFIED
    for queue in self.device.queues:
        self.of(queue).assign(self.transport)
        self._attach([self.of(queue)])


def enter_and_kick_first(self: HostNotifiers, enter: Any = HostNotifiers._enter_notified) -> None:
    for queue in self.device.queues:
        queue.kick()
    enter(self)


def io_events_of_the_neighbour(self: VirtIOPCI, queue: VirtQueue, fd: int, whole: Any = VirtIOPCI.io_events) -> list[Any]:
    return [attrs.evolve(event, address=event.address + 0x40) for event in whole(self, queue, fd)]


def wanted_of_status_alone(self: HostNotifiers) -> Service:
    return Service.NOTIFIED if self.device.status & defs.STATUS_DRIVER_OK else Service.STOPPED


def status_changed_for_start_and_reset_only(self: VirtIOPCI, old: int, new: int, whole: Any = VirtIOPCI.status_changed) -> None:
    if new == 0 or new & defs.STATUS_DRIVER_OK:
        whole(self, old, new)


def release_deassigning_first_and_forgetting(self: HostNotifiers, notifier: HostNotifier) -> None:
    notifier.deassign(self.transport)
    notifier.queue.detach()


def release_without_second_look(self: HostNotifiers, notifier: HostNotifier) -> None:
    notifier.queue.detach()
    notifier.deassign(self.transport)


def reset_transport_first(self: VirtIODevice, whole: Any = VirtIODevice.reset) -> None:
    status, self.status = self.status, 0
    self.bindings.status_changed(status, 0)
    whole(self)


def forget_vectors_first(self: VirtIOPCI, whole: Any = VirtIOPCI._forget_driver) -> None:
    if self.msix is not None:
        self.msix.unuse_all()
    whole(self)


def ignore_page_zero(self: LegacyRegisters, queue: Any, page: int, whole: Any = LegacyRegisters._set_pfn) -> None:
    if page:
        whole(self, queue, page)


def take_and_deassign(self: HostNotifiers, queue: VirtQueue, whole: Any = HostNotifiers.take) -> int | None:
    fd: int | None = whole(self, queue)
    self.of(queue).deassign(self.transport)
    return fd


def take_and_go_on(self: HostNotifiers, queue: VirtQueue) -> int | None:
    return self.of(queue).fd


def give_back_and_do_nothing(self: HostNotifiers, queue: VirtQueue) -> None:
    self.of(queue).taken = False


def stop_forgetting_who_took(self: HostNotifiers, whole: Any = HostNotifiers._stop_queues) -> None:
    whole(self)
    for notifier in self.notifiers.values():
        notifier.taken = False


def unwind_nothing(self: HostNotifiers, done: Any, error: OSError, whole: Any = HostNotifiers._unwind) -> None:
    whole(self, [], error)


def unwind_forwards(self: HostNotifiers, done: Any, error: OSError, whole: Any = HostNotifiers._unwind) -> None:
    whole(self, list(reversed(done)), error)


def warn_every_time(self: HostNotifiers, done: Any, error: OSError, whole: Any = HostNotifiers._unwind) -> None:
    self._warned = False
    whole(self, done, error)


def give_up(self: HostNotifiers, done: Any, error: OSError) -> None:
    raise error


def refuse_for_ever(self: HostNotifiers, whole: Any = HostNotifiers._stop_queues) -> None:
    refused = self._refused
    whole(self)
    self._refused = refused


def detach_and_drop_the_kick(self: VirtQueue, whole: Any = VirtQueue.detach) -> None:
    if self.state is QueueState.ATTACHED and self._fd is not None:
        os.eventfd_write(self._fd, 1)
        os.eventfd_read(self._fd)
    whole(self)


def excuse_everybody(self: VirtIOPCI, old: int, new: int, whole: Any = VirtIOPCI.status_changed) -> None:
    if new & defs.STATUS_DRIVER_OK:
        self.excuse_missing_bus_master()
    whole(self, old, new)


def excuse_without_asking(self: VirtIOPCI) -> None:
    self.bus_master_excused = True


def keep_the_excuse(self: VirtIOPCI, whole: Any = VirtIOPCI._forget_driver) -> None:
    excused = self.bus_master_excused
    whole(self)
    self.bus_master_excused = excused


def choose_anew_on_reset(self: VirtIOPCI, whole: Any = VirtIOPCI._forget_driver) -> None:
    whole(self)
    self.__dict__["use_ioeventfd"] = not self.use_ioeventfd  # type: ignore[attr-defined]


def notify_directly(self: PCIBindings, index: int) -> None:
    self._proxy.device.queues[index].signal()


def notify_queue_by_number(self: PCIBindings, queue: VirtQueue) -> None:
    self.notify(queue.index)


def kick_only_what_is_attached(self: HostNotifiers, queue: VirtQueue) -> None:
    if queue.state is QueueState.ATTACHED:
        queue.kick()


def always(self: Any) -> bool:
    return True


MUTATIONS = [
    Mutation("1: nothing is assigned", rules.test_rule_01_driver_ok_assigns_every_queue_then_attaches_then_kicks_once,
             HostNotifiers, "_enter_notified", nothing),
    Mutation("1: handlers before all are assigned",
             rules.test_rule_01_driver_ok_assigns_every_queue_then_attaches_then_kicks_once,
             HostNotifiers, "_enter_notified", enter_queue_by_queue),
    Mutation("1: kicked before anybody waits", rules.test_rule_01_driver_ok_assigns_every_queue_then_attaches_then_kicks_once,
             HostNotifiers, "_enter_notified", enter_and_kick_first),
    Mutation("1: no kick by hand", rules.test_rule_01_kick_before_driver_ok_is_served_after_it_without_another,
             HostNotifiers, "_kick_by_hand", nothing),
    Mutation("1: size is not looked at", rules.test_rule_01_queue_of_size_zero_is_left_out,
             HostNotifiers, "_enter_notified", enter_without_looking_at_size),
    Mutation("1: bus mastering does not matter", rules.test_rule_01_without_all_conditions_nothing_is_assigned,
             HostNotifiers, "wanted", wanted_of_status_alone, {"missing": "bus mastering"}),
    Mutation("1: the VM's state does not matter", rules.test_rule_01_without_all_conditions_nothing_is_assigned,
             HostNotifiers, "wanted", wanted_of_status_alone, {"missing": "running VM"}),
    Mutation("1: the user's choice does not matter", rules.test_rule_01_without_all_conditions_nothing_is_assigned,
             VirtIOPCI, "ioeventfd_wanted", property(always), {"missing": "user's choice"}),
    Mutation("1: assigned elsewhere", rules.test_rule_01_kick_travels_by_ioeventfd,
             VirtIOPCI, "io_events", io_events_of_the_neighbour),
    Mutation("1: a queue set up late is forgotten", rules.test_rule_01_queue_enabled_after_driver_ok_is_served,
             HostNotifiers, "queue_enabled", nothing),
    Mutation("2: only start and reset count", rules.test_rule_02_driver_ok_cleared_by_a_status_write_detaches_and_deassigns,
             VirtIOPCI, "status_changed", status_changed_for_start_and_reset_only),
    Mutation("2: not detached", rules.test_rule_02_driver_ok_cleared_by_a_status_write_detaches_and_deassigns,
             HostNotifiers, "_leave_notified", nothing),
    Mutation("2: not symmetric", rules.test_rule_02_driver_ok_set_again_assigns_again,
             HostNotifier, "deassign", nothing),
    Mutation("3: the command register does not matter", rules.test_rule_03_bus_mastering_cleared_detaches_and_deassigns,
             VirtIOPCI, "command_changed", nothing),
    Mutation("3: DMA is always allowed", rules.test_rule_03_bus_mastering_cleared_detaches_and_deassigns,
             VirtIOPCI, "dma_allowed", property(always)),
    Mutation("3: deassigned before detached", rules.test_rule_03_bus_mastering_cleared_detaches_and_deassigns,
             HostNotifiers, "_release", release_deassigning_first_and_forgetting),
    Mutation("3: kicks of the meantime are lost",
             rules.test_rule_03_bus_mastering_set_again_assigns_and_serves_what_was_kicked_meanwhile,
             HostNotifiers, "_kick_by_hand", nothing),
    Mutation("4: transport first", rules.test_rule_04_reset_is_handled_by_device_then_notifiers_then_vectors,
             VirtIODevice, "reset", reset_transport_first),
    Mutation("4: vectors first", rules.test_rule_04_reset_is_handled_by_device_then_notifiers_then_vectors,
             VirtIOPCI, "_forget_driver", forget_vectors_first),
    Mutation("4: vectors stay in use", rules.test_rule_04_reset_is_handled_by_device_then_notifiers_then_vectors,
             MSIX, "unuse_all", nothing),
    Mutation("4: PFN 0 is nothing", rules.test_rule_04_reset_leaves_nothing_of_the_driver,
             LegacyRegisters, "_set_pfn", ignore_page_zero, {"driver": LegacyDriver, "reset": rules._by_pfn}),
    Mutation("4: a system reset stops at the transport", rules.test_rule_04_reset_leaves_nothing_of_the_driver,
             VirtIOBus, "reset", nothing, {"driver": ModernDriver, "reset": rules._by_system}),
    Mutation("4: status 0 is a status like any other", rules.test_rule_04_reset_leaves_nothing_of_the_driver,
             VirtIOPCI, "reset_device", nothing),
    Mutation("4: pending interrupts stay", rules.test_rule_04_interrupt_of_an_earlier_driver_is_not_delivered_to_the_next,
             Vectors, "drain", nothing),
    Mutation("5: the ioeventfd goes", rules.test_rule_05_taken_queue_keeps_its_ioeventfd_and_loses_its_handler,
             HostNotifiers, "take", take_and_deassign),
    Mutation("5: the handler stays", rules.test_rule_05_taken_queue_keeps_its_ioeventfd_and_loses_its_handler,
             HostNotifiers, "take", take_and_go_on),
    Mutation("5: not served after it is given back",
             rules.test_rule_05_queue_given_back_is_served_again_with_what_was_offered_meanwhile,
             HostNotifiers, "give_back", give_back_and_do_nothing),
    Mutation("5: forgotten when the driver stops", rules.test_rule_05_taken_queue_is_not_started_by_a_status_change,
             HostNotifiers, "_stop_queues", stop_forgetting_who_took),
    Mutation("6: queues below stay", rules.test_rule_06_refused_ioeventfd_unwinds_and_kicks_are_synchronous,
             HostNotifiers, "_unwind", unwind_nothing, {"refused": 2}),
    Mutation("6: not symmetric", rules.test_rule_06_refused_ioeventfd_unwinds_and_kicks_are_synchronous,
             HostNotifiers, "_unwind", unwind_forwards, {"refused": 2}),
    Mutation("6: a warning each time", rules.test_rule_06_refusal_is_warned_about_once,
             HostNotifiers, "_unwind", warn_every_time),
    Mutation("6: no fallback", rules.test_rule_06_refused_ioeventfd_unwinds_and_kicks_are_synchronous,
             HostNotifiers, "_unwind", give_up, {"refused": 2}),
    Mutation("7: the transport does not hear of it", rules.test_rule_07_vm_stop_serves_a_signalled_kick_then_deassigns,
             VirtIOPCI, "vm_state_changed", nothing),
    Mutation("7: a signalled kick is dropped", rules.test_rule_07_vm_stop_serves_a_signalled_kick_then_deassigns,
             VirtQueue, "detach", detach_and_drop_the_kick),
    Mutation("7: never again after a stop", rules.test_rule_07_vm_continued_assigns_again,
             HostNotifier, "deassign", nothing),
    Mutation("7: no second look", rules.test_rule_07_kick_between_detach_and_deassign_is_not_lost,
             HostNotifiers, "_release", release_without_second_look, {"queue": PYTHON}),
    Mutation("8: no workaround", rules.test_rule_08_legacy_driver_without_bus_mastering_is_served_by_ioeventfd,
             VirtIOPCI, "excuse_missing_bus_master", nothing),
    Mutation("8: it survives a reset", rules.test_rule_08_workaround_is_cleared_by_reset,
             VirtIOPCI, "_forget_driver", keep_the_excuse),
    Mutation("8: for modern drivers, too", rules.test_rule_08_modern_driver_has_no_workaround,
             VirtIOPCI, "status_changed", excuse_everybody),
    Mutation("8: it cannot be switched off", rules.test_rule_08_workaround_can_be_switched_off,
             VirtIOPCI, "excuse_missing_bus_master", excuse_without_asking),
    Mutation("8: a reset forgets the user's choice", rules.test_rule_08_choice_of_ioeventfd_survives_reset,
             VirtIOPCI, "_forget_driver", choose_anew_on_reset, {"choice": "on", "reset": rules._by_system}),
    Mutation("8: a refusal is for ever", rules.test_rule_08_choice_of_ioeventfd_survives_a_refusal_and_reset,
             HostNotifiers, "_stop_queues", refuse_for_ever),
    Mutation("9: notify by itself", rules.test_rule_09_notify_calls_notify_queue_with_the_queue,
             PCIBindings, "notify", notify_directly),
    Mutation("9: the other way round", rules.test_rule_09_notify_queue_does_not_call_notify,
             PCIBindings, "notify_queue", notify_queue_by_number),
    Mutation("10: synchronous kicks are dropped", rules.test_rule_10_polling_driver_gets_its_answers_without_any_interrupt,
             HostNotifiers, "kick", kick_only_what_is_attached, {"ioeventfd": "off", "index": PYTHON}),
    Mutation("10: nobody waits for the eventfd", rules.test_rule_10_polling_driver_gets_its_answers_without_any_interrupt,
             HostNotifiers, "_attach", nothing, {"ioeventfd": "on", "index": PYTHON}),
    Mutation("10: a driver that kicks early waits for ever",
             rules.test_rule_10_legacy_driver_that_polls_before_driver_ok_gets_its_answer,
             HostNotifiers, "wanted", wanted_of_status_alone),
]  # fmt: skip


def arguments_of(mutation: Mutation) -> dict[str, Any]:
    """What the rule's test takes; interface and reset as the mutation says, else modern drivers and status 0."""
    chosen = {"driver": ModernDriver, "reset": rules._by_status} | mutation.arguments
    return {name: chosen[name] for name in inspect.signature(mutation.test).parameters}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[m.why for m in MUTATIONS])
def test_rule_when_broken_fails_its_test(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = arguments_of(mutation)
    mutation.test(**arguments)
    monkeypatch.setattr(Rig, "patience", 0.3)
    monkeypatch.setattr(mutation.target, mutation.name, mutation.broken)
    with pytest.raises((AssertionError, TimeoutError)):
        mutation.test(**arguments)


@pytest.mark.parametrize("rule", range(1, 11))
def test_every_rule_has_tests_and_a_mutation(rule: int) -> None:
    assert any(name.startswith(f"test_rule_{rule:02}_") for name in vars(rules))
    assert any(m.why.startswith(f"{rule}:") and f"test_rule_{rule:02}_" in m.test.__name__ for m in MUTATIONS)
