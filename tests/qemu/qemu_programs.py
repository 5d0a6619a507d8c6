# SPDX-License-Identifier: Apache-2.0
"""Which of QEMU's qtest programs are run against us, and what of them is not, with the reason.

Programs that are not here test what we do not have: other machines (q35-test, lpc-ich9...), other devices (ide-test,
fdc-test, usb-hcd-*-test, am53c974-test, display-vga-test, intel-hda-test, vmgenid-test...), migration-test, and
test-x86-cpuid-compat, whose subject is QEMU's table of processor models.
"""

from __future__ import annotations

#: everything below the virtio devices of machine pc that qos-test has for us: tests of each node
QOS_ROOT = "/x86_64/pc/i440FX-pcihost/pci-bus-pc/pci-bus"
QOS_TESTS = {
    "virtio-blk-pci/virtio-blk-pci-tests": ("msix", "idx", "nxvirtq", "hotplug"),
    "virtio-blk-pci/virtio-blk/virtio-blk-tests": ("indirect", "config", "basic", "resize"),
    "virtio-net-pci/virtio-net-pci-tests": ("hotplug",),
    "virtio-net-pci/virtio-net/virtio-net-tests": (
        *("basic", "rx_stop_cont", "announce-self"),
        *("large_tx/uint_max", "large_tx/net_bufsize"),
    ),
    "virtio-serial-pci/pci-device/pci-device-tests": ("nop",),
    "virtio-serial-pci/virtio/virtio-tests": ("nop",),
    "virtio-serial-pci/virtio-serial/virtio-serial-tests": ("console-nop", "serialport-nop", "hotplug"),
}

#: program -> test -> why it is not run
PROGRAMS: dict[str, dict[str, str]] = {
    "boot-order-test": {},
    "device-introspect-test": {},
    "drive_del-test": {
        "/x86_64/drive_del/drive_del_device_del": "needs virtio-scsi-pci",
        "/x86_64/device_del/empty": "needs virtio-scsi-pci",
    },
    "fw_cfg-test": {},
    "i440fx-test": {},
    "machine-none-test": {},
    "pvpanic-test": {},
    "qmp-cmd-test": {},
    "qmp-test": {},
    "qom-test": {},
    "readconfig-test": {},
    "rtc-test": {},
    "test-hmp": {},
}

#: program -> why none of its tests is run
NOT_RUN = {
    "boot-serial-test": "has tests of isapc and q35 for x86_64, none of pc",
    "cdrom-test": "needs IDE, and genisoimage",
    "cpu-plug-test": "needs CPUs that are plugged while the machine runs",
    "device-plug-test": "needs virtio-mouse-pci",
    "migration-test": "there is no migration",
    "numa-test": "there is one NUMA node",
    "test-x86-cpuid-compat": "reads processor models off QEMU's table; here the processor is the host's",
}


def qos_tests() -> list[str]:
    """Full paths of the tests of qos-test."""
    return [f"{QOS_ROOT}/{node}/{test}" for node, tests in QOS_TESTS.items() for test in tests]
