# SPDX-License-Identifier: Apache-2.0
"""``mc146818rtc``: the clock and the CMOS memory at ports 0x70 and 0x71 (Motorola MC146818A).

The guest's clock starts at what ``rtc: {base: ...}`` says, by default the host's UTC, and follows the host's clock, or
with ``clock: vm`` virtual time. Nothing ticks while nobody waits: what the seconds that went by have done to the flags
of register C is worked out when they are looked at, and timers run only for enabled interrupts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from qdevpy.qdev import kinds
from qdevpy.qdev import property as prop
from qdevpy.vm.clock import SECOND
from qdevpy_machine.isa import ISADevice
from qdevpy_machine.rtc_alarm import next_alarm

if TYPE_CHECKING:
    from qdevpy.vm.clock import Timer

IRQ = 8
WIRED = "the board's wiring is as it is"

SECONDS, SECONDS_ALARM, MINUTES, MINUTES_ALARM, HOURS, HOURS_ALARM, WEEKDAY, DAY, MONTH, YEAR, A, B, C, D = range(14)
CENTURY, CENTURY_PS2 = 0x32, 0x37  #: the second is another name of the first
TIME_REGISTERS = (SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR, CENTURY)
ALARM_REGISTERS = (SECONDS_ALARM, MINUTES_ALARM, HOURS_ALARM)

A_UPDATE_IN_PROGRESS, A_DIVIDER, A_RATE = 0x80, 0x70, 0x0F
A_NORMAL = 0x20  #: divider settings up to this one count
A_RESET = 0x60  #: with these two bits the divider is held in reset
B_SET, B_PERIODIC, B_ALARM, B_UPDATE, B_BINARY, B_24H = 0x80, 0x40, 0x20, 0x10, 0x04, 0x02
C_IRQ, C_PERIODIC, C_ALARM, C_UPDATE = 0x80, 0x40, 0x20, 0x10
INTERRUPTS = 0x70  #: the same bits enable in B and say so in C
D_VALID = 0x80
ANY = 0xC0  #: alarm registers from here on match everything

CRYSTAL = 32768
#: nanoseconds at the end of a second in which the time registers are not to be read
UPDATE_TIME = 8 * SECOND // CRYSTAL
#: from the end of a divider reset to the first update
FIRST_UPDATE = SECOND // 2


class MC146818(ISADevice):
    """A real-time clock with 128 bytes of CMOS memory. As QEMU's ``hw/rtc/mc146818rtc.c``.

    :cvar host_clock: nanoseconds since 1970 on the host
    :ivar cmos: all registers; those of the time are as of when they were last looked at
    """

    type_name: ClassVar[str] = "mc146818rtc"
    description: ClassVar[str] = "real-time clock and CMOS memory"
    user_creatable: ClassVar[bool] = False
    gpios: ClassVar[Sequence[tuple[str, str, int]]] = (("out", "", 1),)

    base_year: int = prop.only_integer("int32", 0, name="base_year", why="a year is as it is", help="year 0 of the chip")
    iobase: int = prop.only_integer("uint16", 0x70, why=WIRED, help="first I/O port")
    irq: int = prop.only_integer("uint8", IRQ, why=WIRED, help="ISA interrupt")
    lost_tick_policy: str = prop.only(
        kinds.Enum("LostTickPolicy", ("discard", "delay", "slew")),
        "discard",
        name="lost_tick_policy",
        why="ticks that the guest does not take are lost",
        help="what becomes of ticks that the guest did not take",
    )

    host_clock = staticmethod(time.time_ns)

    def do_realize(self) -> None:
        """Take the two ports; the clock shows what the definition says."""
        self.cmos = bytearray(128)
        follows = self.machine.definition.rtc.get("clock")
        self._virtual = follows is not None and follows.given == "vm"
        self._index = self._flags = 0
        self._update_timer: Timer | None = None
        self._periodic: Timer | None = None
        self._last_periodic = 0
        self.cmos[A] = 0x26  # 32.768 kHz, 1024 Hz
        self.cmos[B] = B_24H
        self.cmos[D] = D_VALID
        self._set(*divmod(self._start(), SECOND))
        self._latch()
        self.map_ports(0x70, 2, self._read, self._write)
        self.cleanup.callback(self._stop_timers)

    def do_reset(self) -> None:
        """The reset pin: interrupts off; time and memory stay."""
        self._catch_up()
        self.cmos[B] &= ~(B_PERIODIC | B_ALARM | B_UPDATE)
        self._flags = 0
        self._index = 0
        self._stop_timers()
        self._update_irq()

    # -- ports

    def _read(self, offset: int, size: int) -> int:
        if offset == 0:
            return 0xFF  # write only
        register = self._index
        if register in TIME_REGISTERS:
            self._latch()
        elif register == A:
            return self.cmos[A] | (A_UPDATE_IN_PROGRESS if self._updating() else 0)
        elif register == C:
            return self._read_flags()
        return self.cmos[register]

    def _write(self, offset: int, value: int, size: int) -> None:
        value &= 0xFF
        register = self._index
        if offset == 0:
            index = value & 0x7F  # bit 7 masks NMIs on a PC
            self._index = CENTURY if index == CENTURY_PS2 else index
        elif register in TIME_REGISTERS:
            self._catch_up()
            self._latch()
            self.cmos[register] = value
            if self._running:
                self._set_from_registers(self._now() % SECOND)
        elif register in ALARM_REGISTERS:
            self._catch_up()
            self.cmos[register] = value
            self._schedule_update()
        elif register == A:
            self._write_a(value)
        elif register == B:
            self._write_b(value)
        elif register not in (C, D):
            self.cmos[register] = value

    def _write_a(self, value: int) -> None:
        self._catch_up()
        self._latch()
        was_reset = self.cmos[A] & A_RESET == A_RESET
        rate = self.cmos[A] & A_RATE
        self.cmos[A] = value & ~A_UPDATE_IN_PROGRESS
        if was_reset and value & A_DIVIDER <= A_NORMAL and not self.cmos[B] & B_SET:
            self._set_from_registers(FIRST_UPDATE)
        if rate != value & A_RATE:
            self._schedule_periodic(since=self._last_periodic if self._periodic is not None else None)
        self._schedule_update()

    def _write_b(self, value: int) -> None:
        self._catch_up()
        self._latch()
        old = self.cmos[B]
        if value & B_SET:
            value &= ~B_UPDATE
        self.cmos[B] = value
        if old & B_SET and self._running:
            self._set_from_registers(self._now() % SECOND)
        if (old ^ value) & B_PERIODIC:
            self._schedule_periodic(since=None)
        self._schedule_update()
        self._update_irq()

    def _read_flags(self) -> int:
        self._catch_up()
        value = self._flags | (C_IRQ if self._flags & self.cmos[B] & INTERRUPTS else 0)
        self._flags = 0
        self._schedule_update()
        self._update_irq()
        return value

    # -- time

    def _source(self) -> int:
        """What the clock follows, in nanoseconds."""
        return self.machine.clock.now_ns() if self._virtual else self.host_clock()

    def _start(self) -> int:
        """Nanoseconds since 1970 that the clock shows first (QEMU: -rtc base=)."""
        base = self.machine.definition.rtc.get("base")
        now = self.host_clock()
        if base is None or base.given == "utc":
            return now
        from calendar import timegm

        if base.given == "localtime":
            return timegm(time.localtime(now // SECOND)) * SECOND + now % SECOND
        form = "%Y-%m-%dT%H:%M:%S" if "T" in base.given else "%Y-%m-%d"
        return timegm(time.strptime(base.given, form)) * SECOND

    def _now(self) -> int:
        """The guest's time in nanoseconds since 1970."""
        return self._base + self._source()

    @property
    def _running(self) -> bool:
        """Whether the time goes on: it is not being set, and the divider counts."""
        return not self.cmos[B] & B_SET and self.cmos[A] & A_DIVIDER <= A_NORMAL

    def _updating(self) -> bool:
        return self._running and self._now() % SECOND >= SECOND - UPDATE_TIME

    def _set(self, seconds: int, nanoseconds: int) -> None:
        self._base = seconds * SECOND + nanoseconds - self._source()
        self._seen = seconds

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
        """The time of now into the registers, where it goes on."""
        if not self._running:
            return
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

    def _set_from_registers(self, nanoseconds: int) -> None:
        """The clock goes on from what the registers say; nonsense leaves it alone.

        :param nanoseconds: of the second that they say
        """
        from calendar import timegm  # slow to import, and hardly ever needed

        cmos, decode = self.cmos, self._decode
        year = decode(cmos[CENTURY]) * 100 + decode(cmos[YEAR])
        clock = (self._decode_hour(cmos[HOURS]), decode(cmos[MINUTES]), decode(cmos[SECONDS]))
        before = self._now() // SECOND
        try:
            seconds = timegm((year, decode(cmos[MONTH]), decode(cmos[DAY]), *clock))
        except (ValueError, OverflowError):
            return
        self._set(seconds, nanoseconds)
        self._schedule_update()
        if seconds != before:
            self._changed(seconds)

    def _changed(self, seconds: int) -> None:
        """Tell who wants to know how far the guest's clock is from the host's."""
        from qdevpy.vm.event_types import RtcChange

        self.machine.events.emit(RtcChange(offset=seconds - self.host_clock() // SECOND, qom_path=self.qom_path))

    # -- interrupts

    def _catch_up(self) -> None:
        """Set the flags for the seconds that began since they were last set."""
        now = self._now() // SECOND
        if self._running and now > self._seen:
            self._flags |= C_UPDATE
            alarm = self._alarm_after(self._seen)
            if alarm is not None and alarm <= now:
                self._flags |= C_ALARM
        self._seen = now

    def _alarm_after(self, second: int) -> int | None:
        """The next second at which the alarm goes off; None: never."""
        at = [None if self.cmos[register] >= ANY else self._decode(self.cmos[register]) for register in ALARM_REGISTERS]
        hour = None if self.cmos[HOURS_ALARM] >= ANY else self._decode_hour(self.cmos[HOURS_ALARM])
        return next_alarm(second, hour, at[1], at[0])

    def _update_irq(self) -> None:
        self.set_irq(IRQ, bool(self._flags & self.cmos[B] & INTERRUPTS))

    def _stop_timers(self) -> None:
        for timer in (self._update_timer, self._periodic):
            if timer is not None:
                timer.cancel()
        self._update_timer = self._periodic = None

    def _schedule_update(self) -> None:
        """Have the next second, or the next alarm, noticed where it is to interrupt."""
        if self._update_timer is not None:
            self._update_timer.cancel()
            self._update_timer = None
        if not self._running:
            return
        wanted = self.cmos[B] & ~self._flags
        second = self._seen + 1 if wanted & B_UPDATE else self._alarm_after(self._seen) if wanted & B_ALARM else None
        if second is not None:
            clock = self.machine.clock
            self._update_timer = clock.call_at(clock.now_ns() + second * SECOND - self._now(), self._second)

    def _second(self) -> None:
        """A second has begun that somebody waits for; or the host's clock went back."""
        self._update_timer = None
        self._catch_up()
        self._schedule_update()
        self._update_irq()

    def _period(self) -> int:
        """Of the periodic interrupt, in nanoseconds; 0: there is none."""
        rate = self.cmos[A] & A_RATE
        return (1 << (rate + 7 if rate < 3 else rate) - 1) * SECOND // CRYSTAL if rate else 0

    def _schedule_periodic(self, *, since: int | None) -> None:
        """Start the periodic interrupt anew where it is enabled; SINCE: when it last came, from which the period counts."""
        if self._periodic is not None:
            self._periodic.cancel()
            self._periodic = None
        period = self._period()
        if self.cmos[B] & B_PERIODIC and period:
            now = self.machine.clock.now_ns()
            self._last_periodic = now if since is None else max(since, now - period)
            self._periodic = self.machine.clock.call_at(self._last_periodic + period, self._period_over)

    def _period_over(self) -> None:
        assert self._periodic is not None
        # on the beat; where the host was too late for some, they are lost
        self._schedule_periodic(since=self._periodic.when)
        self._flags |= C_PERIODIC
        self._update_irq()
