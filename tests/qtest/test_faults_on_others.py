# SPDX-License-Identifier: Apache-2.0
"""Faults on a network card, and on a device that Python serves and that says nothing of its requests."""

import socket
import struct

import pytest
from net_rig import frame
from null_device import NullDevice
from ring_forms import FORMS, OFFER

from qdevpy.backend.netdev_stream import StreamNetDev
from qdevpy.errors import FaultError
from qdevpy.faults.target import Description, FaultTarget
from qdevpy.testing.driver import ModernDriver
from qdevpy.testing.machine import FakeMachine
from qdevpy.virtio import defs
from qdevpy.virtio.pci_types import device_types_for
from qdevpy_virtio_net import numbers as n
from qdevpy_virtio_net.plugin import qdevpy_devices

RX, TX, CTRL = 0, 1, 2
STATUS = 1 << n.F_STATUS
HEADER = 12
DRIVERS = (ModernDriver, *FORMS)
#: of the null device: C serves the first, Python the second
NATIVE, PYTHON = 0, 1


class Card:
    """A machine with a card, its driver, and the peer of its netdev."""

    def __init__(self, driver):
        self.machine = FakeMachine(types={kind.name: kind for cls in qdevpy_devices() for kind in device_types_for(cls)})
        self.peer, theirs = socket.socketpair()
        self.peer.settimeout(10)
        lan = self.machine.open_backend(StreamNetDev(id="lan"), **{"addr.type": "fd", "addr.str": theirs.detach()})
        proxy = self.machine.plug_type("virtio-net-pci-non-transitional", id="net0", netdev=lan, **OFFER)
        self.driver = driver(self.machine, proxy)
        self.driver.start(STATUS | 1 << n.F_CTRL_VQ, msix=True)
        self.faults = self.machine.faults

    def send(self, data):
        queue = self.driver.queues[TX]
        head = queue.add(readable=[bytes(HEADER) + data])
        queue.kick()
        return queue.wait(head)

    def peer_reads(self):
        length = struct.unpack(">I", self.peer.recv(4, socket.MSG_WAITALL))[0]
        return self.peer.recv(length, socket.MSG_WAITALL)

    def peer_sends(self, data):
        self.peer.sendall(struct.pack(">I", len(data)) + data)

    def offer_room(self):
        queue = self.driver.queues[RX]
        head = queue.add(writable=[2048])
        queue.kick()
        return head

    @property
    def link_is_up(self):
        return bool(self.driver.read_config(6, 2) & 1)

    def close(self):
        self.machine.close()
        self.peer.close()


@pytest.fixture(params=DRIVERS, ids=lambda each: each.__name__)
def card(request):
    made = Card(request.param)
    yield made
    made.close()


def test_link_goes_down_for_a_while_and_the_driver_is_told(card):
    card.faults.happen("net0", "link-down", for_="20ms")

    assert not card.link_is_up
    assert card.driver.interrupts(0)
    card.machine.wait_for(lambda: card.link_is_up)
    card.driver.wait_interrupt(0)
    card.send(frame(b"hello"))
    assert card.peer_reads() == frame(b"hello")


def test_clear_puts_a_cable_back_that_is_out_for_a_while(card):
    card.faults.happen("net0", "link-down", for_="1m")
    card.faults.happen("net0", "link-down", for_="2m")

    card.faults.clear()

    assert card.link_is_up


def test_link_goes_down_at_a_frame(card):
    card.faults.add("net0", "link-down", requests="send", nth=2)
    for text in (b"one", b"two"):
        card.send(frame(text))

    card.machine.wait_for(lambda: not card.link_is_up)


def test_nth_frame_is_lost_and_its_buffer_comes_back(card):
    card.faults.add("net0", "io-error", requests="send", nth=2)

    for text in (b"one", b"two", b"three"):
        card.send(frame(text))

    assert [card.peer_reads() for _ in range(2)] == [frame(b"one"), frame(b"three")]


def test_command_is_refused(card):
    card.faults.add("net0", "io-error", requests="control")
    queue = card.driver.queues[CTRL]
    head = queue.add(readable=[bytes([0, 0]), b"\1"], writable=[1])
    queue.kick()

    queue.wait(head)

    assert queue.read(head) == b"\1"


def test_wrong_length_of_a_received_frame(card):
    card.faults.add("net0", "used-length", requests="receive", length=5)
    head = card.offer_room()
    card.peer_sends(frame(b"hello"))

    assert card.driver.queues[RX].wait(head) == 5


def test_backend_that_is_gone_loses_what_is_sent_and_keeps_room_for_later(card):
    card.faults.happen("net0", "backend-gone", for_="20ms")
    card.send(frame(b"lost"))
    head = card.offer_room()
    card.peer_sends(frame(b"late"))

    card.driver.queues[RX].wait(head)

    card.send(frame(b"back"))
    assert card.peer_reads() == frame(b"back")


def test_never_completing_room_is_not_filled(card):
    card.faults.add("net0", "never-complete", requests="receive", nth=1)
    lost, second = card.offer_room(), card.offer_room()
    card.peer_sends(frame(b"hello"))
    queue = card.driver.queues[RX]

    if card.driver.has_feature(defs.F_IN_ORDER):  # 2.7.9: it waits for the first
        card.machine.wait_for(lambda: len(card.faults.fired))
        assert queue.collect() == 0
    else:
        queue.wait(second)
        assert lost not in queue.done


# -- a device that says nothing of its requests


class Rig:
    """The null device and its driver."""

    def __init__(self, driver=ModernDriver, device=NullDevice, ioeventfd=True):
        self.machine = FakeMachine(types={kind.name: kind for kind in device_types_for(device)})
        self.proxy = self.machine.plug_type(f"{device.base_name}-pci", id="null0", ioeventfd=ioeventfd, **OFFER)
        self.driver = driver(self.machine, self.proxy)
        self.driver.start(msix=True)
        self.faults = self.machine.faults

    def ask(self, queue, data=b"abc"):
        head = self.driver.queues[queue].add([data], [8])
        self.driver.queues[queue].kick()
        return head

    def answer(self, queue, data=b"abc"):
        return self.driver.queues[queue].wait(self.ask(queue, data))

    def is_served(self, queue):
        return self.answer(queue) == (3 if queue == PYTHON else 0)


@pytest.fixture(params=[True, False], ids=["ioeventfd", "synchronous"])
def ioeventfd(request):
    return request.param


@pytest.fixture(params=DRIVERS, ids=lambda each: each.__name__)
def rig(request, ioeventfd):
    made = Rig(request.param, ioeventfd=ioeventfd)
    yield made
    made.machine.close()


@pytest.fixture(params=[NATIVE, PYTHON], ids=["native", "python"])
def queue(request):
    return request.param


def test_delay_holds_a_request_back(rig, queue):
    rig.faults.add("null0", "delay", queue=queue, nth=1, for_="20ms")
    begin = rig.machine.clock.now_ns()

    assert rig.is_served(queue)

    assert rig.machine.clock.now_ns() - begin >= 20_000_000
    assert rig.is_served(queue)


def test_never_completing_request_goes_with_the_reset(rig, queue):
    rig.faults.add("null0", "never-complete", queue=queue, nth=1)
    rig.ask(queue)
    rig.machine.wait_for(lambda: rig.faults.fired)
    assert rig.driver.queues[queue].collect() == 0

    rig.driver.start(msix=True)

    assert rig.is_served(queue)


def test_wrong_length_and_lost_interrupt(rig, queue):
    rig.faults.add("null0", "used-length", queue=queue, nth=1, length=77)
    rig.faults.add("null0", "lost-interrupt", queue=queue, nth=1)

    assert rig.answer(queue) == 77
    assert rig.driver.interrupts(queue + 1) == 0
    assert rig.is_served(queue)
    rig.driver.wait_interrupt(queue + 1)


def test_short_answer_leaves_the_rest_as_it_was(rig):
    rig.faults.add("null0", "short", queue=PYTHON, length=1)
    head = rig.ask(PYTHON, b"xyz")

    assert rig.driver.queues[PYTHON].wait(head) == 1
    assert rig.driver.queues[PYTHON].read(head) == b"z" + bytes(7)


def test_complete_twice(rig, queue):
    rig.faults.add("null0", "complete-twice", queue=queue, nth=1)
    rig.faults.add("null0", "never-complete", queue=queue, nth=2)
    head = rig.driver.queues[queue].add([b"abc"], [8])
    rig.driver.queues[queue].add([b"abc"], [8])
    rig.driver.queues[queue].kick()

    rig.machine.wait_for(lambda: rig.driver.queues[queue].collect() >= 0 and rig.driver.queues[queue].order == [head, head])


def test_needs_reset_at_a_request(rig, queue):
    rig.faults.add("null0", "needs-reset", queue=queue, nth=2)
    assert rig.is_served(queue)
    rig.ask(queue)

    rig.machine.wait_for(lambda: rig.driver.status & defs.STATUS_NEEDS_RESET)

    rig.driver.start(msix=True)
    assert rig.is_served(queue)


def test_stop_and_continue_with_a_delayed_request(rig, queue):
    rig.faults.add("null0", "delay", queue=queue, nth=1, for_="10ms")
    head = rig.ask(queue)
    rig.machine.wait_for(lambda: rig.faults.fired)

    rig.machine.pause()
    rig.machine.cont()

    rig.driver.queues[queue].wait(head)


def test_unknown_requests_replay_by_their_number(rig, queue, tmp_path):
    path = str(tmp_path / "faults.jsonl")
    rig.faults.open_log(path)
    rig.faults.add("null0", "used-length", queue=queue, probability=0.5, length=99)
    first = [rig.answer(queue) for _ in range(20)]

    again = Rig()
    again.faults.replay(path)
    second = [again.answer(queue) for _ in range(20)]
    again.machine.close()

    assert second == first
    assert 99 in first


class TalkingTarget(FaultTarget):
    """Requests that begin with x are of a kind, and can fail."""

    kinds = ("x",)
    offers = ("io-error",)

    def describe(self, queue, chain):
        if chain.read(0, 1) == b"!":
            raise RuntimeError("somebody's code")
        return Description("x" if chain.read(0, 1) == b"x" else "")

    def fail(self, queue, chain):
        return chain.write(b"sorry")


class TalkingDevice(NullDevice):
    """With a target of its own."""

    type_name = "talking-device"
    base_name = "talking"

    def fault_target(self):
        return TalkingTarget(self)


@pytest.fixture
def talking():
    made = Rig(device=TalkingDevice)
    yield made
    made.machine.close()


def test_device_of_a_third_party_has_kinds_and_errors_of_its_own(talking):
    talking.faults.add("null0", "io-error", requests="x")
    head = talking.ask(PYTHON, b"xy")

    assert talking.driver.queues[PYTHON].wait(head) == 5
    assert talking.driver.queues[PYTHON].read(head)[:5] == b"sorry"
    assert talking.answer(PYTHON, b"yx") == 2


def test_target_that_raises_harms_nobody(talking, caplog):
    talking.faults.add("null0", "io-error", requests="x")

    assert talking.answer(PYTHON, b"!bc") == 3
    assert "somebody's code" in caplog.text


def test_device_without_a_target_has_no_errors_of_its_own(rig):
    with pytest.raises(FaultError, match="'io-error' is nothing that this device can do"):
        rig.faults.add("null0", "io-error")
