# SPDX-License-Identifier: Apache-2.0
"""Numbers of the virtio specification that several files need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# 2.1 Device Status Field
STATUS_ACKNOWLEDGE = 1
STATUS_DRIVER = 2
STATUS_DRIVER_OK = 4
STATUS_FEATURES_OK = 8
STATUS_NEEDS_RESET = 64
STATUS_FAILED = 128

# 6 Reserved Feature Bits; 6.3 Legacy Interface
F_NOTIFY_ON_EMPTY = 24
F_ANY_LAYOUT = 27
F_RING_INDIRECT_DESC = 28
F_RING_EVENT_IDX = 29
F_BAD_FEATURE = 30
F_VERSION_1 = 32
F_ACCESS_PLATFORM = 33
F_RING_PACKED = 34
F_IN_ORDER = 35
F_ORDER_PLATFORM = 36
F_SR_IOV = 37
F_NOTIFICATION_DATA = 38
F_RING_RESET = 40

# 5 Device Types
ID_NET = 1
ID_BLOCK = 2
ID_CONSOLE = 3
ID_RNG = 4

# 4.1.5.1.2.1, 4.1.4.8: no vector
NO_VECTOR = 0xFFFF

# 4.1.2 PCI Device Discovery
PCI_VENDOR = 0x1AF4
PCI_MODERN_BASE = 0x1040


def feature_names(prefix: str, numbers: Mapping[str, Any]) -> dict[int, str]:
    """``{9: "VIRTIO_BLK_F_FLUSH"}`` of constants ``F_FLUSH = 9``.

    :param prefix: ``VIRTIO_BLK_``
    :param numbers: a module's ``vars()``
    """
    return {number: f"{prefix}{name}" for name, number in numbers.items() if name.startswith("F_")}
