# SPDX-License-Identifier: Apache-2.0
"""The registers of a 16550A UART (National Semiconductor PC16550D), apart from the device around them.

Characters go out the moment they are written, so the transmitter is busy only while the other end takes
nothing. Line speed is kept and means nothing.
"""

from __future__ import annotations

from collections.abc import Callable

FIFO_SIZE = 16
TRIGGER_LEVELS = (1, 4, 8, 14)

# register numbers; with DLAB set, 0 and 1 are the divisor
DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR = range(8)

IER_RX, IER_TX, IER_LINE, IER_MODEM = 1, 2, 4, 8

IIR_NONE = 0x01
IIR_MODEM, IIR_TX, IIR_RX, IIR_LINE, IIR_TIMEOUT = 0x00, 0x02, 0x04, 0x06, 0x0C
IIR_FIFOS = 0xC0

FCR_ENABLE, FCR_CLEAR_RX, FCR_CLEAR_TX = 1, 2, 4

LCR_DLAB = 0x80

MCR_DTR, MCR_RTS, MCR_OUT1, MCR_OUT2, MCR_LOOP = 1, 2, 4, 8, 0x10

LSR_READY, LSR_OVERRUN, LSR_BREAK, LSR_THR_EMPTY, LSR_IDLE = 0x01, 0x02, 0x10, 0x20, 0x40
LSR_ERRORS = 0x1E

MSR_CTS, MSR_DSR, MSR_RI, MSR_DCD = 0x10, 0x20, 0x40, 0x80
MSR_DELTAS = 0x0F


class UART:
    """Eight one-byte registers.

    :param set_irq: drives the interrupt line; called on changes only
    :param transmit: sends bytes, returns how many were taken
    :param room_made: called when :meth:`room` has grown after a read or a FIFO reset
    """

    def __init__(self, set_irq: Callable[[bool], None], transmit: Callable[[bytes], int], room_made: Callable[[], None]) -> None:
        self._set_irq = set_irq
        self._transmit = transmit
        self._room_made = room_made
        self._irq = False
        self._rx = bytearray()
        self._tx = bytearray()
        self.reset()

    def reset(self) -> None:
        """Master reset."""
        self._rx.clear()
        self._tx.clear()
        self._divisor = 12  # 9600 baud
        self._ier = self._lcr = self._scr = self._fcr = 0
        self._mcr = MCR_OUT2
        self._lsr = LSR_THR_EMPTY | LSR_IDLE
        self._msr = MSR_DCD | MSR_DSR | MSR_CTS  # somebody is there, and ready
        self._tx_interrupt = False  # the transmitter ran empty and nobody has read that from IIR yet
        self._update_irq()

    # -- the line's side

    @property
    def room(self) -> int:
        """Characters that the receiver takes now."""
        if self._mcr & MCR_LOOP:
            return 0
        return (FIFO_SIZE if self._fcr & FCR_ENABLE else 1) - len(self._rx)

    def receive(self, data: bytes) -> None:
        """Characters come in; what is beyond :attr:`room` is lost, as on a line."""
        for character in data:
            if len(self._rx) >= (FIFO_SIZE if self._fcr & FCR_ENABLE else 1):
                self._lsr |= LSR_OVERRUN
                break
            self._rx.append(character)
        self._lsr |= LSR_READY
        self._update_irq()

    def receive_break(self) -> None:
        """The line is held down for a while: a character 0 with the break flag."""
        self._lsr |= LSR_BREAK
        self.receive(b"\0")

    def transmit_more(self) -> None:
        """The other end takes characters again."""
        if not self._tx:
            return
        taken = self._transmit(bytes(self._tx))
        del self._tx[:taken]
        if not self._tx:
            self._transmitter_empty()

    # -- the processor's side

    def read(self, offset: int, size: int) -> int:
        """Register OFFSET; only bytes are answered, the rest of a wider access reads as ones."""
        return self._read_register(offset & 7) | (-1 << 8 if size > 1 else 0)

    def write(self, offset: int, value: int, size: int) -> None:
        """Write register OFFSET; of a wider access the low byte counts."""
        value &= 0xFF
        register = offset & 7
        if self._lcr & LCR_DLAB and register == DATA:
            self._divisor = self._divisor & 0xFF00 | value
        elif self._lcr & LCR_DLAB and register == IER:
            self._divisor = self._divisor & 0xFF | value << 8
        elif register == DATA:
            self._write_data(value)
        elif register == IER:
            self._write_ier(value & 0x0F)
        elif register == IIR:
            self._write_fcr(value)
        elif register == LCR:
            self._lcr = value
        elif register == MCR:
            self._write_mcr(value & 0x1F)
        elif register == SCR:
            self._scr = value

    def _read_register(self, register: int) -> int:
        if self._lcr & LCR_DLAB and register in (DATA, IER):
            return self._divisor >> (8 * register) & 0xFF
        if register == DATA:
            return self._read_data()
        if register == IIR:
            return self._read_iir()
        if register == LSR:
            value = self._lsr
            self._lsr &= ~LSR_ERRORS
            self._update_irq()
            return value
        if register == MSR:
            return self._read_msr()
        return {IER: self._ier, LCR: self._lcr, MCR: self._mcr, SCR: self._scr}[register]

    def _read_data(self) -> int:
        if not self._rx:
            return 0
        value = self._rx.pop(0)
        if not self._rx:
            self._lsr &= ~LSR_READY
        self._update_irq()
        if not self._mcr & MCR_LOOP:
            self._room_made()
        return value

    def _read_iir(self) -> int:
        cause = self._cause()
        if cause == IIR_TX:  # reading it is what acknowledges it
            self._tx_interrupt = False
            self._update_irq()
        return cause | (IIR_FIFOS if self._fcr & FCR_ENABLE else 0)

    def _read_msr(self) -> int:
        if self._mcr & MCR_LOOP:
            # outputs are wired to inputs: DTR to DSR, RTS to CTS, OUT1 to RI, OUT2 to DCD
            wired = ((MCR_DTR, MSR_DSR), (MCR_RTS, MSR_CTS), (MCR_OUT1, MSR_RI), (MCR_OUT2, MSR_DCD))
            return sum(status for control, status in wired if self._mcr & control)
        value = self._msr
        self._msr &= ~MSR_DELTAS
        self._update_irq()
        return value

    def _write_data(self, value: int) -> None:
        self._tx_interrupt = False
        if self._mcr & MCR_LOOP:
            self.receive(bytes([value]))
            self._transmitter_empty()
            return
        if len(self._tx) < FIFO_SIZE:  # a driver that writes to a full FIFO loses the character
            self._tx.append(value)
        if len(self._tx) > 1:  # the other end is known to take nothing now
            return
        self._lsr &= ~(LSR_THR_EMPTY | LSR_IDLE)
        self.transmit_more()
        self._update_irq()

    def _transmitter_empty(self) -> None:
        self._lsr |= LSR_THR_EMPTY | LSR_IDLE
        self._tx_interrupt = True
        self._update_irq()

    def _write_ier(self, value: int) -> None:
        # enabling the transmitter's interrupt while it is empty raises it; Linux tests for that
        if value & IER_TX and not self._ier & IER_TX and self._lsr & LSR_THR_EMPTY:
            self._tx_interrupt = True
        self._ier = value
        self._update_irq()

    def _write_fcr(self, value: int) -> None:
        clear = value
        if (value ^ self._fcr) & FCR_ENABLE:
            clear |= FCR_CLEAR_RX | FCR_CLEAR_TX
        self._fcr = value & (FCR_ENABLE | 0xC0)
        if clear & FCR_CLEAR_TX and self._tx:
            self._tx.clear()
            self._transmitter_empty()
        if clear & FCR_CLEAR_RX:
            self._rx.clear()
            self._lsr &= ~(LSR_READY | LSR_BREAK)
        self._update_irq()
        self._room_made()

    def _write_mcr(self, value: int) -> None:
        looped = self._mcr & MCR_LOOP
        self._mcr = value
        if looped and not value & MCR_LOOP:
            self._room_made()

    def _cause(self) -> int:
        """The pending interrupt of highest priority (table 4)."""
        if self._ier & IER_LINE and self._lsr & LSR_ERRORS:
            return IIR_LINE
        if self._ier & IER_RX and self._rx:
            trigger = TRIGGER_LEVELS[self._fcr >> 6] if self._fcr & FCR_ENABLE else 1
            # fewer characters than the trigger level time out; the four characters' time is not waited for
            return IIR_RX if len(self._rx) >= trigger else IIR_TIMEOUT
        if self._ier & IER_TX and self._tx_interrupt:
            return IIR_TX
        if self._ier & IER_MODEM and self._msr & MSR_DELTAS:
            return IIR_MODEM
        return IIR_NONE

    def _update_irq(self) -> None:
        level = self._cause() != IIR_NONE
        if level != self._irq:
            self._irq = level
            self._set_irq(level)
