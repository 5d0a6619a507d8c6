# SPDX-License-Identifier: Apache-2.0
"""The PIIX4's power management registers (ACPI 6.4, 4.8.3): PM1 event and control, and the PM timer."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from qdevpy.vm.clock import SECOND

if TYPE_CHECKING:
    from qdevpy.vm.clock import Clock, Timer

SIZE = 64  #: bytes of I/O space
TIMER_HZ = 3_579_545
TIMER_BITS = 24

STS_TIMER, STS_POWER_BUTTON = 0x0001, 0x0100
CNT_SCI_ENABLE, CNT_SLEEP = 0x0001, 0x2000
#: SLP_TYP of the only sleep state, as _S5 in the DSDT says
SOFT_OFF = 0


class PMRegisters:
    """The register block, apart from the PCI function that maps it.

    :param set_sci: drives the SCI
    :param power_off: the guest asked for S5
    :param clock: what the PM timer counts
    """

    def __init__(
        self,
        set_sci: Callable[[bool], None],
        power_off: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._set_sci = set_sci
        self._power_off = power_off
        self._clock = clock
        self._timer: Timer | None = None
        self._sci = False
        self.reset()

    def reset(self) -> None:
        """Nothing pending; ACPI mode is on from the start, as there is no SMM to switch it on from."""
        self.close()
        self._status = self._enable = 0
        self._control = CNT_SCI_ENABLE
        self._next_carry = self._carry_after(self._ticks())
        self._update()

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def press_power_button(self) -> None:
        """Tell the guest that somebody wants it off."""
        self._status |= STS_POWER_BUTTON
        self._update()

    def read(self, offset: int, size: int) -> int:
        """Any part of the block; what is not there reads as zero."""
        self._look_at_timer()
        count = self._ticks() & (1 << TIMER_BITS) - 1
        block = struct.pack("<HHHHI", self._status, self._enable, self._control, 0, count)
        return int.from_bytes(block[offset : offset + size], "little")

    def write(self, offset: int, value: int, size: int) -> None:
        """Any part of the block: status bits are cleared by writing ones, the timer is read-only."""
        written, data = 0, 0
        for index in range(size):  # as bits of the 48 that PM1_STS, PM1_EN and PM1_CNT make
            if offset + index < 6:
                written |= 0xFF << 8 * (offset + index)
                data |= (value >> 8 * index & 0xFF) << 8 * (offset + index)
        self._look_at_timer()
        self._status &= ~data & 0xFFFF
        if data & STS_TIMER:
            self._next_carry = self._carry_after(self._ticks())
        self._enable = self._merge(self._enable, data >> 16, written >> 16)
        control = self._merge(self._control, data >> 32, written >> 32)
        self._control = control & ~CNT_SLEEP
        self._update()
        if control & CNT_SLEEP and control >> 10 & 7 == SOFT_OFF:
            self._power_off()

    @staticmethod
    def _merge(old: int, new: int, mask: int) -> int:
        return (old & ~mask | new & mask) & 0xFFFF

    def _ticks(self) -> int:
        return self._clock.now_ns() * TIMER_HZ // SECOND

    @staticmethod
    def _carry_after(ticks: int) -> int:
        """When the timer's highest bit changes next, which sets its status bit."""
        half = 1 << TIMER_BITS - 1
        return (ticks // half + 1) * half

    def _look_at_timer(self) -> None:
        if self._ticks() >= self._next_carry:
            self._status |= STS_TIMER

    def _update(self) -> None:
        """Drive the SCI, and have the timer's next carry noticed where that is to interrupt."""
        self._look_at_timer()
        level = bool(self._status & self._enable & (STS_TIMER | STS_POWER_BUTTON))
        if level != self._sci:
            self._sci = level
            self._set_sci(level)
        self.close()
        if self._enable & STS_TIMER and not self._status & STS_TIMER:
            self._timer = self._clock.call_at(-(-self._next_carry * SECOND // TIMER_HZ), self._update)
