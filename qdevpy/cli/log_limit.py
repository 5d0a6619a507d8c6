# SPDX-License-Identifier: Apache-2.0
"""A limit on how often one place in the program may speak: a guest that makes a device fail in a loop must not fill the disk."""

from __future__ import annotations

import logging

#: messages of one place that are shown in full; then, as long as it goes on, one line each INTERVAL
BURST = 10
#: seconds
INTERVAL = 60.0


class RateLimit(logging.Filter):
    """For a handler. Places are lines of source, so what a guest can vary in a message makes no difference."""

    def __init__(self) -> None:
        super().__init__()
        self._places: dict[tuple[str, int], Place] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to show RECORD; changes its text where others were left out."""
        place = self._places.setdefault((record.pathname, record.lineno), Place(record.created))
        return place.allow(record)


class Place:
    """What one place has said since START, in seconds of :func:`time.time`."""

    def __init__(self, start: float) -> None:
        self.start = start
        self.allowed = BURST
        self.seen = 0
        self.hidden = 0

    def allow(self, record: logging.LogRecord) -> bool:
        """See :meth:`RateLimit.filter`."""
        if not 0 <= record.created - self.start < INTERVAL:  # clocks are set back, too
            summary = self.hidden
            # a place that went on all the time gets a line; one that was quiet gets its burst back
            self.start, self.seen, self.hidden, self.allowed = record.created, 0, 0, 1 if summary else BURST
            if summary:
                record.msg = f"{record.getMessage()} (and {summary} more of this kind before)"
                record.args = record.exc_info = record.exc_text = None
        self.seen += 1
        if self.seen > self.allowed:
            self.hidden += 1
            return False
        if self.seen == self.allowed == BURST:
            record.msg = f"{record.getMessage()} (more of this kind are counted, and told once in {INTERVAL:.0f} s)"
            record.args = None
        return True
