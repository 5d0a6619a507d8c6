# SPDX-License-Identifier: Apache-2.0
"""Older machine versions: the defaults of their time."""

import json
import shutil
import subprocess

import pytest

from qdevpy.definition.load import load_definition
from qdevpy.plugin.manager import load_plugins
from qdevpy.vm.build import build_machine
from qdevpy_machine.versions import CHANGES

DEVICES = """
accel: none
memory: 16M
cpus: 2
drives: {root: {scratch: 1M}}
devices:
  - virtio-blk-pci: {id: disk0, drive: root}
  - virtio-net-pci: {id: nic0}
  - virtio-serial-pci: {id: vser0}
"""


def build(version, more=""):
    registry = load_plugins()
    text = f"machine: pc-i440fx-{version}\n{DEVICES}{more}"
    return build_machine(load_definition("m.yaml", registry, text=text), registry)


def values(version, *wanted):
    with build(version) as machine:
        return [machine.find_device(each.split(".")[0]).get_property(each.split(".")[1]) for each in wanted]


@pytest.mark.parametrize(
    ("version", "wanted", "found"),
    [
        ("7.2", "disk0.queue_reset", True),
        ("7.1", "disk0.queue_reset", False),
        ("6.0", "nic0.vectors", 4),
        ("5.2", "nic0.vectors", 3),
        ("5.2", "disk0.num-queues", 2),
        ("5.1", "disk0.num-queues", 1),
        ("4.2", "disk0.queue-size", 128),
        ("3.1", "disk0.discard", False),
        ("2.11", "disk0.vectors", 2),
        ("2.7", "vser0.emergency-write", False),
        ("2.7", "nic0.page-per-vq", True),
        ("2.6", "disk0.disable-modern", True),
        ("2.5", "disk0.disable-legacy", "off"),
    ],
)
def test_version_has_the_defaults_of_its_time(version, wanted, found):
    assert values(version, wanted) == [found]


def test_users_choice_goes_before_the_versions_defaults():
    with build(
        "2.5", "  - virtio-net-pci: {id: nic1, disable-modern: off}\nglobal: {virtio-blk-pci.queue-size: 64}\n"
    ) as machine:
        assert machine.find_device("nic1").get_property("disable-modern") is False
        assert machine.find_device("disk0").get_property("queue-size") == 64


def test_type_that_leaves_no_choice_is_left_alone():
    with build("2.6", "  - virtio-net-pci-non-transitional: {id: nic1}\n") as machine:
        assert machine.find_device("nic1").common is not None


@pytest.mark.parametrize("version", ["7.2", *CHANGES])
def test_shared_properties_are_those_of_qemus_machine_of_that_version(version, tmp_path):
    """QEMU's effective values, asked over QMP."""
    qemu = shutil.which("qemu-system-x86_64")
    if qemu is None:
        pytest.skip("no qemu-system-x86_64")
    wanted = [
        *(f"disk0.{name}" for name in ("queue-size", "seg-max-adjust", "discard", "write-zeroes", "queue_reset", "vectors")),
        *(f"disk0.{name}" for name in ("num-queues", "report-discard-granularity", "x-enable-wce-if-config-wce", "page-per-vq")),
        *(f"disk0.{name}" for name in ("disable-modern", "disable-legacy")),
        *(f"nic0.{name}" for name in ("vectors", "disable-modern", "queue_reset")),
        *(f"vser0.{name}" for name in ("vectors", "emergency-write", "disable-legacy")),
    ]
    requests = [{"execute": "qmp_capabilities"}]
    for each in wanted:
        path, name = each.split(".")
        requests.append({"execute": "qom-get", "arguments": {"path": path, "property": name}})
    requests.append({"execute": "quit"})
    (tmp_path / "root.img").write_bytes(bytes(1 << 20))
    done = subprocess.run(
        [qemu, "-machine", f"pc-i440fx-{version}", "-accel", "tcg", "-S", "-display", "none", "-nodefaults", "-smp", "2",
         "-drive", f"if=none,id=root,format=raw,file={tmp_path}/root.img", "-device", "virtio-blk-pci,id=disk0,drive=root",
         "-device", "virtio-net-pci,id=nic0,romfile=", "-device", "virtio-serial-pci,id=vser0", "-qmp", "stdio"],
        input="\n".join(map(json.dumps, requests)), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    answers = [json.loads(line).get("return") for line in done.stdout.splitlines() if "return" in line]
    assert dict(zip(wanted, values(version, *wanted), strict=True)) == dict(zip(wanted, answers[1:], strict=False))


def test_firmware_is_told_of_a_disks_logical_geometry():
    from qdevpy_machine.boot_order import bios_geometry

    disk = "  - virtio-blk-pci: {id: disk1, drive: other, addr: 9, lcyls: 7, lheads: 8, lsecs: 9}\n"
    registry = load_plugins()
    text = f"machine: pc\n{DEVICES}{disk}".replace("{root: {scratch: 1M}}", "{root: {scratch: 1M}, other: {scratch: 1M}}")
    with build_machine(load_definition("m.yaml", registry, text=text), registry) as machine:
        assert bios_geometry(machine) == b"/pci@i0cf8/scsi@9/disk@0,0 7 8 9\0"
    with build("7.2") as machine:
        assert bios_geometry(machine) == b""
