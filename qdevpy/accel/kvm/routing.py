# SPDX-License-Identifier: Apache-2.0
"""The GSI routing table: 24 lines to PIC and I/O APIC, then one GSI for each assigned MSI."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from qdevpy.accel.kvm import api

if TYPE_CHECKING:
    from qdevpy.accel.base import MsiMessage

FIRST_MSI = 24
MAX_ROUTES = 4096


def _line(gsi: int, chip: int, pin: int) -> bytes:
    return api.ROUTE_IRQCHIP.pack(gsi, api.ROUTING_IRQCHIP, 0, 0, chip, pin)


def line_routes() -> list[bytes]:
    """As QEMU's pc: ISA interrupts go to the PICs and the I/O APIC; the timer's GSI 0 to I/O APIC pin 2, which ACPI tells
    the guest in an interrupt source override; GSI 2 is the cascade and goes nowhere.
    """
    lines = [gsi for gsi in range(24) if gsi != 2]
    pics = [_line(gsi, api.IRQCHIP_PIC_MASTER if gsi < 8 else api.IRQCHIP_PIC_SLAVE, gsi % 8) for gsi in lines if gsi < 16]
    return pics + [_line(gsi, api.IRQCHIP_IOAPIC, gsi or 2) for gsi in lines]


class Routing:
    """The table of one VM. GSIs from 24 on are MSIs."""

    def __init__(self, vm_fd: int) -> None:
        self._vm_fd = vm_fd
        self._lines = line_routes()
        self._messages: dict[int, MsiMessage] = {}

    def allocate(self, message: MsiMessage) -> int:
        """A GSI that raises MESSAGE.

        :raises OSError: ENOSPC, or what KVM said
        """
        gsi = next(n for n in range(FIRST_MSI, FIRST_MSI + MAX_ROUTES) if n not in self._messages)
        if len(self._lines) + len(self._messages) >= MAX_ROUTES:
            raise OSError(errno.ENOSPC, f"more than {MAX_ROUTES} interrupt routes")
        self._messages[gsi] = message
        try:
            self.commit()
        except OSError:
            del self._messages[gsi]
            raise
        return gsi

    def update(self, gsi: int, message: MsiMessage) -> None:
        """Change a GSI's message."""
        if self._messages[gsi] != message:
            self._messages[gsi] = message
            self.commit()

    def free(self, gsi: int) -> None:
        """Forget a GSI; its route stays in the kernel until the next change, where nothing uses it."""
        del self._messages[gsi]

    def commit(self) -> None:
        """Hand the table to KVM (KVM_SET_GSI_ROUTING)."""
        entries = [
            *self._lines,
            *(
                api.ROUTE_MSI.pack(gsi, api.ROUTING_MSI, 0, 0, m.address & 0xFFFF_FFFF, m.address >> 32, m.data)
                for gsi, m in self._messages.items()
            ),
        ]
        api.ioctl_write(self._vm_fd, api.SET_GSI_ROUTING, len(entries).to_bytes(8, "little") + b"".join(entries))
