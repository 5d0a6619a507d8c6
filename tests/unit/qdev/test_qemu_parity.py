# SPDX-License-Identifier: Apache-2.0
"""docs/properties.md against the code, and against an installed QEMU; help texts and ``info qtree`` against QEMU's."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from property_table import CHIPS, DEVICES, rows_of, table_lines

from qdevpy.plugin.manager import load_plugins
from qdevpy.qdev.help import device_help
from qdevpy.qdev.type_table import TypeTable

ROOT = Path(__file__).resolve().parents[3]
LINE = re.compile(r"  (?P<name>\S.*?)=<(?P<type>.*)>(?: +- .*?(?:\(default: (?P<default>.*)\))?)?")
#: QEMU's objects that are none here
NOT_OBJECTS = {"child<memory-region>", "child<irq>", "link<irq>"}


@pytest.fixture(scope="module")
def qemu():
    found = shutil.which("qemu-system-x86_64")
    if found is None:
        pytest.skip("no qemu-system-x86_64")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    if " 7.2." not in version:
        pytest.skip(f"QEMU 7.2 is wanted, this is {version.splitlines()[0]}")
    return found


@pytest.fixture(scope="module")
def table():
    return TypeTable(load_plugins())


def help_of(qemu, device):
    done = subprocess.run([qemu, "-device", f"{device},help"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_document_is_up_to_date():
    written = (ROOT / "docs" / "properties.md").read_text().splitlines()
    assert written == list(table_lines()), "run: python tests/parts/property_table.py > docs/properties.md"


@pytest.mark.parametrize("device", [*DEVICES, *CHIPS])
def test_every_property_of_qemus_is_the_same_or_has_a_reason(qemu, table, device):
    if device not in table.types:
        pytest.skip(f"there is no {device}")
    theirs = {}
    for line in help_of(qemu, device)[1:]:
        found = LINE.fullmatch(line)
        assert found, line
        if found["type"] not in NOT_OBJECTS:
            theirs[found["name"]] = (found["type"], found["default"] or "")
    ours = {row.name: row for row in rows_of(table, device)}
    assert theirs.keys() - ours.keys() == set()
    for row in ours.values():
        match row.compared.split(":")[0].split(";")[0]:
            case "same":
                assert theirs[row.name] == (row.type, row.default), row.name
            case "different":
                assert theirs[row.name] != (row.type, row.default), row.name
            case "left out":
                assert row.name in theirs
            case "ours":
                assert row.name not in theirs
            case other:
                pytest.fail(f"{row.name}: {other}")


@pytest.mark.parametrize("device", ["virtio-blk", "virtio-net-pci", "virtconsole", "isa-serial", "isa-debug-exit", "pvpanic"])
def test_help_of_a_device_is_qemus_text(qemu, device):
    ours_alone = (
        "  in_order=",
        "  iothread=<link",
        "  iothread-vq-",
        "  notification-data=",
        "  x-bus-master-workaround=",
    )
    ours = device_help(load_plugins(), f"{device},help")
    theirs = [line for line in help_of(qemu, device) if "<memory-region>" not in line]
    assert [line for line in ours if line in theirs or not line.startswith(ours_alone)] == theirs


def test_list_of_devices_has_qemus_lines(qemu):
    theirs = subprocess.run([qemu, "-device", "help"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line for line in device_help(load_plugins(), "help") if line not in theirs] == []
