# SPDX-License-Identifier: Apache-2.0
"""Older versions of the ``pc`` machine: the defaults that devices of ours had then (QEMU: hw/core/machine.c, hw/i386/pc.c).

What QEMU's tables say of devices that are not here, of migration, and of PCI Express is left out: it would change
nothing. Versions before 2.5 are left out, too: their virtio-blk passes SCSI commands through.
"""

from __future__ import annotations

from typing import Any

from qdevpy_machine.board import PC

#: type, property, value
Default = tuple[str, str, str]

#: version -> what changed after it, the newest first; a version has its own entries and those of all newer ones
CHANGES: dict[str, tuple[Default, ...]] = {
    "7.1": (("virtio-device", "queue_reset", "off"),),
    "7.0": (),
    "6.2": (),
    "6.1": (),
    "6.0": (),
    "5.2": (("virtio-blk-device", "report-discard-granularity", "off"), ("virtio-net-pci-base", "vectors", "3")),
    "5.1": (("virtio-blk-device", "num-queues", "1"),),
    "5.0": (),
    "4.2": (
        ("virtio-blk-device", "queue-size", "128"),
        ("virtio-blk-device", "x-enable-wce-if-config-wce", "off"),
        ("virtio-blk-device", "seg-max-adjust", "off"),
    ),
    "4.1": (),
    "4.0": (),
    "3.1": (("virtio-blk-device", "discard", "off"), ("virtio-blk-device", "write-zeroes", "off")),
    "3.0": (),
    "2.12": (),
    "2.11": (("virtio-blk-pci", "vectors", "2"),),
    "2.10": (),
    "2.9": (),
    "2.8": (("fw_cfg_io", "x-file-slots", "0x10"),),
    "2.7": (("virtio-pci", "page-per-vq", "on"), ("virtio-serial-device", "emergency-write", "off")),
    # the last two where the type leaves the choice
    "2.6": (
        ("fw_cfg_io", "dma_enabled", "off"),
        ("virtio-pci", "disable-modern", "on"),
        ("virtio-pci", "disable-legacy", "off"),
    ),
    "2.5": (),
}
#: versions up to this one took NUMA nodes by size (query-machines)
LAST_NUMA_MEM = "5.0"


def old_versions() -> list[type[PC]]:
    """A board class for each version, the newest first."""
    found: list[type[PC]] = []
    compat: tuple[Default, ...] = ()
    numa = False
    for version, changes in CHANGES.items():
        compat += changes
        numa = numa or version == LAST_NUMA_MEM
        body: dict[str, Any] = {
            "__doc__": f"As QEMU {version}.",
            "__module__": __name__,
            "type_name": f"pc-i440fx-{version}",
            "aliases": (),
            "description": f"{PC.description}, as QEMU {version}",
            "compat": compat,
            "is_default": False,
            "numa_mem_supported": numa,
        }
        found.append(type(f"PC{version.replace('.', '_')}", (PC,), body))
    return found
