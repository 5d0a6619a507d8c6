# SPDX-License-Identifier: Apache-2.0
"""The firmware's image: where it is looked for, and where the machine has it: below 4 GiB and, its end, below 1 MiB."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qdevpy.errors import BootError
from qdevpy.vm.data_files import find_data_file, folders

if TYPE_CHECKING:
    from qdevpy.backend.drive import Drive
    from qdevpy.native.overlay import HostPages
    from qdevpy.vm.machine import Machine
    from qdevpy_machine.flash import PFlash

#: what boots a machine whose definition names neither kernel nor firmware (QEMU's pc machine: bios-256k.bin)
DEFAULT = ("bios-256k.bin", "bios.bin")
GRANULE = 0x1_0000
LARGEST = 16 << 20
FOUR_GIB = 1 << 32


def find_firmware(machine: Machine) -> str | None:
    """The image that this machine starts with; None: it boots a kernel, or there is none.

    :raises BootError: the one that the definition names is not there
    """
    boot = machine.definition.boot
    if boot.firmware is not None:
        path = find_data_file(machine, boot.firmware.given)
        if path is None:
            looked = ", ".join(folders(machine))
            raise BootError(
                f"firmware '{boot.firmware.given}' not found; looked in {looked}; give its path, or a folder in data-dirs"
            )
        return path
    return None if boot.kernel is not None else find_data_file(machine, *DEFAULT)


def load(machine: Machine, path: str) -> HostPages:
    """The image in pages that a guest may be shown.

    :raises BootError: it cannot be read, or is none
    """
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise BootError(f"firmware '{path}': {error.strerror}") from error
    if not content or len(content) % GRANULE or len(content) > LARGEST:
        raise BootError(
            f"firmware '{path}': {len(content)} bytes: expected a multiple of 64 KiB, at most 16 MiB; "
            "SeaBIOS is bios-256k.bin in the package seabios"
        )
    return machine.memory.add_pages(content)


def map_below_4g(machine: Machine, rom: HostPages) -> None:
    """Show it to CPUs so that it ends at 4 GiB, where the reset vector is."""
    from qdevpy.native.overlay import Overlay

    machine.memory.change_overlays(add=[Overlay(FOUR_GIB - rom.size, rom.size, rom.hva, rom.data)])


def add_flash(machine: Machine, *names: str | None) -> PFlash:
    """Chips with the drives NAMES, the first ending at 4 GiB, each further one below; the first.

    :raises BackendError: there is no such drive
    :raises RealizeError: its image is not one for a flash
    """
    from qdevpy_machine.flash import PFlash

    end, chips = FOUR_GIB, []
    for name in names:
        if name is None:
            break
        chip = PFlash()
        chip.machine = machine
        chip.drive = cast("Drive", machine.backend("drives", name))
        chip.base = end = end - chip.measure()
        machine.plug(chip, machine.system_bus)
        chips.append(chip)
    return chips[0]
