# SPDX-License-Identifier: Apache-2.0
"""What this package offers: the pc board, devices for its ISA bus, and machine definitions."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from qdevpy.plugin import hookimpl
from qdevpy.qdev.device import Device
from qdevpy.vm.board import Board


@hookimpl
def qdevpy_boards() -> Iterable[type[Board]]:
    """``pc``."""
    from qdevpy_machine.board import PC

    return [PC]


@hookimpl
def qdevpy_devices() -> Iterable[type[Device]]:
    """ISA devices that users add; the board's own chips are not among them."""
    from qdevpy_machine.ports import ISADebugCon, ISADebugExit
    from qdevpy_machine.serial import ISASerial

    return [ISASerial, ISADebugExit, ISADebugCon]


@hookimpl
def qdevpy_definitions() -> Iterable[Path]:
    """Every file in ``definitions``."""
    return sorted((Path(__file__).parent / "definitions").glob("*.yaml"))
