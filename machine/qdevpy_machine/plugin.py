# SPDX-License-Identifier: Apache-2.0
"""What this package offers: the pc board, devices for its ISA bus, and machine definitions."""

from __future__ import annotations

import os
from collections.abc import Iterable

from qdevpy.plugin import hookimpl
from qdevpy.qdev.device import Device
from qdevpy.vm.board import Board


@hookimpl
def qdevpy_boards() -> Iterable[type[Board]]:
    """``pc``, its older versions, and ``none``."""
    from qdevpy_machine.board import PC
    from qdevpy_machine.none import NoBoard
    from qdevpy_machine.versions import old_versions

    return [PC, *old_versions(), NoBoard]


@hookimpl
def qdevpy_devices() -> Iterable[type[Device]]:
    """Devices of the chipset's buses that users add; the board's own chips are not among them."""
    from qdevpy.pci.bridge import PCIBridgeDevice
    from qdevpy_machine.ports import ISADebugCon, ISADebugExit
    from qdevpy_machine.pvpanic import PVPanic
    from qdevpy_machine.serial import ISASerial

    return [ISASerial, ISADebugExit, ISADebugCon, PVPanic, PCIBridgeDevice]


@hookimpl
def qdevpy_benches() -> Iterable[str]:
    """What KVM itself takes."""
    return ["qdevpy_machine.bench"]


@hookimpl
def qdevpy_definitions() -> Iterable[str]:
    """Every file in ``definitions``."""
    folder = os.path.join(os.path.dirname(__file__), "definitions")
    return sorted(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".yaml"))
