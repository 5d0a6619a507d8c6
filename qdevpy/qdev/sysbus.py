# SPDX-License-Identifier: Apache-2.0
"""Devices on the machine's main bus: soldered on, wired by the board. As QEMU's ``hw/core/sysbus.c``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from qdevpy.qdev.device import Device


class SysBusDevice(Device):
    """Base class of devices on the main bus.

    :cvar mmio: memory it answers at, as far as others are to know: ``(address, bytes)``
    """

    type_name: ClassVar[str] = "sys-bus-device"
    bus_type: ClassVar[str | None] = "System"
    user_creatable: ClassVar[bool] = False
    abstract: ClassVar[bool] = True
    mmio: ClassVar[Sequence[tuple[int, int]]] = ()

    def describe(self) -> list[str]:
        """As QEMU's ``info qtree`` (sysbus_dev_print)."""
        return [f"mmio {address:016x}/{size:016x}" for address, size in self.mmio]
