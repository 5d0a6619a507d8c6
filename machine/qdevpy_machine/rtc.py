# SPDX-License-Identifier: Apache-2.0
"""``mc146818rtc``: the clock and the CMOS memory at ports 0x70 and 0x71 (Motorola MC146818A).

The guest's clock is the host's UTC plus what the guest has set it ahead; with ``rtc: {clock: vm}`` it shows the host's
UTC once, when the machine is made, and follows virtual time from there. Nothing ticks while nobody waits: the
flags of register C are worked out when they are read, and timers run only for enabled interrupts.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

from qdevpy.vm.clock import SECOND
from qdevpy_machine.isa import ISADevice

if TYPE_CHECKING:
    from qdevpy.vm.clock import Timer

IRQ = 8

SECONDS, SECONDS_ALARM, MINUTES, MINUTES_ALARM, HOURS, HOURS_ALARM, WEEKDAY, DAY, MONTH, YEAR, A, B, C, D = range(14)
CENTURY = 0x32
TIME_REGISTERS = (SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR, CENTURY)

A_UPDATE_IN_PROGRESS = 0x80
B_SET, B_PERIODIC, B_ALARM, B_UPDATE, B_BINARY, B_24H = 0x80, 0x40, 0x20, 0x10, 0x04, 0x02
C_IRQ, C_PERIODIC, C_ALARM, C_UPDATE = 0x80, 0x40, 0x20, 0x10
D_VALID = 0x80

#: nanoseconds at the end of a second in which the time registers are not to be read
UPDATE_TIME = 244_000
CRYSTAL = 32768


class MC146818(ISADevice):
    """A real-time clock with 128 bytes of CMOS memory. As QEMU's ``hw/rtc/mc146818rtc.c``.

    :cvar host_clock: nanoseconds since 1970 on the host
    :ivar cmos: all registers; those of the time are as of when they were last looked at
    """

    type_name: ClassVar[str] = "mc146818rtc"
    description: ClassVar[str] = "real-time clock and CMOS memory"
    user_creatable: ClassVar[bool] = False

    host_clock = staticmethod(time.time_ns)

    def do_realize(self) -> None:
        """Take the two ports; the clock shows the host's time."""
        self.cmos = bytearray(128)
        follows = self.machine.definition.rtc.get("clock")
        self._virtual = follows is not None and follows.given == "vm"
        self._epoch = self.host_clock() - self.machine.clock.now_ns()
        self._index = self._ahead = self._flags = self._seen = 0
        self._tick: Timer | None = None
        self._periodic: Timer | None = None
        self.cmos[A] = 0x26  # 32.768 kHz, 1024 Hz
        self.cmos[B] = B_24H
        self.cmos[D] = D_VALID
        self.map_ports(0x70, 2, self._read, self._write)
        self.cleanup.callback(self._stop_timers)

    def do_reset(self) -> None:
        """The reset pin: interrupts off; time and memory stay."""
        self.cmos[B] &= ~(B_PERIODIC | B_ALARM | B_UPDATE)
        self._flags = 0
        self._index = 0
        self._seen = self._now() // SECOND
        self._update_timers()
        self._update_irq()

    # -- ports

    def _read(self, offset: int, size: int) -> int:
        if offset == 0:
            return 0xFF  # write only
        register = self._index
        if register in TIME_REGISTERS:
            if not self.cmos[B] & B_SET:
                self._latch()
            return self.cmos[register]
        if register == A:
            ending = self._now() % SECOND >= SECOND - UPDATE_TIME and not self.cmos[B] & B_SET
            return self.cmos[A] | (A_UPDATE_IN_PROGRESS if ending else 0)
        if register == C:
            return self._read_flags()
        return self.cmos[register]

    def _write(self, offset: int, value: int, size: int) -> None:
        value &= 0xFF
        register = self._index
        if offset == 0:
            self._index = value & 0x7F  # bit 7 masks NMIs on a PC
        elif register in TIME_REGISTERS:
            if not self.cmos[B] & B_SET:
                self._latch()
            self.cmos[register] = value
            if not self.cmos[B] & B_SET:
                self._set_time()
        elif register == A:
            self.cmos[A] = value & ~A_UPDATE_IN_PROGRESS
            self._update_timers()
        elif register == B:
            self._write_b(value)
        elif register not in (C, D):
            self.cmos[register] = value

    def _write_b(self, value: int) -> None:
        old = self.cmos[B]
        if value & B_SET:
            value &= ~B_UPDATE
            if not old & B_SET:
                self._latch()
        self.cmos[B] = value
        if old & B_SET and not value & B_SET:
            self._set_time()
        self._update_timers()
        self._update_irq()

    def _read_flags(self) -> int:
        now = self._now() // SECOND
        if now != self._seen:
            self._flags |= C_UPDATE
        self._seen = now
        value = self._flags | (C_IRQ if self._flags & self.cmos[B] & 0x70 else 0)
        self._flags = 0
        self._update_irq()
        return value

    # -- time

    def _unset(self) -> int:
        """The time had nobody set the clock, in nanoseconds since 1970."""
        return self._epoch + self.machine.clock.now_ns() if self._virtual else self.host_clock()

    def _now(self) -> int:
        return self._unset() + self._ahead * SECOND

    def _encode(self, value: int) -> int:
        return value if self.cmos[B] & B_BINARY else value // 10 << 4 | value % 10

    def _decode(self, value: int) -> int:
        return value if self.cmos[B] & B_BINARY else (value >> 4) * 10 + (value & 15)

    def _encode_hour(self, hour: int) -> int:
        if self.cmos[B] & B_24H:
            return self._encode(hour)
        return self._encode(hour % 12 or 12) | (0x80 if hour >= 12 else 0)

    def _decode_hour(self, value: int) -> int:
        if self.cmos[B] & B_24H:
            return self._decode(value)
        return self._decode(value & 0x7F) % 12 + (12 if value & 0x80 else 0)

    def _latch(self) -> None:
        """The time of now into the registers."""
        now = time.gmtime(self._now() // SECOND)
        encode = self._encode
        self.cmos[SECONDS] = encode(min(now.tm_sec, 59))
        self.cmos[MINUTES] = encode(now.tm_min)
        self.cmos[HOURS] = self._encode_hour(now.tm_hour)
        self.cmos[WEEKDAY] = encode((now.tm_wday + 1) % 7 + 1)  # 1 is Sunday
        self.cmos[DAY] = encode(now.tm_mday)
        self.cmos[MONTH] = encode(now.tm_mon)
        self.cmos[YEAR] = encode(now.tm_year % 100)
        self.cmos[CENTURY] = encode(now.tm_year // 100 % 100)

    def _set_time(self) -> None:
        """The clock goes on from what the registers say; nonsense leaves it alone."""
        from calendar import timegm  # slow to import, and hardly ever needed

        cmos, decode = self.cmos, self._decode
        year = decode(cmos[CENTURY]) * 100 + decode(cmos[YEAR])
        clock = (self._decode_hour(cmos[HOURS]), decode(cmos[MINUTES]), decode(cmos[SECONDS]))
        try:
            seconds = timegm((year, decode(cmos[MONTH]), decode(cmos[DAY]), *clock))
        except (ValueError, OverflowError):
            return
        self._ahead = seconds - self._unset() // SECOND
        self._seen = seconds
        self._update_timers()

    # -- interrupts

    def _update_irq(self) -> None:
        self.set_irq(IRQ, bool(self._flags & self.cmos[B] & 0x70))

    def _stop_timers(self) -> None:
        for timer in (self._tick, self._periodic):
            if timer is not None:
                timer.cancel()
        self._tick = self._periodic = None

    def _update_timers(self) -> None:
        self._stop_timers()
        if self.cmos[B] & B_SET:
            return
        if self.cmos[B] & (B_ALARM | B_UPDATE):
            self._tick = self._at_next_second()
        if self.cmos[B] & B_PERIODIC and self.cmos[A] & 15:
            clock = self.machine.clock
            self._periodic = clock.call_at(clock.now_ns() + self._period(), self._period_over)

    def _at_next_second(self) -> Timer:
        clock = self.machine.clock
        return clock.call_at(clock.now_ns() + SECOND - self._now() % SECOND, self._second)

    def _period(self) -> int:
        """Of the periodic interrupt, in nanoseconds."""
        rate = self.cmos[A] & 15
        return (1 << (rate + 7 if rate < 3 else rate) - 1) * SECOND // CRYSTAL

    def _period_over(self) -> None:
        assert self._periodic is not None
        clock, period = self.machine.clock, self._period()
        # on the beat; where the host was too late for some, they are lost
        when = max(self._periodic.when, clock.now_ns() - period) + period
        self._periodic = clock.call_at(when, self._period_over)
        self._flags |= C_PERIODIC
        self._update_irq()

    def _second(self) -> None:
        """A second has begun, and somebody wants to know."""
        self._tick = self._at_next_second()
        self._flags |= C_UPDATE
        self._seen = self._now() // SECOND
        self._latch()
        pairs = ((SECONDS, SECONDS_ALARM), (MINUTES, MINUTES_ALARM), (HOURS, HOURS_ALARM))
        # an alarm register of 0xC0 and above matches everything
        if all(self.cmos[alarm] >= 0xC0 or self.cmos[alarm] == self.cmos[present] for present, alarm in pairs):
            self._flags |= C_ALARM
        self._update_irq()
