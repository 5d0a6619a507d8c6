# SPDX-License-Identifier: Apache-2.0
"""What a place in the program may say when it says it again and again."""

import logging
import re

import pytest

from qdevpy.cli.log_limit import BURST, INTERVAL, RateLimit


class Log:
    """A logger with a limit and a clock of its own."""

    def __init__(self):
        self.lines = []
        self.now = 1000.0
        self.logger = logging.Logger("device")
        handler = logging.Handler()
        handler.addFilter(RateLimit())
        handler.emit = lambda record: self.lines.append(handler.format(record))
        self.logger.addHandler(handler)
        self.logger.handle = self.handle

    def handle(self, record):
        record.created = self.now
        self.logger.callHandlers(record)

    def fail(self, times=1):
        for number in range(times):
            try:
                raise ValueError(f"value {number}")
            except ValueError:
                self.logger.exception("disk: write of %d", number)

    def mention(self):
        self.logger.warning("something else")


@pytest.fixture
def log():
    return Log()


def test_first_failures_are_shown_with_traceback_and_the_rest_is_announced(log):
    log.fail(1000)
    assert len(log.lines) == BURST
    assert all("ValueError: value" in line for line in log.lines)
    assert "told once in 60 s" in log.lines[-1]


def test_another_place_is_not_silenced(log):
    log.fail(1000)
    log.mention()
    assert log.lines[-1] == "something else"


def test_failure_that_goes_on_gets_one_line_an_interval_with_its_count(log):
    log.fail(1000)
    for _ in range(5):
        log.now += INTERVAL
        log.fail(1000)
    assert len(log.lines) == BURST + 5
    assert re.fullmatch(r"disk: write of 0 \(and 999 more of this kind before\)", log.lines[-1])


def test_place_that_was_quiet_is_heard_in_full_again(log):
    log.fail(BURST + 1)
    log.now += INTERVAL
    log.fail()
    log.now += INTERVAL
    log.fail(2)
    assert "ValueError" not in log.lines[-3]
    assert "ValueError: value 1" in log.lines[-1]


def test_clock_that_is_set_back_starts_anew(log):
    log.fail(1000)
    log.now -= 500
    log.fail()
    assert "and 990 more" in log.lines[-1]
