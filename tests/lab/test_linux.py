# SPDX-License-Identifier: Apache-2.0
"""Debian's stock kernel, unmodified, on the packaged definition ``linux``: all three devices at work."""

import hashlib
import re

import lab_linux
import pytest
from conftest import MESSAGE, PAYLOAD

from qdevpy.virtio import defs

DEVICES = ("virtio-serial-pci", "virtio-blk-pci", "virtio-net-pci")

VARIANTS = {
    "two CPUs": (2, {}),
    "one CPU": (1, {}),
    "legacy only": (2, {f"global.{device}.disable-modern": "on" for device in DEVICES}),
    "modern only": (2, {f"global.{device}.disable-legacy": "on" for device in DEVICES}),
    "packed": (2, {f"global.{device}.packed": "on" for device in DEVICES}),
    "four queues on two threads": (
        4,
        {
            "objects.io0.type": "iothread",
            "objects.io1.type": "iothread",
            "devices.disk0.num-queues": "4",
            "devices.disk0.iothread-vq-mapping": '[{"iothread": "io0"}, {"iothread": "io1"}]',
        },
    ),
    "ioeventfd off": (2, {f"global.{device}.ioeventfd": "off" for device in DEVICES[1:]}),
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("variant", VARIANTS)
def test_stock_kernel_uses_disk_network_console_and_serial_port(boot_linux, stock_kernel, variant):
    cpus, settings = VARIANTS[variant]

    boot = boot_linux(cpus, **settings)

    assert boot.status == 0, boot.console
    assert f"lab: Linux {stock_kernel.version}, {cpus} cpus" in boot.console
    (features,) = re.findall(r"^lab: features (.*?)\r?$", boot.console, re.MULTILINE)
    packed = [negotiated[defs.F_RING_PACKED] for negotiated in features.split()]
    assert packed == ["1" if variant == "packed" else "0"] * len(DEVICES)
    for step in ("root", "files", "network", "serial"):
        assert f"lab: ok {step}" in boot.console, boot.console
    assert "lab: done" in boot.console
    kicks = re.findall(
        r"^(?:disk|nic)0: ioeventfd allowed; kicks: (\d+) by ioeventfd, (\d+) synchronous", boot.console, re.MULTILINE
    )
    assert len(kicks) == 2, boot.console
    for by_ioeventfd, synchronous in kicks:
        assert int(synchronous if variant == "ioeventfd off" else by_ioeventfd) > 10
        assert variant != "ioeventfd off" or int(by_ioeventfd) == 0
    assert boot.echoed == MESSAGE
    lab_linux.check_image(boot.image)
    written = lab_linux.read_from_image(boot.image, "/data/written")
    assert len(written) == 512 * 4096
    assert lab_linux.read_from_image(boot.image, "/data/written.sum").split()[0].decode() == hashlib.sha256(written).hexdigest()
    assert lab_linux.read_from_image(boot.image, "/data/download") == PAYLOAD


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_stock_kernel_with_two_cpus_reboots_and_finds_both_again(boot_linux):
    boot = boot_linux(2, init=lab_linux.REBOOTING_INIT)

    assert boot.status == 0, boot.console
    found = re.findall(r"^lab: boot (\d), (\d) cpus, clock (\S+)", boot.console, re.MULTILINE)
    assert found == [(str(number), "2", found[0][2]) for number in range(4)]
