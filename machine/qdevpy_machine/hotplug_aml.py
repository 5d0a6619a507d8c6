# SPDX-License-Identifier: Apache-2.0
r"""The methods by which an operating system learns of PCI hotplug and ejects devices (ACPI 6.4, 6.3).

::

    \_GPE._E01 -> PCNT -> for each bus: DVNT (PCIU, 1): something came; DVNT (PCID, 3): something is to go
    Sxx._EJ0    -> PCEJ (bus, slot) -> B0EJ

The registers behind the fields are those of :mod:`.pcihp`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from qdevpy_machine import aml, layout


class HotplugBus(NamedTuple):
    """A bus that devices come to and go from, or on the way to such.

    :ivar bsel: its number to the controller; None: nothing comes or goes here
    :ivar slots: those that devices may come to
    :ivar bridges: slot of a bridge -> the bus behind it
    """

    bsel: int | None
    slots: tuple[int, ...]
    bridges: Mapping[int, HotplugBus]


#: pci.0 of a board without bridges; its slots 0 and 1 hold chips
FIRST_BUS = HotplugBus(0, tuple(range(2, 32)), {})

DEVICE_CHECK, EJECT_REQUEST = aml.ONE, aml.integer(3)
LOCK = "BLCK"
ROOT = "\\_SB.PCI0"


def registers() -> bytes:
    """Fields, lock and PCEJ; inside PCI0."""
    return b"".join(
        (
            aml.operation_region("PCST", layout.PCI_HOTPLUG, 8),
            aml.dword_fields("PCST", "PCIU", "PCID"),
            aml.operation_region("SEJ", layout.PCI_HOTPLUG + 8, 4),
            aml.dword_fields("SEJ", "B0EJ"),
            aml.operation_region("BNMR", layout.PCI_HOTPLUG + 16, 4),
            aml.dword_fields("BNMR", "BNUM"),
            aml.mutex(LOCK),
            aml.method(
                "PCEJ",
                2,
                aml.acquire(LOCK),
                aml.store(aml.argument(0), aml.name_string("BNUM")),
                aml.shift_left(aml.ONE, aml.argument(1), aml.name_string("B0EJ")),
                aml.release(LOCK),
            ),
        )
    )


def slot_name(slot: int) -> str:
    """The device of SLOT."""
    return f"S{slot:02X}"


def bus(described: HotplugBus, path: str = ROOT) -> bytes:
    """What the scope of a bus has: its slots, its bridges, and the methods that look at them.

    :param path: of that scope
    """
    bridges = b"".join(
        aml.device(slot_name(slot), aml.name("_ADR", aml.integer(slot << 16)), bus(behind, f"{path}.{slot_name(slot)}"))
        for slot, behind in described.bridges.items()
    )
    look_behind = b"".join(aml.call(f"{path}.{slot_name(slot)}.PCNT") for slot in described.bridges)
    if described.bsel is None:
        return bridges + aml.method("PCNT", 0, look_behind)
    slots = [slot for slot in described.slots if slot not in described.bridges]
    devices = b"".join(slot_device(described.bsel, slot) for slot in slots)
    told = (
        aml.if_(aml.bits_and(aml.argument(0), aml.integer(1 << slot)), aml.notify(slot_name(slot), aml.argument(1)))
        for slot in slots
    )
    look = (
        aml.store(aml.integer(described.bsel), aml.name_string("BNUM")),
        aml.call("DVNT", aml.name_string("PCIU"), DEVICE_CHECK),
        aml.call("DVNT", aml.name_string("PCID"), EJECT_REQUEST),
    )
    return devices + bridges + aml.method("DVNT", 2, *told) + aml.method("PCNT", 0, *look, look_behind)


def slot_device(bsel: int, slot: int) -> bytes:
    """A slot that devices come to and go from."""
    return aml.device(
        slot_name(slot),
        aml.name("_SUN", aml.integer(slot)),
        aml.name("_ADR", aml.integer(slot << 16)),
        aml.method("_EJ0", 1, aml.call("PCEJ", aml.integer(bsel), aml.integer(slot))),
    )


def event() -> bytes:
    r"""``\_GPE._E01``, the controller's event."""
    lock = f"{ROOT}.{LOCK}"
    return aml.scope("_GPE", aml.method("_E01", 0, aml.acquire(lock), aml.call(f"{ROOT}.PCNT"), aml.release(lock)))
