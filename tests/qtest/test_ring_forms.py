# SPDX-License-Identifier: Apache-2.0
"""Packed and in-order rings through virtio-pci's registers: what the transport and the driver see of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from null_device import NullDevice
from virtio_pci_rig import READY, VERSION_1, plugged, types_of

from qdevpy.testing.driver import LegacyDriver, ModernDriver
from qdevpy.testing.machine import FakeMachine
from qdevpy.testing.packed import EVENTS_AT, EVENTS_DISABLED, EVENTS_ENABLED, WRAP, PackedQueue
from qdevpy.testing.rings import DriverQueue, SplitQueue
from qdevpy.virtio import defs, pci_modern

PACKED, IN_ORDER, RESET = 1 << defs.F_RING_PACKED, 1 << defs.F_IN_ORDER, 1 << defs.F_RING_RESET
EVENT_IDX, INDIRECT = 1 << defs.F_RING_EVENT_IDX, 1 << defs.F_RING_INDIRECT_DESC
OFFER = {"packed": "on", "in_order": "on"}
FEATURES_OK = defs.STATUS_FEATURES_OK

forms = pytest.mark.parametrize("form", [0, PACKED, IN_ORDER, PACKED | IN_ORDER], ids=["split", "packed", "in_order", "both"])


def start(driver: Any, features: int, size: int = 4) -> None:
    """As :meth:`ModernDriver.start`, with queues of SIZE entries."""
    assert driver.negotiate(features | VERSION_1)
    driver.queues = [driver.setup_queue(index, size) for index in range(3)]
    driver.set_status(READY | FEATURES_OK | defs.STATUS_DRIVER_OK)


def ping(queue: DriverQueue, rounds: int, *, indirect: bool = False) -> None:
    """ROUNDS requests of one to three buffers to a queue that Python serves."""
    for n in range(rounds):
        data = [bytes([n & 0xFF, i]) for i in range(1 + n % 2)]
        _, answer = queue.request(data, [2 * len(data)], indirect=indirect)
        assert answer == b"".join(data)[::-1]


# -- what is offered


def test_forms_are_not_offered_unless_asked_for() -> None:
    with plugged(ModernDriver) as driver:
        assert not driver.offered & (PACKED | IN_ORDER | 1 << defs.F_NOTIFICATION_DATA)


def test_driver_that_does_not_want_packed_rings_gets_split_ones() -> None:
    with plugged(ModernDriver, **OFFER) as driver:
        assert driver.offered & (PACKED | IN_ORDER) == PACKED | IN_ORDER
        driver.start()
        assert isinstance(driver.queues[1], SplitQueue)
        ping(driver.queues[1], 5)


def test_legacy_driver_is_served_with_split_rings_whatever_is_offered() -> None:
    with plugged(LegacyDriver, notification_data="on", **OFFER) as driver:
        driver.start(driver.offered)
        ping(driver.queues[1], 5)
        assert not driver.device.queues[1].pointer.ring.packed


@pytest.mark.parametrize("form", [PACKED, IN_ORDER], ids=["packed", "in_order"])
def test_form_without_version_1_is_refused(form: int) -> None:
    with plugged(ModernDriver, **OFFER) as driver:
        assert driver.negotiate(0)
        assert not driver.negotiate(form)
        assert driver.negotiate(form | VERSION_1)


@pytest.mark.parametrize(("features", "taken"), [(PACKED, 5), (0, 64)], ids=["packed", "split"])
def test_size_that_is_no_power_of_two_is_taken_for_packed_rings_only(features: int, taken: int) -> None:
    with plugged(ModernDriver, **OFFER) as driver:
        driver.negotiate(features | VERSION_1)
        driver.write(pci_modern.QUEUE_SELECT, 1, 2)
        for size in (5, 0, 65):
            driver.write(pci_modern.QUEUE_SIZE, size, 2)
        assert driver.read(pci_modern.QUEUE_SIZE, 2) == taken


# -- serving


@forms
@pytest.mark.parametrize("events", [0, EVENT_IDX], ids=["flags", "event_idx"])
@pytest.mark.parametrize("indirect", [False, True], ids=["direct", "indirect"])
@pytest.mark.parametrize("ioeventfd", ["on", "off"])
def test_ring_goes_round_many_times(form: int, events: int, indirect: bool, ioeventfd: str) -> None:
    with plugged(ModernDriver, ioeventfd=ioeventfd, **OFFER) as driver:
        start(driver, form | events | INDIRECT, 5 if form & PACKED else 4)
        ping(driver.queues[1], 40, indirect=indirect)
        for _ in range(40):
            driver.queues[0].request([b"native", b"too"], [3], indirect=indirect)


@forms
def test_kicks_and_interrupts_are_asked_for_as_the_form_has_it(form: int) -> None:
    with plugged(ModernDriver, ioeventfd="off", **OFFER) as driver:
        driver.start(form, msix=True)
        queue = driver.queues[1]
        queue.set_no_interrupt(True)
        ping(queue, 3)
        assert driver.interrupts(2) == 0
        queue.set_no_interrupt(False)
        ping(queue, 1)
        assert driver.interrupts(2) == 1
        driver.device.queues[1].set_kicks_enabled(False)
        assert not queue.wants_kick()
        driver.device.queues[1].set_kicks_enabled(True)
        assert queue.wants_kick()


def test_packed_driver_asks_for_an_interrupt_at_a_descriptor() -> None:
    with plugged(ModernDriver, ioeventfd="off", **OFFER) as driver:
        driver.start(PACKED | EVENT_IDX, msix=True)
        queue = driver.queues[1]
        ping(queue, 1)  # the first interrupt always comes
        driver.interrupts(2)
        for n in range(100):  # more than once round
            queue.set_used_event(queue.after(queue.next_used, 5))
            ping(queue, 1)  # two descriptors
            ping(queue, 1)
            assert driver.interrupts(2) == 0, n
            ping(queue, 1)
            assert driver.interrupts(2) == 1, n
            assert queue.kick_event == (queue.next, EVENTS_AT)


def test_packed_driver_without_event_idx_sees_modes_only() -> None:
    with plugged(ModernDriver, ioeventfd="off", **OFFER) as driver:
        driver.start(PACKED)
        queue, served = driver.queues[1], driver.device.queues[1]
        served.set_kicks_enabled(False)
        assert queue.kick_event[1] == EVENTS_DISABLED
        served.set_kicks_enabled(True)
        assert queue.kick_event[1] == EVENTS_ENABLED


class Collector(NullDevice):
    """Keeps chains until it is told which one to give back."""

    type_name = "collector-device"
    base_name = "collector"

    def handle_output(self, queue: Any) -> None:
        self.kept = getattr(self, "kept", [])
        while (element := queue.pop()) is not None:
            self.kept.append(element)

    def give_back(self, which: int) -> None:
        queue = self.queues[1]
        queue.push(self.kept[which], self.kept[which].write(self.kept[which].read()))
        queue.flush()


@forms
@pytest.mark.parametrize("break_", ["none", "bus master", "pause"])
def test_chains_done_out_of_order_come_back_as_the_form_has_it(form: int, break_: str) -> None:
    """Also where the queue stops and starts in between."""
    with plugged(ModernDriver, Collector, **OFFER) as driver:
        start(driver, form)
        ping_ = [b"0", b"1"]
        queue = driver.queues[1]
        for _ in range(5):
            heads = [queue.add([data], [1]) for data in ping_]
            queue.kick()
            driver.machine.wait_for(lambda: len(getattr(driver.device, "kept", ())) == 2, "both are kept")
            driver.device.give_back(1)
            if break_ == "bus master":
                driver.set_command(0)
                driver.set_command(7)
            elif break_ == "pause":
                driver.machine.pause()
                driver.machine.start()
            assert queue.collect() == (0 if form & IN_ORDER else 1)
            driver.device.give_back(0)
            assert [queue.wait(head) for head in heads] == [1, 1]
            assert [queue.read(head) for head in heads] == ping_
            assert queue.order[-2:] == (heads if form & IN_ORDER else heads[::-1])
            driver.device.kept.clear()
            assert driver.device.queues[1].inflight == 0


def test_buffer_id_that_is_in_use_needs_a_reset() -> None:
    with plugged(ModernDriver, Collector, **OFFER) as driver:
        start(driver, PACKED)
        queue = driver.queues[1]
        head = queue.add([b"x"], [1])
        queue.offer(head, [(0x1000, 1, 0)])
        queue.kick()
        driver.machine.wait_for(lambda: driver.status & defs.STATUS_NEEDS_RESET, "NEEDS_RESET")
        assert driver.device.broken == "queue 1 (q1): buffer id of a chain that is in use"
        start(driver, PACKED)
        driver.queues[0].request([b"works again"], [1])


# -- state


@forms
@pytest.mark.parametrize("rounds", [0, 3, 4, 6])
def test_saved_ring_goes_on_in_another_machine(form: int, rounds: int) -> None:
    """Wrap counters are part of it: after 3 requests of 2 descriptors in a ring of 4 the second time round."""
    types = types_of(NullDevice)
    with FakeMachine(types=types) as source, FakeMachine(types=types) as target:
        proxy = source.plug_type("null-pci", id="null0", **OFFER)
        driver = ModernDriver(source, proxy)
        start(driver, form)
        for _ in range(rounds):
            ping(driver.queues[1], 1)
        source.pause()
        state = json.loads(json.dumps(proxy.device.bindings.save()))
        if form & PACKED:
            position = driver.queues[1].next
            assert position == 2 * rounds % 4 | (WRAP if 2 * rounds // 4 % 2 == 0 else 0)
            assert (state["queues"][1]["last_avail"], state["queues"][1]["used_idx"]) == (position, position)
        target.pause()
        twin = target.plug_type("null-pci", id="null0", **OFFER)
        target.memory.write(0, source.memory.read(0, source.memory_size))
        twin.device.bindings.load(state)
        target.start()
        driver.machine, driver.proxy, driver.bus = target, twin, target.pci
        for queue in driver.queues:
            queue.memory = target.memory
        ping(driver.queues[1], 9)


@forms
@pytest.mark.parametrize("ioeventfd", ["on", "off"])
def test_queue_is_reset_alone_again_and_again_with_chains_in_it(form: int, ioeventfd: str) -> None:
    with plugged(ModernDriver, ioeventfd=ioeventfd, **OFFER) as driver:
        start(driver, form | RESET | EVENT_IDX)
        for n in range(100):
            for index in (0, 1):
                queue = driver.queues[index]
                for _ in range(n % 3):
                    queue.add([b"lost", b"perhaps"])
                    queue.kick()
                driver.write(pci_modern.QUEUE_SELECT, index, 2)
                driver.write(pci_modern.QUEUE_RESET, 1, 2)
                assert driver.read(pci_modern.QUEUE_ENABLE, 2) == 0
                before = driver.machine.memory.read(queue.desc, 64), driver.machine.memory.read(queue.used, 4)
                driver.queues[2].request([b"the others work"], [5])
                assert (driver.machine.memory.read(queue.desc, 64), driver.machine.memory.read(queue.used, 4)) == before
                driver.queues[index] = driver.setup_queue(index, (3, 5, 8)[n % 3] if form & PACKED else 4 << n % 2)
            ping(driver.queues[1], n % 4)
            driver.queues[0].request([b"native"], [1])
        assert not driver.status & defs.STATUS_NEEDS_RESET


# -- NOTIFICATION_DATA


@forms
@pytest.mark.parametrize("ioeventfd", ["on", "off"])
def test_kick_with_positions_reaches_its_queue(form: int, ioeventfd: str) -> None:
    with plugged(ModernDriver, ioeventfd=ioeventfd, notification_data="on", **OFFER) as driver:
        start(driver, form | 1 << defs.F_NOTIFICATION_DATA)
        for _ in range(3):
            ping(driver.queues[1], 1)
            driver.queues[2].request([b"native"], [1])
        way = "kicks_ioeventfd" if ioeventfd == "on" else "kicks_sync"
        assert [queue.counters()[way] for queue in driver.device.queues[1:]] == ([3, 3] if ioeventfd == "on" else [4, 4])


@pytest.mark.parametrize("ioeventfd", ["on", "off"])
def test_kick_with_positions_through_the_io_port_is_synchronous(ioeventfd: str) -> None:
    """One register for all queues: no value could be matched."""
    with plugged(ModernDriver, ioeventfd=ioeventfd, modern_pio_notify="on", notification_data="on", **OFFER) as driver:
        start(driver, PACKED | 1 << defs.F_NOTIFICATION_DATA)
        assert driver.structures[pci_modern.CAP_NOTIFY][0] == 2
        for index in (1, 2):
            queue = driver.queues[index]
            head = queue.add([b"x"], [1])
            before = driver.device.queues[index].counters()["kicks_sync"]
            driver.bar_write(2, 0, queue.next_position << 16 | index, 4)
            assert driver.device.queues[index].counters()["kicks_sync"] == before + 1
            queue.wait(head)
        assert {event.bus for event in driver.machine.accelerator.ioevents} <= {"mmio"}


def test_io_port_has_ioeventfds_where_kicks_carry_no_positions() -> None:
    with plugged(ModernDriver, modern_pio_notify="on", notification_data="on") as driver:
        start(driver, 0)
        assert [event.datamatch for event in driver.machine.accelerator.ioevents if event.bus == "pio"] == [0, 1, 2]
        ping(driver.queues[1], 2)


def test_packed_queue_of_the_mock_is_what_the_features_say() -> None:
    with plugged(ModernDriver, **OFFER) as driver:
        driver.start(PACKED)
        assert all(isinstance(queue, PackedQueue) for queue in driver.queues)
