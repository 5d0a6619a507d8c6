# SPDX-License-Identifier: Apache-2.0
"""How long it takes from nothing to a guest's first instruction: a write to the serial port."""

from __future__ import annotations

import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from qdevpy.bench.measurement import NANO, Measurement
from qdevpy.bench.program import BenchError, clean_environment
from qdevpy.bench.suite import PEER, Figure, Start

#: of which the median counts
TRIES = 5
PATIENCE = 30.0

LOAD = 0x10_0000
PVH_ENTRY_NOTE = 18
FIRST_WORD = b"!"
#: mov dx, 3F8h; mov al, '!'; out dx, al; hlt; jmp to the hlt
CODE = b"\x66\xba\xf8\x03\xb0" + FIRST_WORD + b"\xee\xf4\xeb\xfd"

MACHINE = """machine: pc
accel: kvm
memory: 64M
boot: {{kernel: {kernel}}}
chardevs:
  term: {{type: stdio, signal: off}}
devices:
  - isa-serial: {{chardev: term}}
"""

TIME = Figure("start", "ms", lambda m: m.counts["took"] / 1_000_000)


def make_kernel() -> bytes:
    """An ELF file of one segment, entered at CODE through its PVH note (Xen's x86 HVM direct boot ABI)."""
    note = struct.pack("<III4sI", 4, 4, PVH_ENTRY_NOTE, b"Xen\0", LOAD)
    note_at = 64 + 2 * 56
    code_at = note_at + len(note)
    head = struct.pack("<4sBBBB8xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, 2, 62, 1, LOAD, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, code_at, LOAD, LOAD, len(CODE), len(CODE), 0)
    notes = struct.pack("<IIQQQQQQ", 4, 4, note_at, 0, 0, len(note), len(note), 4)
    return head + load + notes + note + CODE


class StartTimer:
    """Starts a program again and again; a context manager."""

    def __init__(self, start: Start) -> None:
        folder = start.place.disk
        kernel = folder / "first.elf"
        kernel.write_bytes(make_kernel())
        self._name = start.program.name
        self._command = self._make_command(start, kernel, folder)

    @staticmethod
    def _make_command(start: Start, kernel: Path, folder: Path) -> list[str]:
        if start.program.role == PEER:
            options = ["-M", "microvm", "-accel", "kvm", "-m", "64", "-nodefaults", "-display", "none", "-no-reboot"]
            options += [*start.setting.values.values(), "-serial", "stdio", "-kernel", str(kernel)]
            return [*start.program.executable, *options]
        machine = folder / "first.yaml"
        machine.write_text(MACHINE.format(kernel=kernel))
        return [sys.executable, "-m", "qdevpy", "boot", str(machine)]

    def __enter__(self) -> StartTimer:
        return self

    def __exit__(self, *exc: object) -> None:
        return

    def measure_all(self, steps: Sequence[str]) -> Sequence[Measurement]:
        """The median of some starts, whatever STEPS are.

        :raises BenchError: the guest's first word does not come
        """
        return [Measurement({"took": int(statistics.median(self._start() for _ in range(TRIES)))}, NANO, 0, 0) for _ in steps]

    def _start(self) -> int:
        began = time.monotonic_ns()
        with subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment()
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            heard = process.stdout.read(1)
            took = time.monotonic_ns() - began
            process.kill()
            if heard != FIRST_WORD:
                raise BenchError(
                    f"{self._name}: the guest did not start: {process.stderr.read().decode(errors='replace').strip()}"
                )
        return took
