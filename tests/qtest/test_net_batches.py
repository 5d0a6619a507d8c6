# SPDX-License-Identifier: Apache-2.0
"""Many frames at a time: each arrives once, in order and unharmed, whatever stands in the middle of a batch."""

import itertools
import os
import select
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from net_rig import ALL, LEGACY, MAC, frame, without
from net_tap import network_namespace
from net_wires import WIRES, SocketWire, StreamWire

from qdevpy.virtio import defs
from qdevpy_virtio_net import numbers as n

OTHER = bytes.fromhex("525400aaaaaa")
#: datagrams that a socket takes before its owner has read one: net.unix.max_dgram_qlen of Linux, by default
QUEUED = 8


@pytest.fixture
def make():
    wires = []

    def build(kind=SocketWire, **options):
        wires.append(kind(**options))
        return wires[-1]

    yield build
    for wire in wires:
        wire.close()


@pytest.fixture(params=["ioeventfd", "synchronous"])
def wire(request, make):
    return make(ioeventfd=request.param == "ioeventfd")


def send_at_once(wire, frames):
    """So that the card finds them all when it looks."""
    wire.rig.pause()
    for data in frames:
        assert wire.send(data)
    wire.rig.resume()


def numbered(count, size=60, **options):
    return [frame(b"%d" % i, size=size, **options) for i in range(count)]


# -- transmit


@pytest.mark.parametrize("kind", [SocketWire, StreamWire])
def test_transmit_batch_is_one_used_update_and_one_interrupt(make, kind):
    wire = make(kind, ioeventfd=False, features=without(defs.F_RING_EVENT_IDX))
    for data in numbered(QUEUED):
        wire.rig.transmit(data, kick=False)
    wire.rig.tx.kick()
    assert (wire.rig.tx.used_idx, wire.rig.tx.interrupts) == (QUEUED, 1)
    assert [wire.recv() for _ in range(QUEUED)] == numbered(QUEUED)


def test_transmit_batch_interrupts_where_used_event_says(make):
    wire = make(ioeventfd=False)
    wire.rig.tx.queue.kick()
    for wanted in (False, True):
        before, used = wire.rig.tx.interrupts, wire.rig.tx.used_idx
        event = used + (3 if wanted else 300)
        wire.rig.memory.write(wire.rig.tx.avail + 4 + 2 * wire.rig.tx.size, struct.pack("<H", event))
        for data in numbered(QUEUED):
            wire.rig.transmit(data, kick=False)
        wire.rig.tx.kick()
        for _ in range(QUEUED):
            wire.recv()
        # the first decision after a start has nothing to compare with, so it interrupts
        assert wire.rig.tx.interrupts - before == (1 if wanted or not used else 0)


def test_transmit_asks_for_a_kick_once_for_all_chains_of_a_batch(make):
    wire = make(ioeventfd=False)
    for data in numbered(QUEUED):
        wire.rig.transmit(data, kick=False)
    wire.rig.tx.kick()
    event = wire.rig.memory.read(wire.rig.tx.used + 4 + 8 * wire.rig.tx.size, 2)
    assert event == struct.pack("<H", QUEUED)


@pytest.mark.parametrize("kind", [SocketWire, StreamWire])
def test_transmit_frames_to_drop_in_a_batch_leave_the_others_in_order(make, kind):
    wire = make(kind, ioeventfd=False)
    good = iter(numbered(6))
    for what in ("runt", "good", "good", "giant", "runt", "good", "good", "good", "giant", "good"):
        data = {"runt": b"short", "giant": frame(size=70000)}.get(what) or next(good)
        wire.rig.transmit(data, kick=False)
    wire.rig.tx.kick()
    assert [wire.recv() for _ in range(6)] == numbered(6)
    counters = wire.rig.counters("tx0")
    assert (wire.rig.tx.used_idx, counters["frames"], counters["bytes"]) == (10, 6, 360)
    assert (counters["too_short"], counters["too_long"]) == (2, 2)


@pytest.mark.parametrize("kind", [SocketWire, StreamWire])
def test_transmit_bad_chain_behind_good_ones_breaks_device_after_they_are_out(make, kind):
    wire = make(kind)
    for data in numbered(3):
        wire.rig.transmit(data, kick=False)
    wire.rig.tx.send(b"12345")
    assert [wire.recv() for _ in range(3)] == numbered(3)
    wire.rig.until(lambda: wire.rig.device.broken is not None)


@pytest.mark.parametrize("kind", [SocketWire, StreamWire])
def test_transmit_batch_interrupted_by_a_stop_arrives_once_and_in_order(make, kind):
    wire = make(kind, tx_queue_size=1024)
    frames = numbered(120, 9000)
    for data in frames:
        wire.rig.transmit(data, cuts=(12, 500), kick=False)
    wire.rig.tx.kick()
    got = []
    while len(got) < len(frames):
        got.append(wire.recv())
        if len(got) % 20 == 0:
            wire.rig.pause()
            wire.rig.resume()
    assert got == frames
    wire.rig.until(lambda: wire.rig.tx.used_idx == len(frames))


@pytest.mark.parametrize("kind", [SocketWire, StreamWire])
def test_transmit_batch_interrupted_by_the_link_going_down_is_dropped_at_a_frame_border(make, kind):
    wire = make(kind, ioeventfd=False)
    frames = numbered(120, 9000)
    for data in frames:
        wire.rig.transmit(data, kick=False)
    wire.rig.tx.kick()
    wire.rig.device.set_link(False)
    got = []

    def all_used():
        if select.select([wire.peer], [], [], 0)[0]:
            got.append(wire.recv())
        return wire.rig.tx.used_idx == len(frames)

    wire.rig.until(all_used)
    wire.rig.device.set_link(True)
    wire.rig.transmit(frame(b"up"))
    while frame(b"up") not in got:
        got.append(wire.recv())
    assert got[:-1] == frames[: len(got) - 1]
    assert len(got) - 1 + wire.rig.counters("tx0")["link_down"] == len(frames)


# -- receive


def test_receive_batch_is_one_used_update_and_one_interrupt(make):
    wire = make(features=without(defs.F_RING_EVENT_IDX))
    for warm in (True, False):  # the card learns how many come
        wire.rig.fill(2 * QUEUED)
        before = wire.rig.rx.interrupts
        send_at_once(wire, numbered(QUEUED))
        assert [wire.rig.rx.take_frame()[0] for _ in range(QUEUED)] == numbered(QUEUED)
        wire.rig.pause()
        assert warm or wire.rig.rx.interrupts == before + 1
        wire.rig.resume()


def test_receive_kicks_are_not_asked_for_while_there_are_buffers(make):
    wire = make(features=without(defs.F_RING_EVENT_IDX), ioeventfd=False)

    def no_notify():
        return wire.rig.memory.read(wire.rig.rx.used, 2) == b"\1\0"

    assert not no_notify()
    wire.rig.fill(3)
    assert no_notify()
    send_at_once(wire, numbered(2))
    for _ in range(2):
        wire.rig.rx.take_frame()
    assert no_notify()
    wire.send(frame())
    wire.rig.rx.take_frame()
    wire.rig.until(lambda: not no_notify())


@pytest.mark.parametrize("unwanted", [{0}, {3}, {QUEUED - 1}, {1, 2, 5}, set(range(QUEUED))], ids=str)
def test_receive_filtered_frames_in_a_batch_cost_no_buffer_and_no_order(wire, unwanted):
    wire.rig.fill(2 * QUEUED)
    assert wire.rig.command(n.CTRL_RX, n.CTRL_RX_PROMISC, b"\0") == n.OK
    warm = numbered(QUEUED, to=MAC)
    send_at_once(wire, warm)
    assert [wire.rig.rx.take_frame()[0] for _ in warm] == warm
    frames = [frame(b"%d" % i, to=OTHER if i in unwanted else MAC) for i in range(QUEUED)]
    send_at_once(wire, frames)
    wire.rig.until(lambda: wire.rig.counters("rx0")["filtered"] == len(unwanted))
    wanted = [data for i, data in enumerate(frames) if i not in unwanted]
    assert [wire.rig.rx.take_frame()[0] for _ in wanted] == wanted
    assert wire.send(frame(b"last", to=MAC))
    assert wire.rig.rx.take_frame()[0] == frame(b"last", to=MAC)
    heads = wire.rig.rx.used_idx
    order = [struct.unpack("<I", wire.rig.memory.read(wire.rig.rx.used + 4 + 8 * i, 4))[0] for i in range(heads)]
    assert order == list(range(heads)), "chains are used in the order in which they were offered"
    assert wire.rig.counters("rx0")["frames"] == heads


@pytest.mark.parametrize("mergeable", [True, False])
def test_receive_long_frames_in_a_batch_leave_the_others_in_order(make, mergeable):
    wire = make(features=ALL if mergeable else without(n.F_MRG_RXBUF))
    wire.rig.fill(4 * QUEUED, 300)
    warm = numbered(QUEUED)
    send_at_once(wire, warm)
    assert [wire.rig.rx.take_frame()[0] for _ in warm] == warm
    frames = [frame(os.urandom(20), size=900 if i in (2, 5) else 100) for i in range(QUEUED)]
    send_at_once(wire, frames)
    wanted = frames if mergeable else [data for data in frames if len(data) == 100]
    assert [wire.rig.rx.take_frame()[0] for _ in wanted] == wanted
    wire.rig.until(lambda: wire.rig.counters("rx0")["too_long"] == len(frames) - len(wanted))


def test_receive_batch_with_too_few_buffers_is_kept_and_completed(wire):
    wire.rig.fill(QUEUED)
    warm = numbered(QUEUED)
    send_at_once(wire, warm)
    assert [wire.rig.rx.take_frame()[0] for _ in warm] == warm
    frames = [frame(os.urandom(20), size=500) for i in range(QUEUED)]
    wire.rig.fill(4, 100)
    send_at_once(wire, frames)
    for _ in range(44):
        wire.rig.rx.receive(100)
    assert [wire.rig.rx.take_frame()[0] for _ in frames] == frames


def test_receive_batch_kept_for_want_of_buffers_survives_a_stop_and_not_another_driver(make):
    wire = make()
    wire.rig.fill(1, 100)
    send_at_once(wire, [frame(b"long", size=500)])
    wire.rig.until(wire.all_read)
    assert wire.send(frame(b"next"))
    wire.rig.pause()
    wire.rig.resume()
    wire.rig.fill(5, 100)
    assert wire.rig.rx.take_frame()[0] == frame(b"long", size=500)
    wire.rig.fill(1, 100)
    assert wire.rig.rx.take_frame()[0] == frame(b"next")
    wire.rig.fill(1, 100)
    send_at_once(wire, [frame(b"long", size=500)])
    wire.rig.until(wire.all_read)
    wire.rig.reset()
    for ring in wire.rig.rings:
        os.close(ring.fd)
    wire.rig.start(LEGACY)
    wire.rig.fill(8, 100)
    assert wire.send(frame(b"new"))
    assert wire.rig.rx.take_frame()[0] == frame(b"new")


@pytest.mark.parametrize("size", [65000, 30000, 9000])
@pytest.mark.parametrize("buffer", [256, 1526, 4096])
def test_receive_runs_of_long_frames_among_short_ones_are_spread_over_mergeable_buffers(make, size, buffer):
    wire = make(rx_queue_size=1024)
    sizes = [60, size, size, 60, size] + 66 * [60] + [size, 60]
    sent = [frame(os.urandom(30), size=each) for each in sizes]
    waiting, got = list(sent), []

    def all_arrived():
        while waiting and wire.send(waiting[0]):
            del waiting[0]
        while len(wire.rig.rx.free) > 600:
            wire.rig.rx.receive(buffer)
            wire.rig.next = 0x100000 if wire.rig.next > 24 << 20 else wire.rig.next
        if wire.rig.rx.used_idx != wire.rig.rx.seen:
            got.append(wire.rig.rx.take_frame()[0])
        return len(got) == len(sent)

    wire.rig.until(all_arrived)
    assert got == sent


def test_receive_buffer_of_more_pieces_than_a_call_takes_is_filled_whole(make):
    wire = make(rx_queue_size=1024)
    wire.rig.rx.receive(1024, 1024)
    data = frame(os.urandom(900), size=1000)
    assert wire.send(data)
    assert wire.rig.rx.take_frame()[0] == data


# -- everything at random

SIZES = st.one_of(st.integers(14, 120), st.integers(14, 2000), st.integers(8000, 15000))
#: a ring full of the smallest, in the most pieces, holds the longest frame
BUFFERS = st.tuples(st.one_of(st.integers(300, 1000), st.integers(1500, 5000)), st.integers(1, 3))
#: with num_buffers and without, with the modern header and the legacy ones
MASKS = [ALL, LEGACY, without(defs.F_RING_EVENT_IDX), without(n.F_MRG_RXBUF), without(n.F_MRG_RXBUF, base=LEGACY)]


@pytest.fixture(params=list(WIRES))
def kind(request):
    if request.param != "tap":
        yield WIRES[request.param]
        return
    with network_namespace():
        yield WIRES["tap"]


def filled(index, size):
    return frame(struct.pack(">H", index) + os.urandom(max(0, size - 16)), size=size)[:size]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    features=st.sampled_from(MASKS),
    ioeventfd=st.booleans(),
    frames=st.lists(st.tuples(SIZES, st.lists(st.integers(1, 3000), max_size=4), st.booleans()), max_size=50),
)
def test_transmitted_frames_of_any_layout_arrive_in_order_once(kind, features, ioeventfd, frames):
    wire = kind(features=features, ioeventfd=ioeventfd)
    try:
        sent = []
        for i, (size, cuts, kick) in enumerate(frames):
            sent.append(filled(i, size))
            end = wire.rig.header + size
            wire.rig.transmit(sent[-1], sorted({cut for cut in cuts if cut < end}), kick=kick)
        wire.rig.tx.kick()
        assert [wire.recv() for _ in sent] == sent
        wire.rig.until(lambda: wire.rig.tx.used_idx == len(sent))
        assert wire.rig.counters("tx0")["frames"] == len(sent)
    finally:
        wire.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    features=st.sampled_from(MASKS),
    ioeventfd=st.booleans(),
    sizes=st.lists(SIZES, max_size=60),
    buffers=st.lists(BUFFERS, min_size=1, max_size=20),
    batches=st.lists(st.integers(1, 12), min_size=1, max_size=6),
)
def test_received_frames_in_buffers_of_any_layout_arrive_in_order_once(kind, features, ioeventfd, sizes, buffers, batches):
    wire = kind(features=features, ioeventfd=ioeventfd)
    ring, mergeable = wire.rig.rx, bool(features >> n.F_MRG_RXBUF & 1)
    try:
        waiting = sent = [filled(i, size) for i, size in enumerate(sizes)]
        layouts, counts = itertools.cycle(buffers), itertools.cycle(batches)
        got = []

        def all_arrived():
            nonlocal waiting
            count = next(counts)
            while waiting and count and wire.send(waiting[0]):
                waiting, count = waiting[1:], count - 1
            if kind is StreamWire:
                wire.finish()
            if len(ring.free) > 40:
                for size, pieces in itertools.islice(layouts, next(counts)):
                    ring.receive(size if mergeable else 15100 + size, pieces, kick=False)
                    wire.rig.next = 0x100000 if wire.rig.next > 24 << 20 else wire.rig.next
                ring.kick()
            while ring.used_idx != ring.seen:
                got.append(ring.take_frame(wire.rig.header)[0])
            return len(got) == len(sent)

        wire.rig.until(all_arrived)
        assert got == sent
        assert wire.rig.counters("rx0")["frames"] == len(sent)
    finally:
        wire.close()
