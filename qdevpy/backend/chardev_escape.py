# SPDX-License-Identifier: Apache-2.0
"""The keys after Ctrl-A, QEMU's: how a user of a raw terminal speaks to us instead of the guest."""

from __future__ import annotations

from collections.abc import Iterator

ESCAPE = 0x01

HELP = """\r
Ctrl-A h        this help\r
Ctrl-A x        end the machine\r
Ctrl-A b        send a break\r
Ctrl-A c        input to the monitor, and back\r
Ctrl-A Ctrl-A   send Ctrl-A\r
"""


class EscapeFilter:
    """Tells keys for the guest from keys for us; remembers a Ctrl-A from one read to the next."""

    def __init__(self) -> None:
        self._escaped = False

    def split(self, typed: bytes) -> Iterator[bytes | str]:
        """What was typed, in order: bytes for the guest, and the letters of commands (``"x"``)."""
        plain = bytearray()
        for byte in typed:
            if self._escaped:
                self._escaped = False
                if byte == ESCAPE:
                    plain.append(byte)
                    continue
                if plain:
                    yield bytes(plain)
                    plain.clear()
                yield chr(byte)
            elif byte == ESCAPE:
                self._escaped = True
            else:
                plain.append(byte)
        if plain:
            yield bytes(plain)
