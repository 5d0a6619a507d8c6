# SPDX-License-Identifier: Apache-2.0
"""The firmware's image: where it is looked for, and where the machine has it: below 4 GiB and, its end, below 1 MiB."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from qdevpy.errors import BootError

if TYPE_CHECKING:
    from qdevpy.definition.model import MachineDefinition
    from qdevpy.native.overlay import HostPages
    from qdevpy.vm.machine import Machine

#: what boots a machine whose definition names neither kernel nor firmware (QEMU's pc machine: bios-256k.bin)
DEFAULT = ("bios-256k.bin", "bios.bin")
#: where distributions put SeaBIOS, and QEMU's other ROMs
FOLDERS = ("/usr/share/seabios", "/usr/share/qemu", "/usr/lib/ipxe/qemu")
GRANULE = 0x1_0000
LARGEST = 16 << 20
FOUR_GIB = 1 << 32


def places(definition: MachineDefinition) -> Iterator[str]:
    """The folders that are searched: the user's first (QEMU: -L)."""
    yield from definition.data_dirs
    yield from FOLDERS


def find(definition: MachineDefinition, *names: str) -> str | None:
    """The first file of that name in :func:`places`; a name with a slash is a path."""
    for name in names:
        if "/" in name:
            return name if os.path.isfile(name) else None
        for folder in places(definition):
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                return path
    return None


def find_firmware(definition: MachineDefinition) -> str | None:
    """The image that this machine starts with; None: it boots a kernel, or there is none.

    :raises BootError: the one that the definition names is not there
    """
    given = definition.boot.firmware
    if given is not None:
        path = given.given if os.path.isfile(given.given) else find(definition, given.given)
        if path is None:
            looked = ", ".join(places(definition))
            raise BootError(f"firmware '{given.given}' not found; looked in {looked}; give its path, or a folder in data-dirs")
        return path
    return None if definition.boot.kernel is not None else find(definition, *DEFAULT)


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
