# SPDX-License-Identifier: Apache-2.0
"""``info qtree`` of the demo machine, line for line against an installed QEMU, up to what docs/properties.md lists."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from qdevpy.definition.load import load_definition
from qdevpy.plugin.manager import load_plugins
from qdevpy.qdev.tree import format_tree
from qdevpy.vm.build import build_machine

ROOT = Path(__file__).resolve().parents[3]

DEMO = """
accel: none
memory: 64M
drives: {{disk: {{file: {disk}, format: raw}}}}
netdevs: {{left: {{type: hubport, hubid: 0}}, right: {{type: hubport, hubid: 0}}}}
chardevs: {{term: {{type: 'null'}}}}
devices:
  - virtio-serial-pci: {{id: vser0}}
  - virtconsole: {{bus: vser0.0, chardev: term}}
  - virtio-blk-pci: {{id: disk0, drive: disk, serial: demo0}}
  - virtio-net-pci: {{id: nic0, netdev: left}}
  - virtio-net-pci: {{id: nic1, netdev: right}}
  - isa-debug-exit: {{iobase: 0x501}}
"""
OPTIONS = (
    "-machine pc -accel tcg -S -display none -nodefaults -vga none -m 64 -netdev hubport,id=left,hubid=0 "
    "-netdev hubport,id=right,hubid=0 -drive if=none,id=disk,file={disk},format=raw -chardev null,id=term "
    "-device virtio-serial-pci,id=vser0 -device virtconsole,bus=vser0.0,chardev=term "
    "-device virtio-blk-pci,id=disk0,drive=disk,serial=demo0 -device virtio-net-pci,id=nic0,netdev=left "
    "-device virtio-net-pci,id=nic1,netdev=right -device isa-debug-exit,iobase=0x501 -qmp stdio"
)
#: lines of QEMU's that are not ours; docs/properties.md has the reasons
NOT_OURS = {
    "virtio-serial-pci": {"ioeventfd = true"},
    "PIIX4_PM": {
        "smb_io_base = 45312 (0xb100)",
        "disable_s3 = 0 (0x0)",
        "disable_s4 = 0 (0x0)",
        "memory-hotplug-support = true",
        "smm-enabled = true",
        "x-not-migrate-acpi-index = false",
        "bus: i2c",
        "type i2c-bus",
    },
}
#: and the other way round
RINGS = {"in_order = false", "notification-data = false"}
OURS_ALONE = {
    "PIIX4_PM": {"disable_s3 = 1 (0x1)", "disable_s4 = 1 (0x1)", "memory-hotplug-support = false", "smm-enabled = false"},
    "virtio-blk-device": RINGS,
    "virtio-net-device": RINGS,
    "virtio-serial-device": RINGS,
}
#: chips of QEMU's that this board does not have, or that the accelerator keeps to itself
NO_CHIPS = {
    "hpet", "i8257", "isa-fdc", "isa-i8259", "isa-pcspk", "isa-pit", "kvmvapic", "piix3-ide", "ps2-kbd", "ps2-mouse",
    "smbus-eeprom", "vmmouse", "vmport",
}  # fmt: skip


def blocks(lines):
    """``(device line, its own lines)`` of each device, in order; indentation within a device is kept."""
    found = [("bus", [])]
    for line in lines:
        if line.strip().startswith("dev: "):
            found.append((line.strip(), []))
        else:
            found[-1][1].append(line.strip())
    return found[1:]


def type_of(line):
    return line.removeprefix("dev: ").partition(",")[0]


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """The lines of QEMU's tree, and ours."""
    qemu = shutil.which("qemu-system-x86_64")
    if qemu is None:
        pytest.skip("no qemu-system-x86_64")
    disk = tmp_path_factory.mktemp("qtree") / "disk.img"
    disk.write_bytes(bytes(16 << 20))
    command = {"execute": "human-monitor-command", "arguments": {"command-line": "info qtree"}}
    requests = [{"execute": "qmp_capabilities"}, command, {"execute": "quit"}]
    done = subprocess.run(
        [qemu, *OPTIONS.format(disk=disk).split()],
        input="\n".join(map(json.dumps, requests)), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    answers = [json.loads(line).get("return") for line in done.stdout.splitlines() if "return" in line]
    registry = load_plugins()
    with build_machine(load_definition("demo.yaml", registry, text=DEMO.format(disk=disk)), registry) as machine:
        machine.reset()
        return answers[1].splitlines(), list(format_tree(machine.root_buses))


def test_devices_that_both_have_have_the_same_lines(trees):
    theirs, ours = ({(line, n): own for n, (line, own) in number(blocks(tree))} for tree in trees)
    for key, own in ours.items():
        kind = type_of(key[0])
        wanted = [line for line in theirs[key] if line not in NOT_OURS.get(kind, ())]
        assert [line for line in own if line not in OURS_ALONE.get(kind, ())] == wanted, key


def number(found):
    """Each device with how many of the same line came before it."""
    seen = {}
    for line, own in found:
        seen[line] = seen.get(line, -1) + 1
        yield seen[line], (line, own)


def test_only_known_chips_are_missing(trees):
    theirs, ours = ({type_of(line) for line, _ in blocks(tree)} for tree in trees)
    assert theirs - ours == NO_CHIPS
    assert ours <= theirs


def test_devices_come_in_qemus_order_and_place(trees):
    def places(tree):
        lines = [line for line in tree if line.strip().startswith(("dev: ", "bus: "))]
        return [line for line in lines if type_of(line.strip()) not in NO_CHIPS and "fw_cfg" not in line]

    theirs, ours = map(places, trees)
    not_ours = {"bus: i2c", "bus: ide.0", "bus: ide.1", "bus: floppy-bus.0"}
    assert ours == [line for line in theirs if line.strip() not in not_ours]


def test_document_lists_the_missing_chips():
    text = (ROOT / "docs" / "properties.md").read_text()
    assert [chip for chip in sorted(NO_CHIPS) if f"`{chip}`" not in text] == []
