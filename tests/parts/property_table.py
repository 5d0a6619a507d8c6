# SPDX-License-Identifier: Apache-2.0
"""docs/properties.md: every property of every device that QEMU 7.2 has, too.

``python tests/parts/property_table.py`` prints it; tests hold it against the code, and against an installed QEMU.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

from qdevpy.plugin.manager import load_plugins
from qdevpy.qdev import kinds
from qdevpy.qdev.help import settable
from qdevpy.qdev.type_table import TypeTable

#: what users add; types of one family differ in nothing but disable-legacy and disable-modern
DEVICES = (
    "virtio-blk-pci",
    "virtio-blk-pci-transitional",
    "virtio-blk-pci-non-transitional",
    "vhost-user-blk-pci",
    "vhost-user-blk-pci-transitional",
    "vhost-user-blk-pci-non-transitional",
    "virtio-net-pci",
    "virtio-net-pci-transitional",
    "virtio-net-pci-non-transitional",
    "virtio-serial-pci",
    "virtio-serial-pci-transitional",
    "virtio-serial-pci-non-transitional",
    "virtconsole",
    "virtserialport",
    "pci-bridge",
    "isa-serial",
    "isa-debug-exit",
    "isa-debugcon",
    "pvpanic",
)
#: what the board is made of; ``global:`` reaches them
CHIPS = (
    "i440FX-pcihost",
    "i440FX",
    "PIIX3",
    "PIIX4_PM",
    "fw_cfg_io",
    "mc146818rtc",
    "i8042",
    "port92",
    "ioapic",
    "kvm-ioapic",
    "serial",
)

SLEEP = "the machine cannot be suspended"
NO_IOEVENTFD = (
    "a console's driver spins until its message is taken, so a kick is served before the guest's next instruction, "
    "never by an eventfd; setting it is an error that says so"
)
NO_HINT = "the bridge has no capability that asks firmware for more room than its devices take"
HOLE = "how firmware laid out the address space is not an object's property here"
#: (device, property) -> why QEMU's is not there
LEFT_OUT = {
    ("virtio-serial-pci", "ioeventfd"): NO_IOEVENTFD,
    ("virtio-serial-pci-transitional", "ioeventfd"): NO_IOEVENTFD,
    ("virtio-serial-pci-non-transitional", "ioeventfd"): NO_IOEVENTFD,
    ("pci-bridge", "io-reserve"): NO_HINT,
    ("pci-bridge", "mem-reserve"): NO_HINT,
    ("pci-bridge", "pref32-reserve"): NO_HINT,
    ("pci-bridge", "pref64-reserve"): NO_HINT,
    ("PIIX4_PM", "smb_io_base"): "there is no SMBus",
    ("PIIX4_PM", "x-not-migrate-acpi-index"): "there is no migration",
    ("i440FX-pcihost", "pci-hole-start"): HOLE,
    ("i440FX-pcihost", "pci-hole-end"): HOLE,
    ("i440FX-pcihost", "pci-hole64-start"): HOLE,
    ("i440FX-pcihost", "pci-hole64-end"): HOLE,
    ("i8042", "ps2kbd"): "there is no keyboard",
    ("i8042", "ps2mouse"): "there is no mouse",
}
#: (device, property) -> why it is there and not as QEMU's
DIFFERENT = {
    (
        "pci-bridge",
        "shpc",
    ): "on in QEMU; only `off`: devices behind it come and go through ACPI, as on QEMU's pc",
    ("PIIX4_PM", "disable_s3"): f"0 in QEMU; {SLEEP}",
    ("PIIX4_PM", "disable_s4"): f"0 in QEMU; {SLEEP}",
    ("PIIX4_PM", "memory-hotplug-support"): "on in QEMU; memory is what it is at the start",
    ("mc146818rtc", "base_year"): "1980 in QEMU, whose pc boards set it to 0",
}
#: what there is to say of a property that is the same
REMARKS = {
    "physical_block_size": "0 means the logical block size; 512 in QEMU, which then refuses a larger logical one",
    "tx_queue_size": "sizes above 256 are taken with every netdev",
    "request-merging": "nothing merges here but the host's block layer, on or off",
    "x-disable-pcie": "there is no PCI Express bus, so either choice is carried out",
}


class Row(NamedTuple):
    """A line of a table.

    :ivar compared: ``same``, ``different: WHY``, ``left out: WHY`` or ``ours``
    """

    name: str
    type: str
    default: str
    compared: str


def rows_of(table: TypeTable, device: str) -> Iterator[Row]:
    """The properties of one type, sorted."""
    cls = table.types[device].cls
    assert cls is not None
    instance = cls()
    declared = instance.all_properties()
    for found in sorted(settable(instance), key=lambda found: found.name):
        default = "" if found.default is None else json.dumps(found.default)
        kind = declared[found.name].kind if found.name in declared else None
        yield Row(found.name, found.type, default, compare(device, found.name, kind))
    for (kind_name, name), why in LEFT_OUT.items():
        if kind_name == device:
            yield Row(name, "", "", f"left out: {why}")


#: what a type with fixed register interfaces does not have
CHOICES = {"disable-legacy", "disable-modern"}
#: properties that QEMU does not have
OURS = {
    "iothread": ("virtio-net",),
    "iothread-vq-mapping": ("virtio-blk", "virtio-net"),
    "console-size": ("virtio-serial",),
    "x-bus-master-workaround": ("virtio-", "vhost-"),
    "in_order": ("virtio-", "vhost-"),
    "notification-data": ("virtio-", "vhost-"),
}


def compare(device: str, name: str, kind: kinds.Kind | None) -> str:
    """The last column."""
    if any(device.startswith(family) for family in OURS.get(name, ())):
        return "ours"
    if (device, name) in DIFFERENT:
        return f"different: {DIFFERENT[device, name]}"
    if isinstance(kind, kinds.Only):
        words = " or ".join(f"`{kind.format(value)}`" for value in kind.values if value is not None)
        return f"same; only {words}: {kind.why}" if words else f"same; cannot be set: {kind.why}"
    return f"same; {REMARKS[name]}" if name in REMARKS else "same"


INTRODUCTION = """# Properties of the devices that QEMU 7.2 has, too

Made by `python tests/parts/property_table.py`; a test holds it against the code, another against an installed
`qemu-system-x86_64 -device NAME,help`: every property of QEMU's stands here, and what is called *same* has QEMU's type and
default. Types are QEMU's words. No default: there is none.

*Only X*: the property is there, and any value but X is refused with the reason. What is *ours* is not in QEMU; `in_order`
is what later versions of it call it.

Left out everywhere: `child<memory-region>`, `child<irq>` and `link<irq>` properties, for memory regions and interrupt
lines are no objects here.

What `info qtree` shows is the value in force: `disable-legacy` is `on` or `off` once a device is realized, block sizes,
geometry, `num-queues` and `vectors` are numbers.

`info qtree` (and `qdevpy tree`) prints the same lines as QEMU for every device that both have, but for the properties below
that differ, and properties that are ours. It lacks chips that this board does not have (`hpet`, `i8257`, `isa-fdc`,
`isa-pcspk`, `piix3-ide`, `ps2-kbd`, `ps2-mouse`, `smbus-eeprom` and their bus, `vmmouse`, `vmport`) or that the accelerator
keeps to itself (`isa-i8259`, `isa-pit`, `kvmvapic`), and `fw_cfg_io` comes first on the main bus, not next to last.

Paths (`qom-list`): as QEMU's. `/machine/unattached/device[N]` counts vCPUs first and then the chips that there are, so the
numbers of chips are smaller than QEMU's. Serial ports of `-serial` are devices like others, not the board's.

Other names: `virtio-blk`, `virtio-net` and `virtio-serial` stand for their `-pci` types. `global:` (QEMU: -global) takes the
names of types and of what they derive from: `virtio-blk-pci`, `virtio-blk-pci-base`, `virtio-pci`, `pci-device`,
`virtio-blk-device`, `virtio-device`.

Older machines (`machine: pc-i440fx-7.1` down to `pc-i440fx-2.5`) have the defaults that these devices had in that version of
QEMU. What else a version changed there (CPU models, ACPI tables, migration) is as in 7.2.
"""


def table_lines() -> Iterator[str]:
    """The document."""
    table = TypeTable(load_plugins())
    yield from INTRODUCTION.splitlines()
    for title, names in (("Devices", DEVICES), ("Chips of the board", CHIPS)):
        yield ""
        yield f"## {title}"
        for device in names:
            if device not in table.types:
                continue
            yield ""
            yield f"### {device}"
            rows = list(rows_of(table, device))
            yield ""
            if not rows:
                yield "No properties."
                continue
            plain = device.removesuffix("-transitional").removesuffix("-non")
            if plain != device and {row.name for row in rows_of(table, plain)} - {row.name for row in rows} == CHOICES:
                yield f"As `{plain}`, without `disable-legacy` and `disable-modern`."
                continue
            yield "| property | type | default | QEMU 7.2 |"
            yield "|---|---|---|---|"
            for row in rows:
                default = f"`{row.default}`" if row.default else ""
                kind = f"`{row.type}`" if row.type else ""
                yield f"| `{row.name}` | {kind} | {default} | {row.compared} |"


if __name__ == "__main__":
    print("\n".join(table_lines()))
