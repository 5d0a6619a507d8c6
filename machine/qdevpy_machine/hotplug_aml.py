# SPDX-License-Identifier: Apache-2.0
r"""The methods by which an operating system learns of PCI hotplug and ejects devices (ACPI 6.4, 6.3).

::

    \_GPE._E01 -> PCNT -> for each bus: DVNT (PCIU, 1): something came; DVNT (PCID, 3): something is to go
    Sxx._EJ0    -> PCEJ (bus, slot) -> B0EJ

The registers behind the fields are those of :mod:`.pcihp`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from qdevpy_machine import aml, pcihp

DEVICE_CHECK, EJECT_REQUEST = aml.ONE, aml.integer(3)
LOCK = "BLCK"


def registers() -> bytes:
    """Fields, lock and PCEJ; inside PCI0."""
    return b"".join(
        (
            aml.operation_region("PCST", pcihp.BASE, 8),
            aml.dword_fields("PCST", "PCIU", "PCID"),
            aml.operation_region("SEJ", pcihp.BASE + pcihp.EJECT, 4),
            aml.dword_fields("SEJ", "B0EJ"),
            aml.operation_region("BNMR", pcihp.BASE + pcihp.BUS_NUMBER, 4),
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


def bus(bsel: int, slots: Sequence[int], bridges: Iterable[int] = (), inner: Iterable[bytes] = ()) -> bytes:
    """What the scope of a bus has: its slots and the methods that look at them.

    :param bsel: its number to the controller
    :param slots: those that devices may come to
    :param bridges: slots of bridges whose buses are looked at too
    :param inner: the devices of BRIDGES
    """
    devices = (
        aml.device(
            slot_name(slot),
            aml.name("_SUN", aml.integer(slot)),
            aml.name("_ADR", aml.integer(slot << 16)),
            aml.method("_EJ0", 1, aml.call("PCEJ", aml.integer(bsel), aml.integer(slot))),
        )
        for slot in slots
    )
    told = (
        aml.if_(
            aml.bits_and(aml.argument(0), aml.integer(1 << slot)),
            aml.notify(slot_name(slot), aml.argument(1)),
        )
        for slot in slots
    )
    return b"".join(
        (
            *devices,
            *inner,
            aml.method("DVNT", 2, *told),
            aml.method(
                "PCNT",
                0,
                aml.store(aml.integer(bsel), aml.name_string("BNUM")),
                aml.call("DVNT", aml.name_string("PCIU"), DEVICE_CHECK),
                aml.call("DVNT", aml.name_string("PCID"), EJECT_REQUEST),
                *(aml.call(f"{slot_name(slot)}.PCNT") for slot in bridges),
            ),
        )
    )


def event() -> bytes:
    r"""``\_GPE._E01``, the controller's event."""
    lock = f"\\_SB.PCI0.{LOCK}"
    return aml.scope("_GPE", aml.method("_E01", 0, aml.acquire(lock), aml.call("\\_SB.PCI0.PCNT"), aml.release(lock)))
