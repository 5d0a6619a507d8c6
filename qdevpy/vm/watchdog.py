# SPDX-License-Identifier: Apache-2.0
"""Names device code in Python that does not come back: an endless loop holds the VM lock, and the machine with it.

A thread of its own looks now and then at what the others are in; it needs the GIL only, which a loop in Python gives away.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from qdevpy.qdev.device import Device

log = logging.getLogger(__name__)

PATIENCE = 5.0  #: seconds that a callback may take before it is named; one should take microseconds
LOOKS = 5  #: how often it looks in that time, so one is named a fifth of it later at the latest

#: A thread is in a device's code: whose, and what says what it was to do, with its arguments. Each visit is a tuple of its own.
Visit: TypeAlias = "tuple[Device, Callable[..., str], tuple[object, ...]]"


class Seen:
    """A visit that was under way when the watchdog looked."""

    def __init__(self, visit: Visit, since: float) -> None:
        self.visit, self.since, self.told = visit, since, False


class Watchdog:
    """The visits of one machine's threads. ``enter`` and ``leave`` are on the way of every access, and do the least:
    the clock is looked at by the watchdog only, which knows a visit that goes on from a new one by its identity.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self.patience = patience
        self._visits: dict[int, Visit | None] = {}
        self._seen: dict[int, Seen] = {}
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look; harmless where it does."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._look, name="watchdog", daemon=True)
            self._thread.start()

    def enter(self, visit: Visit) -> Visit | None:
        """The calling thread goes into a device's code; what :meth:`leave` wants to know."""
        thread = get_ident()
        before = self._visits.get(thread)
        self._visits[thread] = visit
        return before

    def leave(self, before: Visit | None) -> None:
        """It came back."""
        self._visits[get_ident()] = before

    def _look(self) -> None:
        while not self._end.wait(self.patience / LOOKS):
            now = time.monotonic()
            for thread, visit in list(self._visits.items()):
                seen = self._seen.get(thread)
                if visit is None:
                    self._seen.pop(thread, None)
                elif seen is None or seen.visit is not visit:
                    self._seen[thread] = Seen(visit, now)
                elif now - seen.since >= self.patience and not seen.told:
                    seen.told = True
                    self._tell(thread, visit)

    def _tell(self, thread: int, visit: Visit) -> None:
        device, what, words = visit
        frame = sys._current_frames().get(thread)
        stack = "" if frame is None else "".join(traceback.format_stack(frame)).rstrip()
        log.warning(
            "%s, of %s: in %s for more than %g s, and the machine waits for it; it is here:\n%s",
            device.label,
            type(device).__module__,
            what(*words),
            self.patience,
            stack,
        )

    def close(self) -> None:
        """Look no more."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()
        self._visits.clear()
        self._seen.clear()
