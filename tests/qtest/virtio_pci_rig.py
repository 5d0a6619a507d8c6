# SPDX-License-Identifier: Apache-2.0
"""Any virtio device class on a machine, with a driver, for tests of virtio-pci's registers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from null_device import NullDevice

from qdevpy.testing.driver import ModernDriver
from qdevpy.testing.machine import FakeMachine
from qdevpy.virtio import defs
from qdevpy.virtio.pci_types import device_types_for

VERSION_1 = 1 << defs.F_VERSION_1
BIT_5 = 1 << 5
BIT_55 = 1 << 55
READY = defs.STATUS_ACKNOWLEDGE | defs.STATUS_DRIVER


def types_of(device_class: type[Any]) -> dict[str, Any]:
    """The PCI types of a device class, by name."""
    return {kind.name: kind for kind in device_types_for(device_class, "test")}


@contextmanager
def plugged(
    driver_class: type[Any] = ModernDriver, device_class: type[Any] = NullDevice, variant: str = "pci", **properties: Any
) -> Iterator[Any]:
    """The driver of a freshly plugged device; it has ``.device`` and ``.proxy``."""
    with FakeMachine(types=types_of(device_class)) as machine:
        proxy = machine.plug_type(f"{device_class.base_name}-{variant}", id="null0", **properties)
        driver = driver_class(machine, proxy)
        driver.device = proxy.device
        yield driver
