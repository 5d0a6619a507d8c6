# SPDX-License-Identifier: Apache-2.0
"""Back ends that break the protocol: the machine lives, no descriptor is left behind, and the next back end is served by."""

import os
import socket
import struct

import pytest
import vhost_server as vs
from hypothesis import given, settings
from hypothesis import strategies as st
from vhost_rig import Rig

from qdevpy.errors import VhostError
from qdevpy.vhost import channel
from qdevpy.vhost.backend_requests import BackendRequests
from qdevpy.vhost.channel import Channel
from qdevpy.vhost.frontend import State
from qdevpy.vhost.messages import Request
from qdevpy.virtio import defs

HEADER = vs.HEADER


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Chardevs try again at once, and patience ends after a moment."""
    from qdevpy.vm.loop import MainLoop

    later = MainLoop.call_later
    monkeypatch.setattr(MainLoop, "call_later", lambda loop, seconds, call: later(loop, min(seconds, 0.01), call))
    monkeypatch.setattr(channel, "TIME_LIMIT", 0.5)


def descriptors():
    return sorted(os.listdir("/proc/self/fd"))


# -- one reply at a time


class Pair:
    """A channel and its other end, which has said what it will say."""

    def __init__(self, said, fds=0):
        ours, self.theirs = socket.socketpair()
        self.channel = Channel(ours)
        sent = [os.eventfd(0) for _ in range(fds)]
        if said:
            socket.send_fds(self.theirs, [said], sent)
        for fd in sent:
            os.close(fd)
        self.theirs.shutdown(socket.SHUT_WR)

    def __enter__(self):
        return self.channel

    def __exit__(self, *exc):
        self.channel.close()
        self.theirs.close()


@settings(max_examples=300, deadline=None)
@given(said=st.binary(max_size=60), fds=st.integers(0, 8))
def test_any_bytes_are_an_answer_or_an_error_and_leave_no_descriptor(said, fds):
    before = descriptors()
    right = HEADER.pack(Request.GET_FEATURES, 1 | vs.REPLY, 8)
    with Pair(said, fds) as end:
        try:
            end.ask(Request.GET_FEATURES, size=8)
        except VhostError:
            pass
        else:
            assert said[:4] == right[:4]
            assert (len(said) >= 20, fds) == (True, 0)
    assert descriptors() == before


@settings(max_examples=200, deadline=None)
@given(
    number=st.sampled_from([Request.GET_FEATURES, Request.GET_CONFIG, 0, 77]),
    flags=st.integers(0, 31),
    size=st.sampled_from([0, 7, 8, 9, 4096, 0xFFFFFFFF]),
    fds=st.integers(0, 3),
)
def test_answer_counts_only_where_every_part_of_it_is_right(number, flags, size, fds):
    before = descriptors()
    said = HEADER.pack(number, flags, size) + bytes(min(size, 64))
    with Pair(said, fds) as end:
        is_right = number == Request.GET_FEATURES and flags & 3 == 1 and flags & 4 and size == 8 and not fds
        if is_right:
            assert end.ask(Request.GET_FEATURES, size=8) == bytes(8)
        else:
            with pytest.raises(VhostError):
                end.ask(Request.GET_FEATURES, size=8)
    assert descriptors() == before


@pytest.mark.parametrize("fds", [0, 2, 8])
def test_answer_that_should_have_one_descriptor_has_exactly_one(fds):
    before = descriptors()
    said = HEADER.pack(Request.GET_INFLIGHT_FD, 1 | vs.REPLY, 24) + bytes(24)
    with Pair(said, fds) as end, pytest.raises(VhostError, match=f"with {fds} descriptors; expected 1"):
        end.ask_for_fd(Request.GET_INFLIGHT_FD, bytes(24), size=24)
    assert descriptors() == before


def test_answer_with_more_descriptors_than_a_message_may_have_leaves_none():
    before = descriptors()
    said = HEADER.pack(Request.GET_FEATURES, 1 | vs.REPLY, 8) + bytes(8)
    with Pair(said, 9) as end, pytest.raises(VhostError, match="more than 8 descriptors"):
        end.ask(Request.GET_FEATURES, size=8)
    assert descriptors() == before


def test_back_end_that_says_nothing_is_given_up_in_time():
    ours, theirs = socket.socketpair()
    end = Channel(ours)
    with theirs, pytest.raises(VhostError, match=r"does not answer GET_FEATURES within 0\.5 seconds"):
        end.ask(Request.GET_FEATURES, size=8)
    end.close()


def test_back_end_that_does_not_read_is_given_up_in_time():
    ours, theirs = socket.socketpair()
    end = Channel(ours)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with theirs, pytest.raises(VhostError, match="does not answer SET_CONFIG within"):
        end.request(Request.SET_CONFIG, bytes(1 << 20))
    end.close()


@settings(max_examples=200, deadline=None)
@given(pieces=st.lists(st.binary(max_size=40), max_size=4), fds=st.integers(0, 4))
def test_any_bytes_on_the_back_ends_own_channel_are_served_or_end_it(pieces, fds):
    before = descriptors()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    requests = BackendRequests(ours, lambda: None)
    sent = [os.eventfd(0) for _ in range(fds)]
    for piece in pieces:
        if piece:
            socket.send_fds(theirs, [piece], sent)
        if not requests.serve():
            break
    for fd in sent:
        os.close(fd)
    requests.close()
    theirs.close()
    assert descriptors() == before


def test_back_ends_own_requests_are_answered_where_it_asks_for_that():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    changes = []
    requests = BackendRequests(ours, lambda: changes.append(1))
    config_change, unknown = HEADER.pack(2, 1 | vs.NEED_REPLY, 0), HEADER.pack(3, 1 | vs.NEED_REPLY, 8) + bytes(8)
    with theirs:
        theirs.sendall(config_change[:5])
        assert requests.serve()
        theirs.sendall(config_change[5:] + unknown)
        assert requests.serve()
        assert theirs.recv(20) == HEADER.pack(2, 1 | vs.REPLY, 8) + struct.pack("=Q", 0)
        assert theirs.recv(20) == HEADER.pack(3, 1 | vs.REPLY, 8) + struct.pack("=Q", 1)
        assert changes == [1]
    requests.close()


# -- at each step of a device's life

WRONG = {
    "another request": lambda message, fds: (HEADER.pack(99, 5, len(message) - 12) + message[12:], fds),
    "no reply bit": lambda message, fds: (message[:4] + struct.pack("=I", 1) + message[8:], fds),
    "version 2": lambda message, fds: (message[:4] + struct.pack("=I", 6) + message[8:], fds),
    "too short": lambda message, fds: (message[:8] + struct.pack("=I", len(message) - 13) + message[12:-1], fds),
    "too long": lambda message, fds: (message[:8] + struct.pack("=I", len(message) - 11) + message[12:] + b"x", fds),
    "endless": lambda message, fds: (message[:8] + struct.pack("=I", 0xFFFFFFFF) + message[12:], fds),
    "a descriptor too many": lambda message, fds: (message, [*fds, os.eventfd(0)]),
    "cut off": lambda message, fds: (message[:7], fds),
    "nothing": lambda message, fds: (b"", fds),
    "hung up": lambda message, fds: None,
}
ANSWERS = [
    vs.GET_FEATURES, vs.GET_PROTOCOL_FEATURES, vs.GET_QUEUE_NUM, vs.SET_BACKEND_REQ_FD, vs.SET_OWNER, vs.GET_CONFIG,
    vs.SET_FEATURES, vs.SET_MEM_TABLE, vs.GET_INFLIGHT_FD, vs.SET_INFLIGHT_FD,
    vs.SET_VRING_NUM, vs.SET_VRING_BASE, vs.SET_VRING_ADDR,
    vs.SET_VRING_CALL, vs.SET_VRING_ERR, vs.SET_VRING_KICK, vs.SET_VRING_ENABLE, vs.SET_STATUS, vs.GET_VRING_BASE,
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("number", ANSWERS)
def test_wrong_answer_ends_the_connection_and_the_next_back_end_serves(tmp_path, number, wrong):
    with Rig(tmp_path) as rig:
        before = None
        if number == vs.GET_INFLIGHT_FD:  # asked for once in a driver's life
            rig.server.replies[number] = WRONG[wrong]
            rig.start(msix=True)
        else:
            rig.start(msix=True)
            assert rig.write(0, 1) == 0
            before = len(descriptors())
            rig.server.replies[number] = WRONG[wrong]
            if number == vs.GET_VRING_BASE:
                rig.machine.pause()
                rig.machine.start()
            else:
                rig.server.hang_up()
            rig.wait(lambda: number in rig.server.requests(), "it was asked again")
        head = rig.add_write(1, 1)
        rig.queue(0).kick()
        rig.server.do(rig.server.replies.clear)
        assert rig.finish(head) == 0
        assert not rig.driver.status & defs.STATUS_NEEDS_RESET
        assert rig.state is State.SERVING
        if before is not None:
            rig.wait(lambda: len(descriptors()) == before, "no descriptor is left behind")


@pytest.mark.parametrize("number", [vs.SET_MEM_TABLE, vs.SET_VRING_KICK, vs.SET_VRING_ENABLE])
def test_refusal_ends_the_connection_with_what_was_refused(tmp_path, number, caplog):
    with Rig(tmp_path) as rig:
        rig.server.replies[number] = lambda message, fds: (message[:12] + struct.pack("=Q", 22), fds)
        rig.start(msix=True)
        rig.wait(lambda: f"refuses {Request(number).name} (0x16)" in caplog.text, "the warning")
        rig.server.do(rig.server.replies.clear)
        assert rig.write(1, 1) == 0


def test_config_space_of_another_place_is_refused(tmp_path, caplog):
    with Rig(tmp_path) as rig:
        rig.start(msix=True)
        rig.server.replies[vs.GET_CONFIG] = lambda message, fds: (message[:12] + struct.pack("=I", 4) + message[16:], fds)
        rig.server.hang_up()
        rig.wait(lambda: "another part of the config space" in caplog.text, "the warning")
        rig.server.do(rig.server.replies.clear)
        assert rig.write(1, 1) == 0


@pytest.mark.parametrize("base", [9, 300, 0x10000, 0xFFFFFFFF])
def test_position_that_cannot_be_is_not_believed(tmp_path, base):
    with Rig(tmp_path) as rig:
        rig.start(msix=True)
        assert rig.write(1, 1) == 0
        rig.server.replies[vs.GET_VRING_BASE] = lambda message, fds: (message[:16] + struct.pack("=I", base), fds)
        rig.machine.pause()
        believed = (base, 1) if base == 9 else (1, 1)  # up to a ring ahead of the used index it may be true
        assert rig.device.queues[0].positions == believed


def test_answer_about_another_queue_ends_the_connection(tmp_path, caplog):
    with Rig(tmp_path) as rig:
        rig.start(msix=True)
        rig.server.replies[vs.GET_VRING_BASE] = lambda message, fds: (message[:12] + struct.pack("=II", 7, 0), fds)
        rig.machine.pause()
        assert "answers GET_VRING_BASE of queue 0 with that of queue 7" in caplog.text
        assert rig.state is State.AWAY


def test_bytes_that_nobody_asked_for_end_the_connection(tmp_path, caplog):
    with Rig(tmp_path) as rig:
        rig.start(msix=True)
        rig.server.say(b"hello")
        rig.wait(lambda: "sends what nobody asked for" in caplog.text, "the warning")
        rig.wait_state(State.SERVING)
        assert rig.write(1, 1) == 0


def test_back_end_that_comes_and_fails_for_ever_fills_no_log(tmp_path, caplog):
    with Rig(tmp_path) as rig:
        rig.start(msix=True)
        rig.server.dies_at = vs.GET_FEATURES
        rig.server.hang_up()
        rig.wait(lambda: len(rig.server.log) > 30, "many attempts")
        warnings = [record for record in caplog.records if record.name == "qdevpy.vhost.link"]
        assert len(warnings) == 10
        assert warnings[-1].getMessage().endswith("no more of this from now on")
