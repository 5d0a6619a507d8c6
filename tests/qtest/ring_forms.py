# SPDX-License-Identifier: Apache-2.0
"""Modern drivers that insist on a form of ring, for tests that are to pass with every one."""

from __future__ import annotations

from typing import ClassVar

from qdevpy.testing.driver import ModernDriver
from qdevpy.virtio import defs

PACKED, IN_ORDER = 1 << defs.F_RING_PACKED, 1 << defs.F_IN_ORDER
EVENT_IDX, VERSION_1 = 1 << defs.F_RING_EVENT_IDX, 1 << defs.F_VERSION_1
#: properties of the device
OFFER = {"packed": "on", "in_order": "on"}


class PackedDriver(ModernDriver):
    """Wants packed rings, and events at descriptors."""

    form: ClassVar[int] = PACKED | EVENT_IDX

    def negotiate(self, features: int) -> bool:
        """As :meth:`ModernDriver.negotiate`, with its form."""
        return super().negotiate(features | self.form | VERSION_1)


class InOrderDriver(PackedDriver):
    """Wants its chains back in order, in split rings."""

    form: ClassVar[int] = IN_ORDER


class PackedInOrderDriver(PackedDriver):
    """Wants both, without events."""

    form: ClassVar[int] = PACKED | IN_ORDER


FORMS = (PackedDriver, InOrderDriver, PackedInOrderDriver)
