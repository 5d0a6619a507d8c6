# SPDX-License-Identifier: Apache-2.0
"""The demo machine on KVM: its guest's own checks over each transport, with ioeventfd on and off.

The guest polls its rings and takes no interrupts, so these are tests of rule 10 as well.
"""

import re
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.needs_host("kvm"),
]

TRANSPORTS = {
    "modern": ("disable-legacy=on", "modern"),
    "legacy": ("disable-modern=on", "legacy"),
    "transitional, modern driver": ("disable-legacy=off", "modern"),
    "transitional, legacy driver": ("disable-legacy=off", "legacy"),
}
DEVICES = ("virtio-serial-pci", "virtio-blk-pci", "virtio-net-pci")


def boot_demo(*options):
    """Boot the packaged definition; what it printed, its exit status."""
    command = [sys.executable, "-m", "qdevpy", "-v", "boot", "demo", *options]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


def kicks(report, device):
    """Kicks of a device by ioeventfd, and synchronous ones, as the host counted them."""
    found = re.search(rf"^{device}: .*kicks: (\d+) by ioeventfd, (\d+) synchronous", report, re.MULTILINE)
    assert found, report
    return int(found[1]), int(found[2])


@pytest.mark.parametrize("ioeventfd", ["on", "off"])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_demo_passes_its_checks_by_polling(transport, ioeventfd):
    offered, used = TRANSPORTS[transport]
    settings = [f"global.{device}.{offered}" for device in DEVICES]
    settings += [f"global.{device}.ioeventfd={ioeventfd}" for device in DEVICES[1:]]

    run = boot_demo(*(f"--set={setting}" for setting in settings), "--append", f"transport={used}")

    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"^demo: \d+ checks passed$", run.stdout, re.MULTILINE)
    assert run.stdout.count(f", {used}, ") == 4
    for device in ("disk0", "nic0", "nic1"):
        by_ioeventfd, synchronous = kicks(run.stderr, device)
        # a kick by hand at the assignment of a queue's ioeventfd counts as synchronous: one a queue
        assert by_ioeventfd > 0 if ioeventfd == "on" else by_ioeventfd == 0
        assert synchronous <= 2 if ioeventfd == "on" else synchronous > 60


@pytest.mark.parametrize("words", ["ring=packed", "ring=packed indirect=on", "ring=packed event-idx=off", "indirect=on"])
def test_demo_passes_its_checks_with_rings_of_every_form(words):
    run = boot_demo(*(f"--set=global.{device}.packed=on" for device in DEVICES), "--append", words)

    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"^demo: \d+ checks passed$", run.stdout, re.MULTILINE)
    # 6: RING_PACKED is 34, INDIRECT_DESC 28
    used = [int(features, 16) for features in re.findall(r"uses (0x[0-9a-f]+)", run.stdout)]
    assert [bool(features >> 34 & 1) for features in used] == ["packed" in words] * 4
    assert [bool(features >> 28 & 1) for features in used] == ["indirect" in words] * 4


def test_demo_that_wants_packed_rings_of_devices_without_fails():
    run = boot_demo("--append", "ring=packed")

    assert run.returncode == 3


def test_demo_console_kicks_are_served_before_the_next_instruction():
    run = boot_demo()

    assert re.search(r"ok: console: synchronous, used index advanced at once (\d+) of \1$", run.stdout, re.MULTILINE), run.stdout
    by_ioeventfd, synchronous = kicks(run.stderr, "vser0")
    assert by_ioeventfd == 0
    assert synchronous > 16


@pytest.mark.parametrize(
    ("options", "failure"),
    [
        (("--append", "disks=2"), "FAILED: disks found: 1"),
        (("--append", "serial=another"), "FAILED: disk 0: serial 'demo0'"),
        (("--set=drives.disk.readonly=on",), "FAILED: disk 0: is writable"),
    ],
)
def test_demo_with_a_wrong_expectation_ends_with_the_guests_status(options, failure):
    run = boot_demo(*options)

    assert run.returncode == 3
    assert failure in run.stdout
    assert re.search(r"^demo: FAILED: 1 of \d+ checks$", run.stdout, re.MULTILINE)


def test_demo_twice_at_a_time_does_not_disturb_the_other():
    both = [
        subprocess.Popen([sys.executable, "-m", "qdevpy", "boot"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=60)[0] for process in both]

    assert [process.returncode for process in both] == [0, 0], outputs


def test_demo_device_with_several_vcpus_passes_its_checks():
    run = boot_demo("--set=cpus=2")

    assert run.returncode == 0, run.stdout + run.stderr
