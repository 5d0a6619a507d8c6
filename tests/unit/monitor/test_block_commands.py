# SPDX-License-Identifier: Apache-2.0
"""Disks over QMP."""

from __future__ import annotations

from pathlib import Path

import pytest
from monitor_rig import MakeQmp

from qdevpy.vm.backends import users

DISK = """
drives: {{d0: {{file: {image}}}, d1: {{driver: null-co, size: 1M}}, d2: {{driver: none}}}}
devices: [{{virtio-blk-pci: {{id: dev0, drive: d0}}}}]
"""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(1 << 20))
    return path


def test_query_block_describes_drives_and_who_has_them(qmp: MakeQmp, image: Path) -> None:
    first, second, empty = qmp(DISK.format(image=image))("query-block")

    assert (first["device"], first["qdev"], first["io-status"]) == ("d0", "/machine/peripheral/dev0/virtio-backend", "ok")
    assert not first["removable"]
    assert first["inserted"]["file"] == str(image)
    assert first["inserted"]["image"]["virtual-size"] == 1 << 20
    assert first["inserted"]["drv"] == "raw"
    assert (second["device"], second["removable"], "qdev" in second) == ("d1", True, False)
    assert empty == {"device": "d2", "type": "unknown", "removable": True, "locked": False}


def test_query_named_block_nodes_has_format_and_file(qmp: MakeQmp, image: Path) -> None:
    nodes = qmp(DISK.format(image=image))("query-named-block-nodes")
    assert [(node["node-name"], node["drv"]) for node in nodes] == [
        ("#block.d1", "null-co"),
        ("#block.d0", "raw"),
        ("#block.d0.file", "file"),
    ]


def test_query_blockstats_counts_of_a_device(qmp: MakeQmp, image: Path) -> None:
    call = qmp(DISK.format(image=image))
    disk = call.machine.find_device("dev0").device
    disk._disk.counters[0].requests = 3
    disk._disk.counters[0].bytes = 1024
    disk._disk.counters[0].errors = 1
    disk._disk.counters[0].merged = 5

    stats = {entry["device"]: entry["stats"] for entry in call("query-blockstats")}

    assert (stats["d0"]["rd_operations"], stats["d0"]["failed_rd_operations"], stats["d0"]["rd_bytes"]) == (2, 1, 1024)
    assert (stats["d0"]["rd_merged"], stats["d0"]["wr_merged"]) == (5, 0)
    assert stats["d1"]["rd_operations"] == 0


def test_block_resize_makes_the_image_longer_and_tells_the_device(qmp: MakeQmp, image: Path) -> None:
    call = qmp(DISK.format(image=image))

    assert call("block_resize", device="d0", size=2 << 20) == {}
    call("block_resize", node_name="#block.d0", size=3 << 20)

    assert image.stat().st_size == 3 << 20
    disk = call.machine.find_device("dev0").device
    assert int.from_bytes(disk.get_config()[:8], "little") == (3 << 20) // 512


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "d1", "size": 512}, "Image format driver does not support resize"),
        ({"device": "d2", "size": 512}, "Device 'd2' has no medium"),
        ({"device": "nope", "size": 512}, "Cannot find device='nope' nor node-name=''"),
        ({"node_name": "nope", "size": 512}, "Cannot find device='' nor node-name='nope'"),
        ({"size": 512}, "Cannot find device='' nor node-name=''"),
        ({"device": "d0", "size": -1}, "Parameter 'size' expects a >0 size"),
    ],
)
def test_block_resize_that_cannot_be_says_what_qemu_says(
    qmp: MakeQmp, image: Path, arguments: dict[str, object], message: str
) -> None:
    assert qmp(DISK.format(image=image)).error("block_resize", **arguments) == message


def test_blockdev_add_makes_nodes_that_devices_can_have(qmp: MakeQmp, image: Path) -> None:
    call = qmp()
    call("blockdev-add", driver="file", node_name="f0", filename=str(image))
    call("blockdev-add", driver="raw", node_name="r0", file="f0", offset=512)
    call(
        "blockdev-add",
        driver="raw",
        node_name="r1",
        file={"driver": "null-co", "read-zeroes": True, "node-name": "n1", "size": 4096},
    )

    names = [node["node-name"] for node in call("query-named-block-nodes")]
    assert names == ["r1", "n1", "r0", "f0"]
    sizes = {node["node-name"]: node["image"]["virtual-size"] for node in call("query-named-block-nodes")}
    assert (sizes["r0"], sizes["f0"], sizes["r1"]) == ((1 << 20) - 512, 1 << 20, 4096)
    assert call("query-block") == []
    assert call.error("blockdev-del", node_name="f0") == "Block device f0 is in use"
    call("blockdev-del", node_name="r0")
    call("blockdev-del", node_name="f0")
    assert [node["node-name"] for node in call("query-named-block-nodes")] == ["r1", "n1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"driver": "null-co", "node-name": "d0"}, "node-name=d0 is conflicting with a device id"),
        ({"driver": "null-co", "node-name": "#block.d0"}, "Invalid node-name: '#block.d0'"),
        ({"driver": "null-co"}, "'node-name' must be specified for the root node"),
        ({"driver": "raw", "node-name": "r"}, "Parameter 'file' is missing"),
        ({"driver": "raw", "node-name": "r", "file": "no"}, "Cannot find device='no' nor node-name='no'"),
        ({"driver": "xx", "node-name": "r"}, "Parameter 'driver' does not accept value 'xx'"),
        ({"driver": "null-co", "node-name": "r 3"}, "Invalid node-name: 'r 3'"),
        ({"driver": "null-co", "node-name": "r", "filename": "x"}, "Parameter 'filename' is unexpected"),
        ({"driver": "null-co", "node-name": "r", "detect-zeroes": "on"}, "Parameter 'detect-zeroes' expects 'off'"),
        ({"driver": "file", "node-name": "r", "filename": "/none"}, "No such file or directory"),
    ],
)
def test_blockdev_add_of_what_cannot_be_leaves_nothing(
    qmp: MakeQmp, image: Path, arguments: dict[str, object], message: str
) -> None:
    call = qmp(DISK.format(image=image))
    before = call("query-named-block-nodes")
    found = call.error("blockdev-add", **{key.replace("-", "_"): value for key, value in arguments.items()})
    assert message in found
    assert call("query-named-block-nodes") == before


def test_duplicate_node_is_refused(qmp: MakeQmp) -> None:
    call = qmp()
    call("blockdev-add", driver="null-co", node_name="n0")
    assert call.error("blockdev-add", driver="null-co", node_name="n0") == "Duplicate nodes with node-name='n0'"
    assert call.error("blockdev-del", node_name="n1") == "Failed to find node with node-name='n1'"


def test_drive_goes_with_its_device_and_a_node_stays(qmp: MakeQmp, image: Path) -> None:
    call = qmp(
        f"""
drives: {{d0: {{file: {image}}}, n0: {{driver: null-co, node-name: n0}}}}
devices: [virtio-blk-pci: {{id: a, drive: d0}}, virtio-blk-pci: {{id: b, drive: n0}}]
"""
    )
    assert [entry["device"] for entry in call("query-block")] == ["d0", ""]
    assert call.error("blockdev-del", node_name="n0") == "Node n0 is in use"
    for name in "ab":
        device = call.machine.find_device(name)
        assert device is not None
        with call.machine.lock:
            device.parent_bus.unplug(device)

    assert [node["node-name"] for node in call("query-named-block-nodes")] == ["n0"]
    assert list(users(call.machine, call.machine.backend("drives", "n0"))) == []
