# SPDX-License-Identifier: Apache-2.0
"""The data path over an inherited UDP socket, where frames of one length leave as one message."""

import os
import random
import socket

import pytest
from net_rig import NetRig, frame

from qdevpy.backend.netdev_dgram import DgramNetDev

PATIENCE = 30.0  # seconds
SO_NO_CHECK = 11
#: frames that fit the receiver's buffer
COUNT = 60


class Pair:
    """A card that sends to a UDP socket of ours, and gets what that sends."""

    def __init__(self, *, checksums=True):
        self.peer, theirs = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for each in (self.peer, theirs):
            each.bind(("127.0.0.1", 0))
            each.settimeout(PATIENCE)
        self.peer.connect(theirs.getsockname())
        theirs.connect(self.peer.getsockname())
        if not checksums:  # the kernel cuts no messages without them
            theirs.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
        netdev = DgramNetDev(id="lan")
        netdev.set_property("local.type", "fd")
        netdev.set_property("local.str", theirs.detach())
        self.rig = NetRig(netdev, ioeventfd=False, tx_queue_size=1024)

    def send_all(self, frames, cuts=()):
        for data in frames:
            self.rig.transmit(data, cuts, kick=False)
        self.rig.tx.kick()

    def recv(self, count):
        return [self.peer.recv(1 << 16) for _ in range(count)]

    def close(self):
        self.peer.close()
        self.rig.close()


@pytest.fixture
def make():
    pairs = []

    def build(**options):
        pairs.append(Pair(**options))
        return pairs[-1]

    yield build
    for pair in pairs:
        pair.close()


def of_sizes(sizes):
    return [frame(os.urandom(8), size=size) for size in sizes]


@pytest.mark.parametrize("checksums", [True, False], ids=["cut by the kernel", "refused by the kernel"])
@pytest.mark.parametrize(
    "sizes",
    [
        [64] * COUNT,
        [1500] * COUNT,
        [100, 100, 100, 60, 100, 100, 200, 200, 50, 300, 300],
        [60, 70, 80, 80, 70, 60],
        random.Random(1).choices([60, 60, 60, 1000, 1400], k=COUNT),
    ],
    ids=["short", "long", "runs", "few", "random"],
)
def test_frames_of_a_batch_arrive_each_as_a_datagram_in_order(make, sizes, checksums):
    pair = make(checksums=checksums)
    frames = of_sizes(sizes)
    pair.send_all(frames, cuts=(12, 30))
    assert pair.recv(len(frames)) == frames
    pair.rig.until(lambda: pair.rig.tx.used_idx == len(frames))
    counters = pair.rig.counters("tx0")
    assert (counters["frames"], counters["bytes"], counters["host_error"]) == (len(frames), sum(sizes), 0)


def test_frames_in_many_pieces_arrive_whole(make):
    pair = make()
    frames = of_sizes([1000] * 4)
    pair.send_all(frames, cuts=range(4, 1000, 4))
    assert pair.recv(4) == frames


def test_frames_longer_than_any_datagram_are_dropped_and_the_others_arrive(make):
    pair = make()
    frames = of_sizes([100, 100, 66000, 66000, 100, 100])
    pair.send_all(frames)
    assert pair.recv(4) == [data for data in frames if len(data) == 100]
    assert pair.rig.counters("tx0")["host_error"] == 2


def test_peer_that_went_away_is_forgotten_when_it_is_back(make):
    pair = make()
    address = pair.peer.getsockname()
    to = pair.peer.getpeername()
    pair.peer.close()
    pair.send_all(of_sizes([64] * 10))
    pair.peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    pair.peer.settimeout(PATIENCE)
    pair.peer.bind(address)
    pair.peer.connect(to)
    frames = of_sizes([64] * 10)
    pair.send_all(frames)
    assert pair.recv(10) == frames
    assert pair.rig.tx.used_idx == 20


def test_datagrams_are_received(make):
    pair = make()
    pair.rig.fill(32)
    frames = of_sizes([60, 1400] * 8)
    for data in frames:
        pair.peer.send(data)
    assert [pair.rig.rx.take_frame()[0] for _ in frames] == frames
