# SPDX-License-Identifier: Apache-2.0
import logging
import os
import threading

import pytest

from qdevpy.vm.loop import MainLoop


@pytest.fixture
def loop():
    made = MainLoop(threading.RLock())
    yield made
    made.close()


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def test_reader_with_data_is_called_until_removed(loop, pipe):
    seen = []
    loop.add_reader(pipe[0], lambda: seen.append(os.read(pipe[0], 1)))
    os.write(pipe[1], b"ab")
    while len(seen) < 2:
        loop.run_once(1)
    loop.remove_reader(pipe[0])
    os.write(pipe[1], b"c")
    loop.run_once(0)
    assert seen == [b"a", b"b"]


def test_writer_beside_a_reader_keeps_the_reader(loop, pipe):
    seen = []
    loop.add_writer(pipe[1], lambda: seen.append("writable"))
    loop.run_once(1)
    loop.remove_writer(pipe[1])
    loop.run_once(0)
    assert seen == ["writable"]


def test_call_soon_from_another_thread_wakes_the_loop(loop):
    seen = []
    thread = threading.Thread(target=lambda: loop.call_soon(lambda: seen.append(threading.current_thread())))
    thread.start()
    while not seen:
        loop.run_once(1)
    thread.join()
    assert seen == [threading.current_thread()]


def test_timers_fire_in_order_and_cancelled_ones_do_not(loop):
    seen = []
    loop.call_later(0.02, lambda: seen.append("late"))
    loop.call_later(0.0, lambda: seen.append("early"))
    loop.call_later(0.01, lambda: seen.append("never")).cancel()
    while "late" not in seen:
        loop.run_once(1)
    assert seen == ["early", "late"]


def test_callback_that_raises_is_logged_and_the_loop_goes_on(loop, caplog):
    seen = []
    loop.call_soon(lambda: 1 // 0)
    loop.call_soon(lambda: seen.append("after"))
    with caplog.at_level(logging.ERROR):
        while not seen:
            loop.run_once(1)
    assert "ZeroDivisionError" in caplog.text


def test_reader_removed_by_an_earlier_callback_of_the_round_is_not_called(loop, pipe):
    other = os.pipe()
    seen = []

    def take_both_away(name):
        seen.append(name)
        loop.remove_reader(pipe[0])
        loop.remove_reader(other[0])

    loop.add_reader(pipe[0], lambda: take_both_away("one"))
    loop.add_reader(other[0], lambda: take_both_away("other"))
    os.write(pipe[1], b"x")
    os.write(other[1], b"x")
    loop.run_once(1)
    loop.run_once(0)
    for fd in other:
        os.close(fd)
    assert len(seen) == 1


def test_callbacks_run_with_the_lock_held(pipe):
    lock = threading.RLock()
    loop = MainLoop(lock)
    free = []

    def probe():
        taken = threading.Thread(target=lambda: free.append(lock.acquire(blocking=False)))
        taken.start()
        taken.join()

    loop.call_soon(probe)
    while not free:
        loop.run_once(1)
    loop.close()
    assert free == [False]


def test_removing_what_is_not_there_is_harmless(loop, pipe):
    loop.remove_reader(pipe[0])
    loop.remove_writer(pipe[0])


def test_call_once_soon_calls_once_and_may_be_asked_again_from_the_call(loop):
    class Server:
        turns = 0

        def serve(self):
            self.turns += 1
            if self.turns < 3:
                loop.call_once_soon(self.serve)
                loop.call_once_soon(self.serve)

    one, other = Server(), Server()
    for _ in range(100):
        loop.call_once_soon(one.serve)
    loop.call_once_soon(other.serve)
    loop.run_once()
    assert (one.turns, other.turns) == (1, 1)
    for _ in range(5):
        loop.run_once(0)
    assert (one.turns, other.turns) == (3, 3)


def test_call_once_soon_that_fails_may_be_asked_for_again(loop, caplog):
    def fail():
        raise ValueError("no")

    for _ in range(2):
        loop.call_once_soon(fail)
        loop.run_once()
    assert caplog.text.count("ValueError: no") == 2
