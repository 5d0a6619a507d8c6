# SPDX-License-Identifier: Apache-2.0
"""When an alarm goes off: the next second whose hour, minute and second are what the alarm registers say."""

from __future__ import annotations

DAY = 86400


def next_alarm(after: int, hour: int | None, minute: int | None, second: int | None) -> int | None:
    """The first second later than AFTER at that time of the day.

    :param after: seconds since the beginning of some day
    :param hour, minute, second: None matches any
    :returns: seconds as AFTER; None: there is no such time of the day
    """
    start = after + 1
    midnight = start - start % DAY
    for day in (midnight, midnight + DAY):
        found = _in_day(max(start - day, 0), hour, minute, second)
        if found is not None:
            return day + found
    return None


def _in_day(start: int, hour: int | None, minute: int | None, second: int | None) -> int | None:
    """The first match from START, in seconds since midnight; None: none on this day."""
    for hours in _matching(hour, start // 3600, 24):
        left = max(start - hours * 3600, 0)
        for minutes in _matching(minute, left // 60, 60):
            for seconds in _matching(second, max(left - minutes * 60, 0), 60):
                return (hours * 60 + minutes) * 60 + seconds
    return None


def _matching(wanted: int | None, first: int, end: int) -> range:
    """The values from FIRST on that match."""
    if wanted is None:
        return range(first, end)
    return range(wanted, wanted + 1) if first <= wanted < end else range(0)
