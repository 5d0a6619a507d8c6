# SPDX-License-Identifier: Apache-2.0
"""A stock Linux guest drives the devices of ``examples/``: edu from user space, and ``/dev/hwrng``."""

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def guest(boot_linux_module):
    """Both devices; the user-space driver is in the current folder."""
    return boot_linux_module(
        devices=[{"edu": {"id": "edu0", "addr": 6}}, {"virtio-rng-pci": {"id": "rng0", "addr": 7}}],
        modules=["uio_pci_generic", "virtio_rng"],
        files={"bin/edu_guest": Path("edu_guest").read_bytes()},
    )


def test_edu_is_driven_from_user_space(guest):
    guest.check("echo 1234 11e8 >/sys/bus/pci/drivers/uio_pci_generic/new_id")
    guest.check("for try in $(seq 100); do [ -c /dev/uio0 ] && exit; usleep 100000; done; exit 1")
    said = guest.check("edu_guest /sys/bus/pci/devices/0000:00:06.0 /dev/uio0")
    assert [line for line in said.splitlines() if "hot: ok" in line] == [
        f"hot: ok {step}" for step in ("registers", "interrupts", "dma", "message")
    ]
    # the kernel's own complaint shows that the message came to a processor: no driver of a stock kernel takes edu's MSI
    assert "No irq handler for vector" in guest.check("dmesg")


def test_hwrng_gives_random_numbers(guest):
    assert guest.check("cat /sys/class/misc/hw_random/rng_current") == "virtio_rng.0\n"
    first, second = (guest.check("dd if=/dev/hwrng bs=64 count=16 2>/dev/null | sha256sum") for _ in range(2))
    assert first != second
    guest.check("dd if=/dev/hwrng bs=64 count=16 2>/dev/null >/tmp/random")
    assert len(guest.read_file("/tmp/random")) >= 64
