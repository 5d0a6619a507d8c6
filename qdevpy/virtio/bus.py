# SPDX-License-Identifier: Apache-2.0
"""The bus between a transport and the one virtio device behind it (QEMU: ``hw/virtio/virtio-bus.c``)."""

from __future__ import annotations

from typing import ClassVar

from qdevpy.qdev.bus import Bus


class VirtIOBus(Bus):
    """Holds one device."""

    bus_type: ClassVar[str] = "virtio-bus"
    type_name: ClassVar[str] = "virtio-pci-bus"
