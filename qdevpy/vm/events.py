# SPDX-License-Identifier: Apache-2.0
"""What happens to a machine, told to whoever listens: a QMP monitor, a test, a plugin.

The events there are stand in :mod:`qdevpy.vm.event_types`; import that only where one is emitted, for start-up counts.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)

Listener = Callable[[Any], None]


def event_name(event: type[Any]) -> str:
    """``DEVICE_DELETED`` for :class:`DeviceDeleted`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", event.__name__).upper()


class Events:
    """A machine's events. All methods are called with the VM lock held; listeners are, too."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    @property
    def listened(self) -> bool:
        """Whether anybody listens; who emits may save itself the trouble."""
        return bool(self._listeners)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call LISTENER with every event from now on; returns what undoes it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def emit(self, event: Any) -> None:
        """Tell everybody, at once; a listener that fails harms nobody."""
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception:
                log.exception("%s: in a listener", event_name(type(event)))
